"""Tolerances that both engines share, so that they agree on what rounding is."""

#: A task with no more than this share of its work left is done: the rest is rounding.
DONE = 1e-12
