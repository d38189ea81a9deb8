"""What the dissimilarity study says: its summary, and verdicts on the paper's claims.

Every figure is a mean over seeds with a 95 % Student interval and n. Gains are paired by seed:
all runs of a seed share data, initial weights and batch orders. Intervals are not adjusted for
the number of comparisons. Means over measures count methods: CE and KL are one.

What is *not* here: the runs themselves (``dissimilarity``), figures (``dissimilarity_figures``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from calibration.workloads.losses import MEASURES, SAME_GRADIENT
from calibration.workloads.records.tables import interval_row, summarise
from kdsim._types import Record, Row
from kdsim.results.intervals import Interval, mean_interval

#: Two accuracies closer than this are taken for equal in practice; 0.01 is one percentage point.
MARGIN = 0.01

#: Symmetric measures that the paper introduces, and the customary ones it compares them with.
NEW_MEASURES = ("js", "sed", "td")
OLD_MEASURES = ("ce", "kl")


def methods_of(measures: Iterable[str]) -> list[str]:
    """Return measures that train differently: one of those with the same gradient.

    Examples
    --------
    >>> methods_of(["ce", "kl", "td"]), methods_of(["ce", "td"])
    (['kl', 'td'], ['ce', 'td'])
    """
    given = list(measures)
    return [m for m in given if SAME_GRADIENT.get(m) not in given]


def summary(rows: Sequence[Row]) -> list[Record]:
    """Average shared and private accuracy, and the clients' spread, over seeds.

    Parameters
    ----------
    rows : sequence of mapping
        From :func:`calibration.workloads.decentralized.study.rows`.

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

    def row(self) -> Record:
        """Return it as a JSON-ready row."""
        return {
            "claim": self.claim,
            "split": self.split,
            "case": self.case,
            "quantity": self.quantity,
            "verdict": self.verdict,
            **interval_row(self.estimate),
        }


_BySeed = dict[int, float]


class _Grid:
    """The rows of a study, cell by cell, each over the seeds that it has."""

    def __init__(self, rows: Iterable[Row], value: str) -> None:
        self._cells: dict[tuple[str, str, str, float], _BySeed] = {}
        self._spread: dict[tuple[str, str, str, float], _BySeed] = {}
        for row in rows:
            key = (row["split"], row["case"], row["measure"], float(row["alpha"]))
            self._cells.setdefault(key, {})[row["seed"]] = row[value]
            self._spread.setdefault(key, {})[row["seed"]] = row[f"{value}_sd"]
        self.splits = sorted({k[0] for k in self._cells})
        self.cases = sorted({k[1] for k in self._cells}, reverse=True)
        present = {k[2] for k in self._cells}
        self.measures = methods_of(m for m in MEASURES if m in present)
        self.alphas = sorted({k[3] for k in self._cells})
        self.between = [a for a in self.alphas if 0 < a < 1]

    def mean(
        self,
        which: str,
        case: str,
        alpha: float,
        measures: Sequence[str] | None = None,
        *,
        spread: bool = False,
    ) -> _BySeed:
        """Average over measures that train differently, for each seed that has all of them."""
        source = self._spread if spread else self._cells
        table = [source.get((which, case, m, alpha), {}) for m in measures or self.measures]
        shared = set.intersection(*(set(runs) for runs in table))
        return {s: sum(runs[s] for runs in table) / len(table) for s in sorted(shared)}


def _minus(first: _BySeed, second: _BySeed) -> list[float]:
    """Subtract seed by seed, where both have the seed."""
    return [first[seed] - second[seed] for seed in first if seed in second]


def verdicts(rows: Sequence[Row], *, value: str = "shared") -> list[Verdict]:
    """Examine the paper's claims, each on the seeds that all the cells it needs share.

    Claims whose cells are not part of the study (a split, a case, measures or an alpha) are left
    out.

    Parameters
    ----------
    rows : sequence of mapping
        From :func:`calibration.workloads.decentralized.study.rows`.
    value : {"shared", "private"}
        Which accuracy: under a uniform label mix, or under each client's own.
    """
    grid = _Grid(rows, value)
    found: list[Verdict | None] = []
    for case in grid.cases:
        if 1.0 in grid.alphas:
            found += _on_gains(grid, case)
        if "skew" in grid.splits:
            found += _on_measures(grid, case)
    if len(grid.cases) == 2:
        found += _on_cases(grid)
    return [verdict for verdict in found if verdict is not None]


