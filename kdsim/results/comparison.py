"""Samples of many runs, and policies side by side at every point of a sweep."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kdsim._types import Record
from kdsim.errors import KdsimError, UnknownPolicyError
from kdsim.messages import did_you_mean
from kdsim.model.curves import FloatArray
from kdsim.output_file import write_output
from kdsim.results.curve_uncertainty import CurveUncertainty
from kdsim.results.gaps import gap_of
from kdsim.results.intervals import mean_interval, paired_difference, replications_needed
from kdsim.results.stakes import PointStakes, stakes_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from kdsim.scenario.study import Scenario


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The makespans of one policy at one point of a sweep.

    Attributes
    ----------
    point : dict
        The swept fields and their values, in the order of the scenario; empty without a sweep.
    policy : str
        Name of the policy.
    makespans : (n,) float array
        Seconds, replication 0..n-1; one value for a policy without randomness.
    bounds : (n,) or (1,) float array
        The proven optimum (or lower bound) of each replication's realised work; one value where
        all are equal.
    bound_kind : str
        ``"optimum"`` or ``"lower bound"``.
    varies : bool
        Whether replications differ: the policy draws at random, or the work is noisy.
    marks : tuple of str
        What must be said wherever these numbers stand, e.g. that a curve was extrapolated.
    """

    point: Record
    policy: str
    makespans: FloatArray
    bounds: FloatArray
    bound_kind: str
    varies: bool
    marks: tuple[str, ...] = ()

    @property
    def gaps(self) -> FloatArray:
        """``makespan / bound - 1`` of each replication: the gap, under noise the regret."""
        return gap_of(self.makespans, self.bounds)

    def summary(self, *, level: float = 0.95) -> Record:
        """Return the sample as one flat row of a comparison; see `SUMMARY_COLUMNS`."""
        interval = mean_interval(self.makespans, level=level, deterministic=not self.varies)
        gaps = self.gaps
        # Of the gaps themselves: under noise the makespans vary far more than their gaps do.
        gap = mean_interval(gaps, level=level, deterministic=not self.varies)
        return {
            **self.point,
            "policy": self.policy,
            "mean": interval.mean,
            "ci_low": interval.low,
            "ci_high": interval.high,
            "ci_method": interval.method,
            "sd": interval.sd,
            "min": float(self.makespans.min()),
            "max": float(self.makespans.max()),
            "n": interval.n,
            "gap_mean": float(gaps.mean()),
            "gap_ci_low": gap.low,
            "gap_ci_high": gap.high,
            "gap_max": float(gaps.max()),
            "bound": float(self.bounds.mean()),
            "bound_kind": self.bound_kind,
            "marks": joined(self.marks),
        }


def joined(marks: Iterable[str]) -> str:
    """Write marks in one cell of a table; each once."""
    return "; ".join(dict.fromkeys(marks))


def marks_of(samples: Iterable[Sample]) -> tuple[str, ...]:
    """Return the marks of several samples, each once, in the order met."""
    return tuple(dict.fromkeys(mark for sample in samples for mark in sample.marks))


