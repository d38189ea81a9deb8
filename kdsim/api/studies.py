"""The verbs on a whole study: compare, sweep, learning_curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kdsim.policies.permission import refuse_unnamed
from kdsim.scenario.load import load_scenario
from kdsim.sweeps.workers.executors import TASK_TIMEOUT_S

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pandas as pd

    from kdsim.engines.compare import Progress
    from kdsim.policies.base import Policy
    from kdsim.results.comparison import Comparison
    from kdsim.results.learning import LearningCurves
    from kdsim.scenario.study import Scenario
    from kdsim.sweeps.ledger.store import Store


def compare(
    scenario: Scenario | str | Path,
    policies: Sequence[str | type[Policy]] | None = None,
    *,
    allow_policies: bool = False,
    replications: int | None = None,
    seed: int | None = None,
    curve_draws: int | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Comparison:
    """Compare policies by their makespans and by their distance from the proven optimum.

    Parameters
    ----------
    scenario : Scenario, str or Path
        A scenario, a bundled name or a path; every point of its sweep is compared.
    policies : sequence of str or Policy classes, optional
        The scenario's own by default.
    allow_policies : bool
        Whether policies of your own may run that only the scenario names.
    replications : int, optional
        Runs of each policy that draws at random, or of every policy under noise; the scenario's
        by default. Replication i of every policy meets the same noise.
    seed : int, optional
        Root of all randomness; the scenario's by default.
    curve_draws : int, optional
        Also play every policy in so many bootstrap draws of the device's curves, for
        `Comparison.curve_intervals` and `Comparison.faster`; see
        `kdsim.engines.curve_uncertainty.over_curve_draws`.
    progress : callable, optional
        Called with (runs done, runs in all); a draw of the curves is one more run of each policy.
    threads : int, optional
        Threads of the compiled engine; all cores by default.

    Returns
    -------
    Comparison

    Raises
    ------
    ScenarioError
        If a point of the sweep, `replications` or `seed` is not legal, two policies share a name,
        or the curves have fewer than `curve_draws` draws.
    UnknownPolicyError
        If a policy cannot be found, or is your own and neither named here nor allowed.
    PolicyError
        If a policy fails in a run.

    Examples
    --------
    >>> import kdsim
    >>> result = kdsim.compare("paper-1to1", ["greedy", "optimal"])
    >>> len(result.rows)
    8
    """
    from kdsim.engines.compare import compare as run

    return run(
        _permitted(scenario, policies, allow=allow_policies),
        policies,
        replications=replications,
        seed=seed,
        curve_draws=curve_draws,
        progress=progress,
        threads=threads,
    )


def sweep(
    scenario: Scenario | str | Path,
    store: Store | str | Path | None = None,
    executor: Executor | None = None,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    policies: Sequence[str] | None = None,
    allow_policies: bool = False,
    replications: int | None = None,
    curve_draws: int | None = None,
    retry: bool = False,
    task_timeout_s: float = TASK_TIMEOUT_S,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Run a scenario's design, or what a store still lacks of it.

    Parameters
    ----------
    scenario : Scenario, str or Path
        A scenario, a bundled name or a path.
    store : Store, str or Path, optional
        Where results are kept as they complete; in memory by default. A store that exists is
        continued: of the same scenario it takes more points, policies and replications.
    executor : concurrent.futures.Executor, optional
        Where tasks run; by default in this process, on all its cores.
    workers : int, optional
        Run in this many worker processes instead, so that nothing a policy does can harm the
        sweep; 0 is the default.
    cluster : str, optional
        Run on the dask cluster with this scheduler address (or scheduler file) instead.
    policies : sequence of str, optional
        The scenario's own by default.
    allow_policies : bool
        Whether policies of your own may run that only the scenario or the store names.
    replications : int, optional
        The scenario's own by default.
    curve_draws : int, optional
        Also play every policy at every point of this call in so many bootstrap draws of the
        device's curves, in this process; the store does not keep them.
    retry : bool
        Also run again what failed before.
    task_timeout_s : float
        Seconds of running time after which a task in another process is given up, for a policy
        that hangs; while the sweep itself is stopped (Ctrl-Z) they do not pass.
    progress : callable, optional
        Called with (replications done, replications in all).

    Returns
    -------
    DataFrame
        One row per run of the store: the swept fields, `kdsim.results.comparison.SUMMARY_COLUMNS`,
        ``status`` (``done`` or ``failed``), ``error`` and ``run_id``; with `curve_draws` also
        `kdsim.results.curve_uncertainty.CURVE_COLUMNS`.

    Raises
    ------
    ScenarioError
        If the scenario is not legal, or its curves have fewer than `curve_draws` draws.
    UnknownPolicyError
        If a policy cannot be found, or is your own and neither named here nor allowed.
    StoreError
        If the store cannot be used, or belongs to another scenario.
    SweepError
        If no worker is left; what is done is kept.

    Examples
    --------
    >>> import kdsim
    >>> table = kdsim.sweep("paper-1to1", policies=["greedy", "optimal"])
    >>> table.loc[0, ["device.cores", "policy", "n", "status"]].astype(str).tolist()
    ['6', 'greedy', '1', 'done']
    """
    from kdsim.sweeps.driver import opened
    from kdsim.sweeps.driver import sweep as run

    loaded = _permitted(scenario, policies, allow=allow_policies)
    with opened(store) as ledger:
        # What earlier sweeps left pending runs as well.
        refuse_unnamed(ledger.pending_units(), policies, ledger.path, allow=allow_policies)
        return run(
            loaded,
            ledger,
            executor,
            workers=workers,
            cluster=cluster,
            policies=policies,
            replications=replications,
            curve_draws=curve_draws,
            retry=retry,
            task_timeout_s=task_timeout_s,
            progress=progress,
        )


