"""Tables of the page over all AFLKD records: claims, switches, spread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, pairwise
from statistics import median
from typing import Any

from calibration.workloads.aflkd.report import verdict
from calibration.workloads.aflkd.switches import switch_rows
from calibration.workloads.records.tables import compare_crossed, summarise_crossed

Record = Mapping[str, Any]
Row = dict[str, Any]

#: (what the paper says of every cell, first method, second method)
CLAIMS = (
    ("AFLKD (`descend`, the paper's eq. 5) beats SSLF", "aflkd-descend", "sslf"),
    ("AFLKD (`reverse`, the gradient in T reversed) beats SSLF", "aflkd-reverse", "sslf"),
    ("AFLKD (`descend`) beats training from scratch", "aflkd-descend", "baseline"),
    ("AFLKD (`reverse`) beats training from scratch", "aflkd-reverse", "baseline"),
    ("SSLF beats training from scratch", "sslf", "baseline"),
    ("adaptive freezing (`descend`) beats freezing all layers, both distilling",
     "aflkd-descend", "kd-frozen"),
    ("adaptive freezing (`reverse`) beats freezing all layers, both distilling, T learned alike",
     "aflkd-reverse", "kd-frozen-learned"),
)  # fmt: skip

DATA = {
    "fashion-mnist": "Fashion-MNIST",
    "cifar10-jpeg": "a part of CIFAR-10 decoded from JPEG",
    "digits": "scikit-learn's digits",
}


def claims_table(studies: Mapping[str, Record]) -> list[str]:
    """Give the verdict on each of the paper's claims, over all studies and study by study."""
    judged = _judged(studies)
    lines = [
        "## The paper's claims",
        "",
        "Each is claimed of every cell (a network and a number of images). A cell *holds* if the "
        "95 % interval of its paired difference lies above zero, is *contradicted* if it lies "
        "below, *open* otherwise; a claim holds if all cells do, and is contradicted if one is. "
        "Intervals are not corrected for their number.",
        "",
        "| claim | cells that hold | open | contradicted | means, points | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for claim, found in judged.items():
        rows = [row for own in found.values() for row in own]
        lines.append(f"| {claim} | {_counts(rows) if rows else '| | | | not tested'} |")
    lines += [
        "| T settles where Var(teacher) = Cov(student, teacher), eq. 13: "
        "[equations](../../../docs/aflkd-equations.md) | | | | | contradicted |",
        "| CIFAR-100 (table 4) | | | | | not tested |",
        "",
        *_shared_runs(studies),
        "Study by study:",
        "",
        "| claim | study | holds | open | contradicted | means, points | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for claim, found in judged.items():
        lines += [f"| {claim} | `{name}` | {_counts(rows)} |" for name, rows in found.items()]
    return [*lines, ""]


def _shared_runs(studies: Mapping[str, Record]) -> list[str]:
    """Say which studies have runs in common: their cells are no second evidence."""
    keys = ("net", "method", "teacher", "seed", "size", "accuracy")
    values = {
        (name, data_name(record)): {tuple(row[k] for k in keys) for row in accuracy_rows(record)}
        for name, record in studies.items()
    }
    clauses = [
        f"`{a}` and `{b}` {len(values[a, data] & values[b, other])}"
        for (a, data), (b, other) in combinations(values, 2)
        if data == other and values[a, data] & values[b, other]
    ]
    if not clauses:
        return []
    return [
        "Some studies share seeds, teachers and set-up, so that accuracies are equal in both: "
        f"{listed(clauses)}. Their cells are counted in both.",
        "",
    ]


def _judged(studies: Mapping[str, Record]) -> dict[str, dict[str, list[Row]]]:
    """Return the differences behind each claim, study by study."""
    judged: dict[str, dict[str, list[Row]]] = {}
    for claim, first, second in CLAIMS:
        own = judged.setdefault(claim, {})
        for name, record in studies.items():
            own[name] = compare(record, "method", [(first, second)], ["net", "size"])
    rises = judged.setdefault("accuracy rises with every update, every method", {})
    few = judged.setdefault(
        "AFLKD (`reverse`) gains more over training from scratch at the fewest images than at the "
        "most", {},
    )  # fmt: skip
    for name, record in studies.items():
        sizes = sorted({row["size"] for row in accuracy_rows(record)})
        if len(sizes) > 1:
            steps = [(b, a) for a, b in pairwise(sizes)]
            rises[name] = compare(record, "size", steps, ["net", "method"])
            few[name] = _gain_at_few(record, sizes)
    return {
        claim: {name: rows for name, rows in found.items() if rows}
        for claim, found in judged.items()
    }


def _counts(rows: Sequence[Record]) -> str:
    words = [verdict(row) for row in rows]
    holds, still, against = (words.count(w) for w in ("holds", "open", "contradicted"))
    overall = "contradicted" if against else "holds" if holds == len(rows) else "open"
    means = [100 * row["mean"] for row in rows]
    return f"{holds} | {still} | {against} | {min(means):+.1f} to {max(means):+.1f} | {overall}"


def _gain_at_few(record: Record, sizes: Sequence[int]) -> list[Row]:
    """Compare AFLKD's gain over the baseline at the fewest images with that at the most."""
    keys = ("net", "teacher", "seed", "size")
    found: dict[str, dict[tuple[Any, ...], float]] = {"aflkd-reverse": {}, "baseline": {}}
    for row in accuracy_rows(record):
        if row["method"] in found and row["size"] in (sizes[0], sizes[-1]):
            found[row["method"]][tuple(row[key] for key in keys)] = row["accuracy"]
    ours, plain = found.values()
    rows = [
        {**dict(zip(keys, key, strict=True)), "accuracy": ours[key] - plain[key]}
        for key in ours
        if key in plain
    ]
    pairs = [(sizes[0], sizes[-1])]
    return compare_crossed(rows, "accuracy", ["net"], treatment="size", pairs=pairs) if rows else []


def switches_table(studies: Mapping[str, Record]) -> list[str]:
    """Say what each switch is worth, study by study."""
    lines = []
    for name, record in studies.items():
        rows = worth_of_switches(record)
        if rows:
            lines += [
                f"### {DATA[data_name(record)]} (`{name}`)",
                "",
                "| switch | difference | points | runs | |",
                "|---|---|---|---|---|",
                *(
                    f"| {row['switch']} | {row['difference']} | {in_points(row)} | "
                    f"{row['seeds']} x {row['teachers']} | {_worth(row)} |"
                    for row in rows
                ),
                "",
            ]
            lines += [f"![paired differences, {name}]({name}/forest.png)", ""]
    if not lines:
        return []
    return [
        "## What each switch is worth",
        "",
        "Methods that differ in one switch; mean over networks and numbers of images [95 % "
        "interval over "
        "seeds and teachers]. Every method against KD with all layers "
        "frozen, SSLF "
        "and the baseline, cell by cell: `*/tables.md`.",
        "",
        *lines,
    ]


def spread_table(studies: Mapping[str, Record]) -> list[str]:
    """Say where the spread of accuracies comes from."""
    lines = []
    for name, record in studies.items():
        rows = summarise_crossed(accuracy_rows(record), "accuracy", ["net", "size", "method"])
        known = [row for row in rows if row["sd_rest"] is not None]
        if known:
            sds = [
                100 * median(row[key] for row in known)
                for key in ("sd_seeds", "sd_teachers", "sd_rest")
            ]
            lines.append(
                f"| `{name}` | {len(known)} | " + " | ".join(f"{x:.1f}" for x in sds) + " |"
            )
    if not lines:
        return []
    return [
        "## Seeds and teachers",
        "",
        "Median over the cells of the standard deviations of accuracy, points: of a seed, of a "
        "teacher, "
        "of what neither explains.",
        "",
        "| study | cells | seeds | teachers | rest |",
        "|---|---|---|---|---|",
        *lines,
        "",
    ]


# --- helpers -------------------------------------------------------------------------------------


def data_name(record: Record) -> str:
    """Return the name of a record's data set."""
    return str(record["manifest"]["data"]["name"])


def accuracy_rows(record: Record) -> list[Row]:
    """Return a row for each run and number of images."""
    keys = ("net", "method", "teacher", "seed")
    return [
        {**{k: run[k] for k in keys}, "size": stage["size"], "accuracy": stage["accuracy"]}
        for run in record["runs"]
        for stage in run["stages"]
    ]


def compare(
    record: Record, treatment: str, pairs: Sequence[tuple[Any, Any]], by: Sequence[str]
) -> list[Row]:
    """Compare methods, or numbers of images, over a record's runs."""
    return compare_crossed(accuracy_rows(record), "accuracy", by, treatment=treatment, pairs=pairs)


def worth_of_switches(record: Record) -> list[Row]:
    """Return what each switch is worth over all networks, or over the only one."""
    rows = switch_rows(accuracy_rows(record))
    several = {row["switch"] for row in rows if row["net"] is None}
    return [row for row in rows if row["net"] is None or row["switch"] not in several]


def common_nets(record: Record, first: str, second: str) -> list[str]:
    """Return the networks that both methods have, in the order of the study."""
    nets = [
        {run["net"] for run in record["runs"] if run["method"] == method}
        for method in (first, second)
    ]
    return [net for net in record["manifest"]["config"]["nets"] if net in nets[0] & nets[1]]


def worth_by_size(record: Record, first: str, second: str, nets: Sequence[str]) -> list[Row]:
    """Return what one method is worth over another for each number of images, networks averaged."""
    rows = [row for row in accuracy_rows(record) if row["method"] in (first, second)]
    found: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if row["net"] in nets:
            key = (row["size"], row["method"], row["teacher"], row["seed"])
            found.setdefault(key, []).append(row["accuracy"])
    whole = [
        {**dict(zip(("size", "method", "teacher", "seed"), key, strict=True)),
         "accuracy": sum(values) / len(values)}
        for key, values in sorted(found.items())
        if len(values) == len(nets)
    ]  # fmt: skip
    pair = [(first, second)]
    return compare_crossed(whole, "accuracy", ["size"], treatment="method", pairs=pair)


def cells_of(record: Record, row: Record) -> str:
    """Name the networks and numbers of images behind a row."""
    sizes = sorted({r["size"] for r in accuracy_rows(record)})
    net = row["net"] or listed(record["manifest"]["config"]["nets"])
    return f"{net}, {listed(f'{n:,}' for n in sizes)} images"


def _worth(row: Row) -> str:
    """Say what an interval says of a switch, which nobody made a claim about."""
    return {"holds": "gain", "contradicted": "loss"}.get(verdict(row), "open")


def is_cell(row: Record, cell: Record) -> bool:
    """Whether a row is of a certain network, method and number of images."""
    return all(row[key] == cell[key] for key in ("net", "method", "size"))


def in_points(row: Record) -> str:
    """Write a difference and its interval in percentage points."""
    if row["ci_low"] is None:
        return f"{100 * row['mean']:+.1f} [one seed]"
    return f"{100 * row['mean']:+.1f} [{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]"


def listed(words: Iterable[str]) -> str:
    """Join words with commas and a last "and"."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