#: Columns of a comparison after the swept fields: in seconds, except n, gaps and names.
SUMMARY_COLUMNS = (
    "policy", "mean", "ci_low", "ci_high", "ci_method", "sd", "min", "max", "n",
    "gap_mean", "gap_ci_low", "gap_ci_high", "gap_max", "bound", "bound_kind", "marks",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MissingRun:
    """A run of the design that has no result: it failed, or it has not started.

    Attributes
    ----------
    point : dict
        Swept fields and values.
    status : {"failed", "pending"}
    error : str
        Why it failed; empty for a pending run.
    """

    run_id: str
    point: Record
    policy: str
    status: Literal["failed", "pending"]
    error: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """Policies side by side, at every point of the scenario's sweep.

    Attributes
    ----------
    scenario : Scenario
        What was asked.
    samples : sequence of Sample
        In the order of points, then of policies.
    missing : sequence of MissingRun
        Runs that failed or are pending, in the same order; none in a finished study.
    curves : CurveUncertainty, optional
        The same points and policies over draws of the device's curves, where that was asked for.
    """

    scenario: Scenario
    samples: Sequence[Sample]
    missing: Sequence[MissingRun] = ()
    curves: CurveUncertainty | None = None

    @property
    def policies(self) -> list[str]:
        """The names of all policies asked for, those without any result at the end."""
        with_result = (sample.policy for sample in self.samples)
        return list(dict.fromkeys([*with_result, *(run.policy for run in self.missing)]))

    @property
    def runs(self) -> list[Sample | MissingRun]:
        """All runs of the design: those with a result, then those without."""
        return [*self.samples, *self.missing]

    @property
    def incomplete(self) -> str:
        """Say what is missing, e.g. ``58 of 240 runs done, 180 pending, 2 failed``; else empty."""
        if not self.missing:
            return ""
        failed = sum(1 for run in self.missing if run.status == "failed")
        counts = {"pending": len(self.missing) - failed, "failed": failed}
        words = "".join(f", {n:,} {what}" for what, n in counts.items() if n)
        runs = len(self.samples) + len(self.missing)
        return f"{len(self.samples):,} of {runs:,} runs done{words}"

    @property
    def marks(self) -> tuple[str, ...]:
        """What must be said wherever numbers of this comparison stand; each once."""
        state = (f"Incomplete: {self.incomplete}.",) if self.missing else ()
        return (*state, *marks_of(self.samples))

    @functools.cached_property
    def rows(self) -> list[Record]:
        """One summary per point and policy; see `Sample.summary`."""
        return [sample.summary() for sample in self.samples]

    @functools.cached_property
    def stakes(self) -> list[PointStakes]:
        """What the choice of a policy can be worth at each point; see `stakes_of`."""
        return stakes_of(self)

    @property
    def curve_intervals(self) -> list[Record]:
        """Intervals over draws of the curves, see `CurveUncertainty.intervals`; else empty."""
        return self.curves.intervals if self.curves else []

    @property
    def faster(self) -> list[Record]:
        """In how many draws each policy is faster, see `CurveUncertainty.faster`; else empty."""
        return self.curves.faster if self.curves else []

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The rows as a tidy DataFrame; `CURVE_COLUMNS` at the end where curves were drawn."""
        import pandas as pd

        pairs = zip(self.samples, self.rows, strict=True)
        return pd.DataFrame([{**row, **self.curve_columns(sample)} for sample, row in pairs])

    def curve_columns(self, sample: Sample) -> Record:
        """Return a sample's `CurveUncertainty.columns`; empty where nothing was drawn."""
        return self.curves.columns(sample.point, sample.policy) if self.curves else {}

    def differences(self, reference: str, *, level: float = 0.95) -> list[Record]:
        """Compare every policy with `reference`, replication by replication.

        Parameters
        ----------
        reference : str
            Policy whose makespans are subtracted.
        level : float
            Nominal coverage of the intervals.

        Returns
        -------
        list of dict
            Per point and policy: ``policy, reference, mean, ci_low, ci_high, ci_method, n,
            needed`` (replications at which the interval of this difference would exclude 0).
            Replications that only one of the two has are left out, and so are points at which
            `reference` has no result.

        Raises
        ------
        UnknownPolicyError
            If `reference` was not compared.
        """
        names = {sample.policy for sample in self.samples}
        if reference not in names:
            raise UnknownPolicyError(
                f"policy {reference!r} was not compared{did_you_mean(reference, names)}"
            )
        against = {_key(s.point): s for s in self.samples if s.policy == reference}
        rows = []
        for sample in self.samples:
            other = against.get(_key(sample.point))
            if sample.policy == reference or other is None:
                continue
            a, b = sample.makespans, other.makespans
            if sample.varies and other.varies:
                # A store may hold more replications of one than of the other; and one replication
                # of a policy that draws at random must not stand for all of them.
                pairs = min(a.size, b.size)
                a, b = a[:pairs], b[:pairs]
            deterministic = not (sample.varies or other.varies)
            interval = paired_difference(a, b, level=level, deterministic=deterministic)
            rows.append(
                {
                    **sample.point,
                    "policy": sample.policy,
                    "reference": reference,
                    "mean": interval.mean,
                    "ci_low": interval.low,
                    "ci_high": interval.high,
                    "ci_method": interval.method,
                    "n": interval.n,
                    "needed": replications_needed(interval),
                    "marks": joined([*sample.marks, *other.marks]),
                }
            )
        return rows

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Axes | list[Axes]:
        """Draw the comparison; see `kdsim.plots.comparison`."""
        from kdsim import plots

        return plots.comparison(self, ax=ax, **kwargs)

    def to_dict(self) -> Record:
        """Return plain data, as ``kdsim compare --json`` prints it."""
        return {
            "scenario": self.scenario.name,
            "seed": self.scenario.seed,
            "level": 0.95,
            "marks": list(self.marks),
            "rows": self.rows,
            "stakes": [{**point, **worth.to_dict()} for point, worth in self.stakes],
            **({"curve_draws": self.curves.to_dict()} if self.curves else {}),
        }

    def write(self, path: str | Path, *, failure: type[KdsimError] = KdsimError) -> None:
        """Write the table of `to_latex` to a .tex file, or that of `to_markdown` to a .md file.

        Raises
        ------
        KdsimError
            Of the class `failure`, if the file cannot be written.
        """
        text = self.to_latex() if Path(path).suffix.lower() == ".tex" else self.to_markdown()
        write_output(path, text.encode(), failure=failure)

    def to_latex(self) -> str:
        """Return a LaTeX table for a paper; see `kdsim.results.paper_table.latex`."""
        from kdsim.results import paper_table

        return paper_table.latex(self)

    def to_markdown(self) -> str:
        """Return a Markdown table; see `kdsim.results.paper_table.markdown`."""
        from kdsim.results import paper_table

        return paper_table.markdown(self)

    def _repr_html_(self) -> str:
        return str(self.frame.to_html())


def _key(point: Record) -> tuple[tuple[str, str], ...]:
    return tuple((name, repr(value)) for name, value in point.items())
