"""What the dissimilarity study says: tables, verdicts on the paper's claims, and its figure.

Every figure is a mean over seeds with a 95 % Student interval and n. Gains are paired by seed:
all runs of a seed share data, initial weights and batch orders. Intervals are not adjusted for
the number of comparisons.

What is *not* here: the runs themselves (``dissimilarity``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.workloads.losses import MEASURES
from calibration.workloads.results import Row, interval_row, summarise
from kdsim.errors import WorkloadError
from kdsim.statistics import Interval, mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Two accuracies closer than this are taken for equal in practice; 0.01 is one percentage point.
MARGIN = 0.01

#: Symmetric measures that the paper introduces, and the customary ones it compares them with.
NEW_MEASURES = ("js", "sed", "td")
OLD_MEASURES = ("ce", "kl")

#: Okabe and Ito's palette, distinct under colour blindness; each measure has its own marker too.
_STYLE = {
    "ce": ("#000000", "s"),
    "kl": ("#E69F00", "D"),
    "js": ("#0072B2", "o"),
    "sed": ("#009E73", "^"),
    "td": ("#CC79A7", "v"),
}

_CASE_TITLE = {"sum": "case 1: sum of losses", "average": "case 2: averaged predictions"}


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Average shared and private accuracy, and the clients' spread, over seeds.

    Parameters
    ----------
    rows : sequence of mapping
        From :func:`calibration.workloads.dissimilarity.rows`.

    Returns
    -------
    list of dict
        One for each split, case, measure, alpha and quantity (``shared``, ``private``,
        ``shared_sd``, ``private_sd``), with mean, sd, ci_low, ci_high and n.
    """
    keys = ("split", "case", "measure", "alpha")
    found = []
    for quantity in ("shared", "private", "shared_sd", "private_sd"):
        for row in summarise(rows, quantity, keys):
            found.append({**{k: row.pop(k) for k in keys}, "quantity": quantity, **row})
    return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the study says on one claim.

    Attributes
    ----------
    claim : str
        The claim, in a sentence.
    split, case : str
        Where it was examined.
    quantity : str
        What was estimated, and how its sign reads.
    estimate : Interval
        Mean over seeds with its 95 % interval; accuracy differences as fractions.
    verdict : {"supported", "contradicted", "undecided"}
        ``undecided`` where the interval allows both.
    """

    claim: str
    split: str
    case: str
    quantity: str
    estimate: Interval
    verdict: str

    def row(self) -> dict[str, Any]:
        """Return it as a JSON-ready row."""
        return {
            "claim": self.claim,
            "split": self.split,
            "case": self.case,
            "quantity": self.quantity,
            "verdict": self.verdict,
            **interval_row(self.estimate),
        }


class _Grid:
    """The rows of a study as arrays over seeds."""

    def __init__(self, rows: Iterable[Row], value: str) -> None:
        self._cells: dict[tuple[str, str, str, float], dict[int, float]] = {}
        self._spread: dict[tuple[str, str, str, float], dict[int, float]] = {}
        for row in rows:
            key = (row["split"], row["case"], row["measure"], float(row["alpha"]))
            self._cells.setdefault(key, {})[row["seed"]] = row[value]
            self._spread.setdefault(key, {})[row["seed"]] = row[f"{value}_sd"]
        everywhere = [set(runs) for runs in self._cells.values()]
        # Only seeds that every cell has: an unfinished study stays balanced and paired.
        self.seeds = sorted(set.intersection(*everywhere)) if everywhere else []
        self.splits = sorted({k[0] for k in self._cells})
        self.cases = sorted({k[1] for k in self._cells}, reverse=True)
        self.measures = [m for m in MEASURES if any(k[2] == m for k in self._cells)]
        self.alphas = sorted({k[3] for k in self._cells})

    def mean(
        self,
        which: str,
        case: str,
        alpha: float,
        measures: Sequence[str] | None = None,
        *,
        spread: bool = False,
    ) -> NDArray[np.float64]:
        """Average over measures, (seeds,)."""
        source = self._spread if spread else self._cells
        chosen = measures or self.measures
        table = [[source[which, case, m, alpha][s] for s in self.seeds] for m in chosen]
        return np.asarray(table, dtype=float).mean(axis=0)


def verdicts(rows: Sequence[Row], *, value: str = "shared") -> list[Verdict]:
    """Examine the paper's claims on the seeds that all cells of the study share.

    Claims whose cells are not part of the study (a split, a case, measures or an alpha) are left
    out.

    Parameters
    ----------
    rows : sequence of mapping
        From :func:`calibration.workloads.dissimilarity.rows`.
    value : {"shared", "private"}
        Which accuracy: under a uniform label mix, or under each client's own.

    Raises
    ------
    WorkloadError
        If no seed has all cells.
    """
    grid = _Grid(rows, value)
    if not grid.seeds:
        raise WorkloadError("no seed of the study has all of its runs yet; resume it first")
    found: list[Verdict] = []
    between = [a for a in grid.alphas if 0 < a < 1]
    for case in grid.cases:
        if 1.0 in grid.alphas:
            found += _on_gains(grid, case, between)
        if "skew" in grid.splits:
            found += _on_measures(grid, case, between)
    if len(grid.cases) == 2:
        found += _on_cases(grid, between)
    return found


def _on_gains(grid: _Grid, case: str, between: Sequence[float]) -> list[Verdict]:
    found = []
    if "iid" in grid.splits:
        for alpha in between:
            gain = mean_interval(grid.mean("iid", case, alpha) - grid.mean("iid", case, 1.0))
            found.append(
                Verdict(
                    "with iid data, distillation gains nothing of note",
                    "iid",
                    case,
                    f"gain at alpha = {alpha:g} over alpha = 1, mean of the measures",
                    gain,
                    _within(gain),
                )
            )
    if "skew" in grid.splits and 0.5 in between:
        gain = mean_interval(grid.mean("skew", case, 0.5) - grid.mean("skew", case, 1.0))
        found.append(
            Verdict(
                "with skewed data, distillation at alpha = 0.5 raises the mean accuracy",
                "skew",
                case,
                "gain at alpha = 0.5 over alpha = 1, mean of the measures",
                gain,
                _sign(gain),
            )
        )
        for other in (a for a in between if a != 0.5):
            lead = mean_interval(grid.mean("skew", case, 0.5) - grid.mean("skew", case, other))
            found.append(
                Verdict(
                    "with skewed data, the gain is largest near alpha = 0.5",
                    "skew",
                    case,
                    f"accuracy at alpha = 0.5 minus alpha = {other:g}, mean of the measures",
                    lead,
                    _sign(lead),
                )
            )
        spread = mean_interval(
            grid.mean("skew", case, 1.0, spread=True) - grid.mean("skew", case, 0.5, spread=True)
        )
        found.append(
            Verdict(
                "with skewed data, alpha = 0.5 leaves little variance among clients",
                "skew",
                case,
                "sd over clients at alpha = 1 minus at alpha = 0.5, mean of the measures",
                spread,
                _sign(spread),
            )
        )
    return found


def _on_measures(grid: _Grid, case: str, between: Sequence[float]) -> list[Verdict]:
    found = []
    new = [m for m in NEW_MEASURES if m in grid.measures]
    old = [m for m in OLD_MEASURES if m in grid.measures]
    small = [a for a in grid.alphas if a < 0.5]
    if new and old:
        for alpha in small:
            lead = mean_interval(
                grid.mean("skew", case, alpha, new) - grid.mean("skew", case, alpha, old)
            )
            found.append(
                Verdict(
                    "at small alpha SED, JS and TD do better than CE and KL",
                    "skew",
                    case,
                    f"mean of {'/'.join(new)} minus mean of {'/'.join(old)} at alpha = {alpha:g}",
                    lead,
                    _sign(lead),
                )
            )
    if case == "sum" and "kl" in grid.measures and 0.5 in between and len(grid.measures) > 1:
        others = [m for m in grid.measures if m != "kl"]
        wider = mean_interval(
            grid.mean("skew", case, 0.5, ["kl"], spread=True)
            - grid.mean("skew", case, 0.5, others, spread=True)
        )
        found.append(
            Verdict(
                "under the sum of losses, KL varies more among clients than the others",
                "skew",
                case,
                "sd over clients of KL minus the mean of the others at alpha = 0.5",
                wider,
                _sign(wider),
            )
        )
    if case == "sum" and "sed" in grid.measures and 0.2 in between and len(grid.measures) > 1:
        others = [m for m in grid.measures if m != "sed"]
        lead = mean_interval(
            grid.mean("skew", case, 0.2, ["sed"]) - grid.mean("skew", case, 0.2, others)
        )
        found.append(
            Verdict(
                "under the sum of losses, SED is superior from alpha = 0.2 on",
                "skew",
                case,
                "SED minus the mean of the other measures at alpha = 0.2",
                lead,
                _sign(lead),
            )
        )
    return found


def _on_cases(grid: _Grid, between: Sequence[float]) -> list[Verdict]:
    found = []
    for which in grid.splits:
        for alpha in between:
            difference = mean_interval(
                grid.mean(which, "average", alpha) - grid.mean(which, "sum", alpha)
            )
            found.append(
                Verdict(
                    "averaged predictions do as well as the sum of pairwise losses",
                    which,
                    "both",
                    f"average minus sum at alpha = {alpha:g}, mean of the measures",
                    difference,
                    "contradicted"
                    if difference.high < -MARGIN
                    else "supported"
                    if difference.low > -MARGIN
                    else "undecided",
                )
            )
    return found


def _sign(interval: Interval) -> str:
    """Judge a claim that the quantity is positive."""
    if interval.low > 0:
        return "supported"
    return "contradicted" if interval.high < 0 else "undecided"


def _within(interval: Interval) -> str:
    """Judge a claim that there is no gain beyond the margin."""
    if interval.high < MARGIN:
        return "supported"
    return "contradicted" if interval.low > 0 else "undecided"


def plot_accuracy(
    rows: Sequence[Row],
    which: str,
    case: str,
    *,
    value: str = "shared",
    ax: Axes | None = None,
) -> Axes:
    """Draw mean accuracy against alpha, one line a measure.

    Thick bars are 95 % intervals of the mean over seeds; thin pale ones reach one standard
    deviation over clients to either side.

    Parameters
    ----------
    rows : sequence of mapping
        From :func:`calibration.workloads.dissimilarity.rows`.
    which, case : str
        The split and the case to draw.
    value : {"shared", "private"}
        Which accuracy.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes

    Raises
    ------
    WorkloadError
        If the rows hold nothing on this split and case.
    """
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(5.5, 4.0), layout="constrained").add_subplot()
    chosen = [row for row in rows if row["split"] == which and row["case"] == case]
    if not chosen:
        raise WorkloadError(f"the study has no rows for split {which!r} and case {case!r}")
    measures = [m for m in MEASURES if any(row["measure"] == m for row in chosen)]
    for place, measure in enumerate(measures):
        mine = [row for row in chosen if row["measure"] == measure]
        alphas = sorted({row["alpha"] for row in mine})
        means, lows, highs, spreads = [], [], [], []
        for alpha in alphas:
            here = [row for row in mine if row["alpha"] == alpha]
            interval = mean_interval([row[value] for row in here])
            means.append(interval.mean)
            # One seed has no interval; the thin bars over clients are drawn in any case.
            lows.append(interval.mean - interval.low if interval.n > 1 else 0.0)
            highs.append(interval.high - interval.mean if interval.n > 1 else 0.0)
            spreads.append(float(np.mean([row[f"{value}_sd"] for row in here])))
        x = np.asarray(alphas) + 0.014 * (place - (len(measures) - 1) / 2)
        y, colour, marker = 100 * np.asarray(means), *_STYLE[measure]
        ax.errorbar(x, y, 100 * np.asarray(spreads), fmt="none", ecolor=colour, alpha=0.3, lw=0.8)
        bars = 100 * np.asarray([lows, highs])
        ax.errorbar(
            x,
            y,
            bars,
            color=colour,
            marker=marker,
            ms=4,
            lw=1,
            elinewidth=2.2,
            label=measure.upper(),
        )
    seeds = len({row["seed"] for row in chosen})
    ax.set_title(f"{which}, {_CASE_TITLE[case]} (n = {seeds})", fontsize="medium")
    ax.set_xlabel("alpha, weight of the labels (1 = no distillation)")
    ax.set_ylabel(f"{value} accuracy, mean over clients (%)")
    ax.legend(fontsize="small")
    return ax


def plot_study(rows: Sequence[Row], *, value: str = "shared") -> Figure:
    """Draw every split (rows) and case (columns) of a study; accuracies share one scale a row."""
    from matplotlib.figure import Figure

    splits = [s for s in ("iid", "skew") if any(row["split"] == s for row in rows)]
    cases = [c for c in ("sum", "average") if any(row["case"] == c for row in rows)]
    figure = Figure(figsize=(5.2 * len(cases), 4.0 * len(splits)), layout="constrained")
    axes = figure.subplots(len(splits), len(cases), sharey="row", squeeze=False)
    for i, which in enumerate(splits):
        for j, case in enumerate(cases):
            plot_accuracy(rows, which, case, value=value, ax=axes[i, j])
    return figure