def _on_gains(grid: _Grid, case: str) -> list[Verdict | None]:
    """Examine what distillation gains over training on labels alone."""
    found = []

    def gain(which: str, alpha: float, baseline: float = 1.0) -> list[float]:
        return _minus(grid.mean(which, case, alpha), grid.mean(which, case, baseline))

    if "iid" in grid.splits:
        found += [
            _judged(
                "with iid data, distillation gains nothing of note",
                "iid",
                case,
                f"gain at alpha = {alpha:g} over alpha = 1, mean of the measures",
                gain("iid", alpha),
                _no_gain,
            )
            for alpha in grid.between
        ]
    if "skew" not in grid.splits or 0.5 not in grid.between:
        return found
    asked = [
        (
            "with skewed data, distillation at alpha = 0.5 raises the mean accuracy",
            "gain at alpha = 0.5 over alpha = 1, mean of the measures",
            gain("skew", 0.5),
        )
    ]
    asked += [
        (
            "with skewed data, the gain is largest near alpha = 0.5",
            f"accuracy at alpha = 0.5 minus alpha = {other:g}, mean of the measures",
            gain("skew", 0.5, other),
        )
        for other in grid.between
        if other != 0.5
    ]
    spread = [grid.mean("skew", case, alpha, spread=True) for alpha in (1.0, 0.5)]
    asked.append(
        (
            "with skewed data, alpha = 0.5 leaves little variance among clients",
            "sd over clients at alpha = 1 minus at alpha = 0.5, mean of the measures",
            _minus(*spread),
        )
    )
    return found + [_judged(c, "skew", case, q, samples, _positive) for c, q, samples in asked]


def _on_measures(grid: _Grid, case: str) -> list[Verdict | None]:
    """Examine whether some measures do better than others on skewed data."""
    asked = []

    def lead(
        alpha: float, ours: Sequence[str], theirs: Sequence[str], *, spread: bool = False
    ) -> list[float]:
        first = grid.mean("skew", case, alpha, ours, spread=spread)
        return _minus(first, grid.mean("skew", case, alpha, theirs, spread=spread))

    new = [m for m in NEW_MEASURES if m in grid.measures]
    old = [m for m in OLD_MEASURES if m in grid.measures]
    names = f"mean of {'/'.join(new)} minus mean of {'/'.join(old)}"
    if new and old:
        claim = "at small alpha SED, JS and TD do better than CE and KL"
        asked += [
            (claim, f"{names} at alpha = {alpha:g}", lead(alpha, new, old))
            for alpha in grid.alphas
            if alpha < 0.5
        ]
    if case == "sum":
        others = {m: [o for o in grid.measures if o != m] for m in ("kl", "sed")}
        if new and old and 0.8 in grid.between:
            claim = (
                "under the sum of losses, SED, JS and TD do better than CE and KL at alpha = 0.8"
            )
            asked.append((claim, f"{names} at alpha = 0.8", lead(0.8, new, old)))
        if "kl" in grid.measures and others["kl"] and 0.5 in grid.between:
            claim = "under the sum of losses, KL varies more among clients than the others"
            what = "sd over clients of KL minus the mean of the others at alpha = 0.5"
            asked.append((claim, what, lead(0.5, ["kl"], others["kl"], spread=True)))
        if "sed" in grid.measures and others["sed"] and 0.2 in grid.between:
            claim = "under the sum of losses, SED is superior from alpha = 0.2 on"
            what = "SED minus the mean of the other measures at alpha = 0.2"
            asked.append((claim, what, lead(0.2, ["sed"], others["sed"])))
    return [_judged(c, "skew", case, q, samples, _positive) for c, q, samples in asked]


def _on_cases(grid: _Grid) -> list[Verdict | None]:
    """Examine whether one loss against the mean does as well as a loss for each client."""
    return [
        _judged(
            "averaged predictions do as well as the sum of pairwise losses",
            which,
            "both",
            f"average minus sum at alpha = {alpha:g}, mean of the measures",
            _minus(grid.mean(which, "average", alpha), grid.mean(which, "sum", alpha)),
            _no_loss,
        )
        for which in grid.splits
        for alpha in grid.between
    ]


def _judged(
    claim: str,
    which: str,
    case: str,
    quantity: str,
    samples: Sequence[float],
    judge: Callable[[Interval], str],
) -> Verdict | None:
    """Judge a claim on its differences, one per seed; None while there are none."""
    if not samples:
        return None
    estimate = mean_interval(samples)
    # One seed has no interval: its bounds are NaN, and no comparison with them holds.
    return Verdict(claim, which, case, quantity, estimate, judge(estimate))


def _positive(interval: Interval) -> str:
    """Judge a claim that the quantity is positive."""
    if interval.low > 0:
        return "supported"
    return "contradicted" if interval.high < 0 else "undecided"


def _no_gain(interval: Interval) -> str:
    """Judge a claim that the gain stays within the margin."""
    if interval.high < MARGIN:
        return "supported"
    return "contradicted" if interval.low > 0 else "undecided"


def _no_loss(interval: Interval) -> str:
    """Judge a claim that the loss stays within the margin."""
    if interval.low > -MARGIN:
        return "supported"
    return "contradicted" if interval.high < 0 else "undecided"
