"""Tables over the runs of a study: means and paired differences, each with its interval.

A row is one run. Every figure drawn from rows carries n, its spread and a 95 % interval. Where
every seed meets every teacher (``*_crossed``) the interval is as wide as the teachers allow; see
``crossed``.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from calibration.workloads.records.crossed import crossed_interval
from kdsim._types import Record, Row
from kdsim.errors import WorkloadError
from kdsim.results.intervals import Interval, mean_interval, paired_difference

#: What a run shares with no other of its group: its seed, or its teacher and its seed.
Unit = tuple[Any, ...]
_CROSSED = ("teacher", "seed")


def interval_row(interval: Interval) -> Record:
    """Return an interval as a JSON-ready row; what is not a number becomes null."""
    return {
        "mean": _finite(interval.mean),
        "sd": _finite(interval.sd),
        "ci_low": _finite(interval.low),
        "ci_high": _finite(interval.high),
        "n": interval.n,
        "level": interval.level,
        "interval": interval.method,
    }


def crossed_row(values: Mapping[Unit, float]) -> Record:
    """Return the mean over runs, keyed by (teacher, seed), as a JSON-ready row.

    Seeds that have not met every teacher are left out; ``teachers`` and ``seeds`` say what is in.
    """
    teachers = sorted({t for t, _ in values})
    seeds = [s for s in sorted({s for _, s in values}) if all((t, s) in values for t in teachers)]
    if not seeds:
        raise WorkloadError("no seed has met every teacher yet")
    found = crossed_interval([[values[t, s] for s in seeds] for t in teachers])
    return {
        "mean": found.mean,
        "ci_low": _finite(found.low),
        "ci_high": _finite(found.high),
        "sd_teachers": _finite(found.sd_teachers),
        "sd_seeds": _finite(found.sd_seeds),
        "sd_rest": _finite(found.sd_rest),
        "teachers": found.teachers,
        "seeds": found.seeds,
        "n": found.teachers * found.seeds,
        "level": found.level,
        "interval": found.method,
    }


def summarise(rows: Iterable[Row], value: str, by: Sequence[str]) -> list[Record]:
    """Average one quantity over the rows that agree in `by`.

    Parameters
    ----------
    by : sequence of str
        The keys that make a group; groups come in order of first appearance.

    Returns
    -------
    list of dict
        The group's keys, then as `interval_row`.
    """
    groups: dict[tuple[Hashable, ...], list[float]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in by), []).append(float(row[value]))
    return [
        {**dict(zip(by, group, strict=True)), **interval_row(mean_interval(values))}
        for group, values in groups.items()
    ]


def summarise_crossed(rows: Iterable[Row], value: str, by: Sequence[str]) -> list[Record]:
    """Average as `summarise`, over teachers and seeds; rows end as `crossed_row`."""
    return [
        {**dict(zip(by, group, strict=True)), **crossed_row(values)}
        for group, values in _grouped(rows, value, by, _CROSSED).items()
    ]


def compare_pairs(
    rows: Iterable[Row],
    value: str,
    by: Sequence[str],
    *,
    treatment: str,
    pairs: Sequence[tuple[str, str]],
    unit: str = "seed",
) -> list[Record]:
    """Compute paired differences between treatments, group by group.

    Parameters
    ----------
    by : sequence of str
        The keys that make a group.
    treatment : str
        The key whose values are compared, e.g. ``"method"``.
    pairs : sequence of (str, str)
        Which treatments: each gives the difference *first - second*.
    unit : str
        The key that pairs runs; a run without its partner is left out, and n says so.

    Returns
    -------
    list of dict
        The group's keys, ``difference`` ("first - second"), then as `interval_row`. Pairs without
        any common unit are absent.

    Raises
    ------
    WorkloadError
        If a run occurs twice.
    """
    return [
        {
            **group,
            "difference": f"{first} - {second}",
            **interval_row(paired_difference(list(a.values()), list(b.values()))),
        }
        for group, first, second, a, b in _paired(rows, value, by, treatment, pairs, (unit,))
    ]


def compare_crossed(
    rows: Iterable[Row],
    value: str,
    by: Sequence[str],
    *,
    treatment: str,
    pairs: Sequence[tuple[str, str]],
) -> list[Record]:
    """Compare as `compare_pairs`, over teachers and seeds.

    Rows also name ``first`` and ``second``, and end as `crossed_row`.
    """
    return [
        {
            **group,
            "first": first,
            "second": second,
            "difference": f"{first} - {second}",
            **crossed_row({unit: a[unit] - b[unit] for unit in a}),
        }
        for group, first, second, a, b in _paired(rows, value, by, treatment, pairs, _CROSSED)
    ]


def _paired(
    rows: Iterable[Row], value: str, by: Sequence[str], treatment: str,
    pairs: Sequence[tuple[str, str]], unit: Sequence[str],
) -> Iterator[tuple[Record, str, str, dict[Unit, float], dict[Unit, float]]]:  # fmt: skip
    """Yield group, treatments, and the values of each on the units that both have."""
    groups = _grouped(rows, value, [*by, treatment], unit)
    for group in dict.fromkeys(key[:-1] for key in groups):
        for first, second in pairs:
            a, b = groups.get((*group, first), {}), groups.get((*group, second), {})
            both = sorted(set(a) & set(b))
            if both:
                named = dict(zip(by, group, strict=True))
                yield named, first, second, {u: a[u] for u in both}, {u: b[u] for u in both}


def _grouped(
    rows: Iterable[Row], value: str, by: Sequence[str], unit: Sequence[str]
) -> dict[tuple[Hashable, ...], dict[Unit, float]]:
    groups: dict[tuple[Hashable, ...], dict[Unit, float]] = {}
    for row in rows:
        runs = groups.setdefault(tuple(row[key] for key in by), {})
        key = tuple(row[name] for name in unit)
        if key in runs:
            raise WorkloadError(f"run {key} of group {list(by)} occurs twice in the results")
        runs[key] = float(row[value])
    return groups


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
