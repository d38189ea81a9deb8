"""The mathematics: curves, the plan, the exact optimum, decision rules, random streams."""
