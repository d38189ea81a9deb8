"""Results of learning curves: accuracy against simulated time, as rows, a figure and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsim._types import Record
from kdsim.errors import ScenarioError
from kdsim.model.curves import FloatArray
from kdsim.results.intervals import Interval, mean_interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from kdsim.scenario.study import Scenario


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """One profile under one policy.

    Attributes
    ----------
    profile, policy : str
        Names.
    cycles : (E,) int array
        Cycles done when the accuracy was measured.
    accuracies : (E,) float array
        In [0, 1].
    seconds : (n, E) float array
        When replication 0..n-1 had done those cycles.
    bounds : (n, E) or (1, E) float array
        The earliest moment at which any schedule can have done them.
    varies : bool
        Whether replications differ.
    """

    profile: str
    policy: str
    cycles: Any
    accuracies: FloatArray
    seconds: FloatArray
    bounds: FloatArray
    varies: bool

    def at(self, mark: int) -> Interval:
        """Return the seconds until accuracy number `mark`, with their interval."""
        return mean_interval(self.seconds[:, mark], deterministic=not self.varies)

    def first(self, target: float) -> int | None:
        """Return the number of the first accuracy of at least `target`, None if there is none."""
        found = np.flatnonzero(self.accuracies >= target)
        return int(found[0]) if found.size else None


@dataclass(frozen=True)
class Traffic:
    """What a recorded run received, which is simulated, and sent, which is not.

    Attributes
    ----------
    profile : str
        Name.
    received_mb : float
        MB (10^6 bytes); in a profile of version 0.1, received or sent.
    sent_mb : float or None
        None if the profile does not say.
    """

    profile: str
    received_mb: float
    sent_mb: float | None


@dataclass(frozen=True, eq=False)
class LearningCurves:
    """Accuracy against simulated time: profiles under policies on one device.

    Attributes
    ----------
    scenario : Scenario
        Of the device.
    curves : list of LearningCurve
        Profile by profile, policies in the order asked for.
    bound_kind : str
        ``"optimum"`` or ``"lower bound"``.
    traffic : list of Traffic
        What the run of each profile received and sent.
    """

    scenario: Scenario
    curves: list[LearningCurve]
    bound_kind: str
    traffic: list[Traffic]

    @property
    def marks(self) -> tuple[str, ...]:
        """What must be said wherever these numbers stand, e.g. that a curve was extrapolated."""
        return self.scenario.marks()

    @property
    def common_accuracy(self) -> float:
        """The highest accuracy that every profile reaches."""
        return float(min(curve.accuracies.max() for curve in self.curves))

    @property
    def rows(self) -> list[Record]:
        """One row per profile, policy and measured accuracy; seconds with their 95 % interval."""
        return [_row(curve, mark) for curve in self.curves for mark in range(curve.accuracies.size)]

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a table."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def reached(self, target: float | None = None) -> list[Record]:
        """Return when each profile under each policy first has an accuracy of at least `target`.

        Accuracies are known at the ends of epochs only; nothing is interpolated between them.

        Parameters
        ----------
        target : float, optional
            In [0, 1]; `common_accuracy` by default.

        Returns
        -------
        list of dict
            As `rows`, one per curve, and ``late``: ``mean / bound - 1``. Where the target is
            not reached the cycle, the accuracy and all times are None.
        """
        target = self.common_accuracy if target is None else target
        if not 0.0 <= target <= 1.0:
            raise ScenarioError(f"must lie in [0, 1] (got {target})", field="target")
        found = []
        for curve in self.curves:
            mark = curve.first(target)
            if mark is None:
                empty = dict.fromkeys(_row(curve, 0))
                row = {**empty, "profile": curve.profile, "policy": curve.policy, "late": None}
            else:
                row = _row(curve, mark)
                row["late"] = row["mean"] / row["bound"] - 1.0 if row["bound"] > 0 else 0.0
            found.append({**row, "target": target})
        return found

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Axes | list[Axes]:
        """Draw the curves; see `kdsim.plots.learning`."""
        from kdsim import plots

        return plots.learning(self, ax=ax, **kwargs)

    def to_dict(self, target: float | None = None) -> Record:
        """Return plain data, as ``kdsim learning --json`` prints it."""
        return {
            "scenario": self.scenario.name,
            "seed": self.scenario.seed,
            "bound_kind": self.bound_kind,
            "traffic": [asdict(traffic) for traffic in self.traffic],
            "marks": list(self.marks),
            "rows": self.rows,
            "reached": self.reached(target),
        }


def _row(curve: LearningCurve, mark: int) -> Record:
    interval = curve.at(mark)
    return {
        "profile": curve.profile,
        "policy": curve.policy,
        "cycle": int(curve.cycles[mark]),
        "accuracy": float(curve.accuracies[mark]),
        "mean": interval.mean,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "ci_method": interval.method,
        "n": interval.n,
        "bound": float(curve.bounds[:, mark].mean()),
    }
