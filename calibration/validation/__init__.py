"""Predictions held against the live loop."""
