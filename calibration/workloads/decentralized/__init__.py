"""Decentralised distillation, its references and its study."""
