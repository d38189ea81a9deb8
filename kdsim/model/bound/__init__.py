"""The proven bound: the exact optimum, in work and in time, its schedule and what binds it."""
