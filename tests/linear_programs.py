"""Linear programs of tests: solved by HiGHS, refined, and proven by weak duality.

A solver that works in floating point accepts violations (1e-10 at the tightest), and nearly
parallel constraints magnify them: on devices whose rates lie almost on a line, HiGHS alone was up
to 2e-7 off and said "optimal". So its answer is only the beginning. What it leaves open of the
constraints and of the reduced costs is scaled up and solved for in turn (iterative refinement:
Gleixner, Steffy, Wolter, Iterative refinement for linear programming, INFORMS Journal on Computing
28(3), 2016), until a point that keeps the constraints costs no more than a bound from the dual.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array, eye_array, hstack

#: HiGHS takes no tighter ones.
TIGHT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
#: How far apart the two bounds of an accepted answer may be, as a share of the cost's terms.
PROVEN = 1e-12
_ROUNDS = 8
#: How the solver is asked, one way after the other: most that a correction is scaled up, method,
#: presolve. The first decides 99 % of the programs, the last few are needed once in thousands.
_WAYS = [
    (scale, method, presolve)
    for scale in (1e3, 1e9)
    for presolve in (True, False)
    for method in ("highs", "highs-ipm")
]


def least_cost(cost: Any, a_ub: Any, b_ub: Any, bounds: Any) -> float | None:
    """Return the least ``cost @ x`` with ``a_ub @ x <= b_ub``, or None where it cannot be proven.

    `bounds` are (least, most) of each variable, the first finite, the second None without a limit.
    None happens where HiGHS answers "unknown", as it does now and then on programs of widely
    spread coefficients. That says something about the solver, not about the plan.
    """
    program = _with_slacks(cost, a_ub, b_ub, bounds)
    for way in _WAYS:
        answer = _refined(program, *way)
        if answer is not None:
            return answer
    return None


def _with_slacks(cost: Any, a_ub: Any, b_ub: Any, bounds: Any) -> tuple[Any, ...]:
    """Return the program with equations alone: cost, table, right side, lower and upper bounds."""
    table = csr_array(a_ub)
    rows = table.shape[0]
    c = np.append(np.asarray(cost, float), np.zeros(rows))
    lower = np.append([low for low, _ in bounds], np.zeros(rows))
    upper = np.append([np.inf if up is None else up for _, up in bounds], np.full(rows, np.inf))
    return c, hstack([table, eye_array(rows)]).tocsr(), np.asarray(b_ub, float), lower, upper


def _refined(program: tuple[Any, ...], scale: float, method: str, presolve: bool) -> float | None:
    c, table, b, lower, upper = program
    x, y = np.zeros(c.size), np.zeros(b.size)
    stretch = press = 1.0
    for number in range(_ROUNDS):
        answer = linprog(
            press * (c - table.T @ y),
            A_eq=table,
            b_eq=stretch * (b - table @ x),
            bounds=np.column_stack([stretch * (lower - x), stretch * (upper - x)]),
            method=method,
            options={**TIGHT, "presolve": presolve},
        )
        if answer.status != 0:
            # "Unknown", or a correction too delicate. An infeasible program would be a fault.
            assert number > 0 or answer.status == 4, answer.message
            return None
        x = np.clip(x + answer.x / stretch, lower, upper)
        y = y + answer.eqlin.marginals / press
        left, reduced = b - table @ x, c - table.T @ y
        missed, unbounded = float(np.abs(left).max()), np.isinf(upper)
        # What is left open of the constraints is paid for at their prices.
        reached = float(c @ x + np.abs(left) @ np.abs(y))
        proven = _dual_bound(reduced, b @ y, lower, upper, x)
        exact = missed <= PROVEN * (1.0 + np.abs(x).max())
        if exact and reached - proven <= PROVEN * (1.0 + np.abs(c) @ np.abs(x)):
            return proven
        stretch = 1.0 / max(missed, 1.0 / scale)
        press = 1.0 / max(float(-reduced[unbounded].min()), 1.0 / scale)
    return None


def _dual_bound(reduced: Any, priced: float, lower: Any, upper: Any, x: Any) -> float:
    """Return what no point can undercut (weak duality), by the reduced costs of given prices."""
    # Without a limit a variable stays below ten times the largest: rounding would else prove
    # nothing where a reduced cost is -1e-17 instead of 0.
    most = np.where(np.isinf(upper), 10.0 * (1.0 + np.abs(x).max()), upper)
    return float(priced + np.minimum(reduced * lower, reduced * most).sum())
