"""The verbs on one scenario: simulate, simulate_many, minimal_makespan, check_policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kdsim.model.plan import Plan
from kdsim.scenario.load import load_scenario

if TYPE_CHECKING:
    from kdsim.engines.check_policy import PolicyReport
    from kdsim.model.bound.optimum import Optimum
    from kdsim.model.curves import FloatArray
    from kdsim.policies.base import PolicyLike
    from kdsim.results.run import Run
    from kdsim.scenario.study import Scenario

#: Seconds after which a call of a policy counts as one that never returns.
CALL_LIMIT_S = 10.0


def simulate(
    scenario: Scenario | str | Path,
    policy: PolicyLike = "optimal",
    *,
    seed: int | None = None,
    replication: int = 0,
) -> Run:
    """Simulate one run with the SimPy engine.

    Parameters
    ----------
    scenario : Scenario, str or Path
        A scenario, a bundled name or a path.
    policy : str, Policy or class
        A built-in name, ``"static:c"``, ``"module:Class"`` or a policy of your own.
    seed : int, optional
        Root of the run's randomness; the scenario's seed by default.
    replication : int
        Number of the run: the same (seed, replication) gives the same draws and the same noise
        in every engine and under every policy.

    Returns
    -------
    Run

    Raises
    ------
    ScenarioError
        If the scenario, `seed` or `replication` is not legal.
    PolicyError
        If the policy raises, answers nonsense or makes no progress.

    Examples
    --------
    >>> import kdsim
    >>> run = kdsim.simulate("paper-1to1", policy="comm-priority")
    >>> round(sum(s.duration for s in run.segments) - run.makespan, 9)
    0.0
    """
    from kdsim.engines.des import simulate as run

    return run(load_scenario(scenario), policy, seed=seed, replication=replication)


def simulate_many(
    scenario: Scenario | str | Path,
    policy: PolicyLike = "optimal",
    *,
    replications: int | None = None,
    seed: int | None = None,
    threads: int | None = None,
) -> FloatArray:
    """Simulate many replications of one scenario and policy.

    Parameters
    ----------
    scenario : Scenario, str or Path
        A scenario, a bundled name or a path.
    policy : str, Policy class
        Built-in policies run compiled, a policy of your own in the SimPy engine.
    replications : int, optional
        Number of runs; the scenario's by default.
    seed : int, optional
        Root of all randomness; the scenario's by default.
    threads : int, optional
        Threads of the compiled engine; all cores by default.

    Returns
    -------
    (replications,) float64 array
        Makespans in seconds; entry i is that of ``simulate(..., replication=i)``.

    Raises
    ------
    ScenarioError
        If the scenario, `replications` or `seed` is not legal.
    PolicyError
        If the policy fails in a run.

    Examples
    --------
    >>> import kdsim
    >>> ms = kdsim.simulate_many("paper-1to1", policy="random", replications=3, seed=0)
    >>> run = kdsim.simulate("paper-1to1", policy="random", seed=0, replication=2)
    >>> bool(abs(ms[2] / run.makespan - 1) < 1e-9)
    True
    """
    from kdsim.engines.batch import simulate_many as run

    return run(
        load_scenario(scenario), policy, replications=replications, seed=seed, threads=threads
    )


def minimal_makespan(scenario: Scenario | Plan | str | Path) -> Optimum:
    """Compute the least makespan of a scenario, exactly.

    Parameters
    ----------
    scenario : Scenario, Plan, str or Path
        A scenario (or a bundled name, or a path), or the plan of one. Noise is left aside: the
        planned work is what is solved.

    Returns
    -------
    Optimum

    Notes
    -----
    O(N), with `release` or a link O(N * c_total). Under `reallocation_cost` the result is a lower
    bound (``exact`` is False): the optimum of the same plan without the cost.

    Examples
    --------
    >>> import kdsim
    >>> opt = kdsim.minimal_makespan("paper-1to1")
    >>> opt.exact, len(opt.path)
    (True, 4)
    """
    from kdsim.model.bound.optimum import minimal_makespan as solve

    plan = scenario if isinstance(scenario, Plan) else load_scenario(scenario).plan()
    return solve(plan)


def check_policy(
    policy: PolicyLike,
    scenario: Scenario | str | Path | None = None,
    *,
    limit_s: float = CALL_LIMIT_S,
) -> PolicyReport:
    """Exercise a policy on many small devices and workloads and report what is wrong with it.

    Parameters
    ----------
    policy : str, Policy or class
        ``"module:Class"``, a class or an instance.
    scenario : Scenario, str or Path, optional
        One more case beside the built-in ones, e.g. the study it was written for.
    limit_s : float
        Seconds that one call of the policy may take. One that takes longer is reported with the
        state that it was asked in, and abandoned in its thread.

    Returns
    -------
    PolicyReport
        Problems found: an answer that is not legal in some state, an exception, no progress,
        results that change from run to run, a plan that was written to, a call that does not
        return.

    Examples
    --------
    >>> from kdsim import Decision, Policy
    >>> class TooMany(Policy):
    ...     name = "too-many"
    ...     def decide(self, state):
    ...         return Decision(state.total_cores + 1)
    >>> print(check_policy(TooMany).problems[0].partition(" (state")[0])
    policy too-many answered comm_cores = 2; legal are whole numbers 0..1
    """
    from kdsim.engines.check_policy import check_policy as run

    case = None if scenario is None else load_scenario(scenario)
    return run(policy, case, limit_s=limit_s)
