"""By what measure answers are given: each threshold stands here once, and in what is printed."""

from __future__ import annotations

#: An extra core is worth buying if it saves at least this share of the makespan.
WORTH = 0.05
#: Policies, and links, within this share of each other are called equal.
EQUAL = 0.01
#: How far a field is moved to see what it does to the answer.
NUDGE = 0.1
