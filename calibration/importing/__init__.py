"""Traces made of other tools' timings: one module per format, each a parser of its own.

A parser turns a foreign file into its own plain nouns and refuses what it would have to guess;
``calibration.importing.into`` turns them into an ordinary device trace.
"""