def learning_curves(
    scenario: Scenario | str | Path,
    profiles: Sequence[str | Path],
    policies: Sequence[str | type[Policy]] | None = None,
    *,
    allow_policies: bool = False,
    replications: int | None = None,
    seed: int | None = None,
    profile_rate: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LearningCurves:
    """Replay real runs on a device: when it reaches which accuracy under which policy.

    Parameters
    ----------
    scenario : Scenario, str or Path
        The device and its extensions; the scenario's own workload and sweep are left aside.
    profiles : sequence of str or Path
        Cost profiles with accuracies, as the workloads write them.
    policies : sequence of str or Policy classes, optional
        The scenario's own by default.
    allow_policies : bool
        Whether policies of your own may run that only the scenario names.
    replications : int, optional
        Runs of a policy that draws at random, or of every policy under noise; the scenario's by
        default, but 100 at most.
    seed : int, optional
        Root of all randomness; the scenario's by default.
    profile_rate : float, optional
        Compute units per second of the host that recorded the profiles; by default the device's own
        curve at their core counts, that is, the host is taken for the device.
    progress : callable, optional
        Called with (runs done, runs in all).

    Returns
    -------
    LearningCurves

    Raises
    ------
    ScenarioError
        If an argument or a profile is not legal, or a profile has no accuracy.
    UnknownPolicyError
        If a policy cannot be found, or is your own and neither named here nor allowed.
    PolicyError
        If a policy fails in a run.
    """
    from kdsim.engines.learning import learning_curves as run

    return run(
        _permitted(scenario, policies, allow=allow_policies),
        profiles,
        policies,
        replications=replications,
        seed=seed,
        profile_rate=profile_rate,
        progress=progress,
    )


def _permitted(
    scenario: Scenario | str | Path, policies: Sequence[object] | None, *, allow: bool
) -> Scenario:
    """Load a scenario whose own policies are about to run, unless the caller names others."""
    loaded = load_scenario(scenario)
    if not policies:
        source = str(scenario) if isinstance(scenario, str | Path) else f"scenario {loaded.name!r}"
        refuse_unnamed(loaded.policies, (), source, allow=allow)
    return loaded
