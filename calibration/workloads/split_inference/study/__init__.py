"""Splitting measured against not splitting: rounds, report, figures, simulation."""
