"""What each switch of AFLKD is worth: pairs of methods that differ in one, over a whole study.

A cell (network, number of images) says little on its own. Here a run counts once, with its mean
accuracy over the numbers of images, if it went through all of them; the networks are averaged run
by run, so that the interval is one over teachers and seeds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from calibration.workloads.records.tables import compare_crossed
from kdsim._types import Record, Row

#: The paper's AFLKD: its eq. 5 as printed in direction, and reversed.
_AFLKD = ("aflkd-descend", "aflkd-reverse")

#: (what is switched, method with it, method without it)
SWITCHES: tuple[tuple[str, str, str], ...] = (
    ("n follows T, instead of all layers frozen", "aflkd-reverse", "kd-frozen-learned"),
    ("n follows T, instead of half of them frozen", "aflkd-reverse", "kd-half-learned"),
    ("n follows T, instead of none frozen", "aflkd-reverse-shared", "kd-shared-learned"),
    ("T is learned (reversed), n following it", "aflkd-reverse", "aflkd-fixed"),
    ("T is learned, all layers frozen", "kd-frozen-learned", "kd-frozen"),
    ("T is learned, half of them frozen", "kd-half-learned", "kd-half"),
    ("T is learned, none frozen", "kd-shared-learned", "kd-shared"),
    ("half instead of all layers frozen", "kd-half", "kd-frozen"),
    ("distillation, all layers frozen", "kd-frozen", "sslf"),
    ("distillation, T learned, all layers frozen", "kd-frozen-learned", "sslf"),
    ("distillation, all layers shared, none frozen", "kd-shared", "fine-tune"),
    ("distillation, nothing shared", "kd", "baseline"),
    ("all layers shared, none frozen, without distillation", "fine-tune", "baseline"),
    ("all layers shared, none frozen, with distillation", "kd-shared", "kd"),
    ("layers that never froze start as the cloud's too", "aflkd-reverse-shared", "aflkd-reverse"),
    ("T = 1 instead of 4, all layers frozen", "kd-frozen-t1", "kd-frozen"),
    ("T = 2 instead of 4, all layers frozen", "kd-frozen-t2", "kd-frozen"),
    ("T = 8 instead of 4, all layers frozen", "kd-frozen-t8", "kd-frozen"),
    ("T descends (eq. 5) instead of ascending", "aflkd-descend", "aflkd-reverse"),
    ("T itself is learned, clamped, instead of a sigmoid's", "aflkd-clamped", "aflkd-descend"),
    ("eq. 5 as printed, without a learning rate", "aflkd-printed", "aflkd-clamped"),
    ("T follows a schedule instead of a gradient", "aflkd-schedule", "aflkd-reverse"),
)


def references_of(methods: Collection[str]) -> list[str]:
    """Return what the other methods of a study are compared with.

    The same teacher and data without adaptive freezing (at a fixed temperature, or else at a
    learned one), without distillation, without a teacher; as far as the study has them.
    """
    frozen = "kd-frozen" if "kd-frozen" in methods else "kd-frozen-learned"
    return [method for method in (frozen, "sslf", "baseline") if method in methods]


def is_claimed(first: str, second: str) -> bool:
    """Whether the paper claims that the first method is better than the second."""
    if first in _AFLKD:
        return second in ("kd-frozen", "kd-frozen-learned", "sslf", "baseline")
    return (first, second) == ("sslf", "baseline")


def switch_rows(rows: Iterable[Row]) -> list[Record]:
    """Give what each switch is worth, network by network and over all of them.

    Parameters
    ----------
    rows : iterable of mapping
        One per run and number of images: ``net``, ``method``, ``teacher``, ``seed``, ``size``,
        ``accuracy``.

    Returns
    -------
    list of dict
        ``switch``, ``net`` (None: all networks that both methods have) and the paired difference,
        as ``records.tables.compare_crossed`` gives it. Switches without a common run are absent.
    """
    by_run = _mean_over(_whole_runs(rows), ["net", "method", "teacher", "seed"])
    found = []
    for name, first, second in SWITCHES:
        own = [row for row in by_run if row["method"] in (first, second)]
        nets = [
            {row["net"] for row in own if row["method"] == method} for method in (first, second)
        ]
        shared = nets[0] & nets[1]
        whole = _over_all(own, shared)
        pair: Sequence[tuple[str, str]] = [(first, second)]
        for part, by in ((own, ["net"]), (whole, [])):
            if by or len(shared) > 1:
                found += [
                    {"switch": name, "net": None, **row}
                    for row in compare_crossed(part, "accuracy", by, treatment="method", pairs=pair)
                ]
    return found


def _whole_runs(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of the runs that went through every number of images.

    The mean of a run that stopped earlier is one over fewer images, where switches are worth more
    or less than over all.
    """
    rows = list(rows)
    sizes: dict[tuple[Any, ...], set[int]] = {}
    for row in rows:
        sizes.setdefault(_run_of(row), set()).add(row["size"])
    every = set().union(*sizes.values())
    return [row for row in rows if sizes[_run_of(row)] == every]


def _run_of(row: Row) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("net", "method", "teacher", "seed"))


def _mean_over(rows: Iterable[Row], by: Sequence[str]) -> list[Record]:
    """Average the accuracy over the rows that agree in `by`."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in by), []).append(row["accuracy"])
    return [
        {**dict(zip(by, group, strict=True)), "accuracy": sum(values) / len(values)}
        for group, values in groups.items()
    ]


def _over_all(rows: Sequence[Row], nets: set[str]) -> list[Record]:
    """Average the networks, for those methods, teachers and seeds that have run on all of them."""
    by = ["method", "teacher", "seed"]
    there: dict[tuple[Any, ...], set[str]] = {}
    for row in rows:
        there.setdefault(tuple(row[key] for key in by), set()).add(row["net"])
    whole = [
        row for row in rows if row["net"] in nets and nets <= there[tuple(row[key] for key in by)]
    ]
    return _mean_over(whole, by)
