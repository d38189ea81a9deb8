"""Linear programs of tests, solved by HiGHS; its simplex and its interior point in turn."""

from __future__ import annotations

from typing import Any

from scipy.optimize import linprog


def least_cost(cost: Any, **program: Any) -> float | None:
    """Return the least cost, or None where no method of the solver decides a program.

    HiGHS answers "unknown" now and then on programs of widely spread coefficients at tight
    tolerances. That says something about the solver, not about the plan.
    """
    for method in ("highs", "highs-ds", "highs-ipm"):
        answer = linprog(cost, method=method, **program)
        if answer.status == 0:
            return float(answer.fun)
        assert answer.status == 4, answer.message  # infeasible or unbounded would be a fault
    return None
