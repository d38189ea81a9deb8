"""Answers to an analyst's questions, computed from sweeps that are designed here."""
