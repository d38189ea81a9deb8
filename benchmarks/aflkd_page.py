"""The page over all AFLKD records: every sentence with a number is made from them.

``benchmarks/aflkd_report.py`` writes it; nothing here trains or reads files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from calibration.workloads.aflkd.config import StudyConfig
from calibration.workloads.aflkd.report import percent, verdict
from calibration.workloads.aflkd.switches import switch_rows
from calibration.workloads.records.crossed import compare_crossed, summarise_crossed

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
    ("adaptive freezing (`reverse`) beats freezing all layers, both distilling",
     "aflkd-reverse", "kd-frozen"),
)  # fmt: skip

#: Switches whose value is that of adapting n to T, and nothing else.
ADAPTIVITY = (
    "n follows T, instead of all layers frozen",
    "n follows T, instead of half of them frozen",
)

DATA = {
    "fashion-mnist": "Fashion-MNIST",
    "cifar10-jpeg": "a part of CIFAR-10 decoded from JPEG",
    "digits": "scikit-learn's digits",
}


def page(records: Mapping[str, Any], planned: Mapping[str, StudyConfig]) -> str:
    """Return the page as Markdown."""
    studies = {name: r for name, r in records["studies"].items() if "sslf" not in name}
    cells = {name: r for name, r in records["studies"].items() if "sslf" in name}
    parts = [
        ["# AFLKD: what was measured", ""],
        _left_out(studies, planned),
        _adaptivity(studies),
        _processors(records, studies),
        _claims(studies),
        _switches(studies),
        _spread(studies),
        _temperatures(studies),
        _sslf(cells, studies),
        _robustness(records.get("robustness")),
        _speed(records.get("speed")),
        _files(records),
        _again(planned),
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


# --- what was and was not measured ---------------------------------------------------------------


def _left_out(studies: Mapping[str, Record], planned: Mapping[str, StudyConfig]) -> list[str]:
    whole = planned["fashion-mnist"]
    nets = {run["net"] for r in studies.values() for run in r["runs"] if _data(r) != "digits"}
    absent = [net for net in whole.nets if net not in nets]
    ablated = [
        DATA[_data(r)] for r in studies.values() if len(r["manifest"]["config"]["methods"]) > 4
    ]
    most = {
        DATA[_data(r)]: max(stage["size"] for run in r["runs"] for stage in run["stages"])
        for r in sorted(studies.values(), key=lambda r: max(r["manifest"]["config"]["sizes"]))
        if _data(r) != "digits"
    }
    beyond = [f"{data} all beyond {n:,} images" for data, n in most.items()]
    single = [name for name, r in studies.items() if len(r["cloud"]["accuracy"]) == 1]
    sentences = [
        "**Left out.** The paper has three networks, three data sets and up to "
        f"{len(whole.sizes)} numbers of images, to {max(whole.sizes):,}. Here CIFAR-100 is "
        f"missing,",
        *([f"{' and '.join(absent)} on images of 28 pixels and more,"] if absent else []),
        f"and on {'; on '.join(beyond)}.",
        f"The ablations were run on {_and(dict.fromkeys(ablated))} alone." if ablated else
        "No ablation was run yet.",
        f"In {_and(f'`{name}`' for name in single)} one teacher serves all seeds, so that their "
        "intervals leave the teacher's variance out." if single else "",
    ]  # fmt: skip
    lines = [" ".join(s for s in sentences if s), ""]
    lines += [
        "| study | data | networks | images | methods | seeds x teachers | teachers' accuracy | "
        "on |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, record in studies.items():
        config, host = record["manifest"]["config"], record["manifest"]["host"]
        sizes = sorted({stage["size"] for run in record["runs"] for stage in run["stages"]})
        clouds = record["cloud"]["accuracy"]
        lines.append(
            f"| [`{name}`]({name}/tables.md) | {DATA[_data(record)]} | "
            f"{', '.join(config['nets'])} | "
            f"{', '.join(f'{n:,}' for n in sizes)} | {len(config['methods'])} | "
            f"{len({run['seed'] for run in record['runs']})} x {len(clouds)} | "
            f"{', '.join(f'{100 * c:.1f} %' for c in clouds)} | {host['cpu']} |"
        )
    return [*lines, ""]


def _adaptivity(studies: Mapping[str, Record]) -> list[str]:
    found = [
        (name, row)
        for name, record in studies.items()
        for row in _pooled(record)
        if row["switch"] in ADAPTIVITY
    ]
    if not found:
        return [
            "**What adaptivity itself is worth** is not known: in no study that is complete does "
            "a method freeze a fixed number of layers under the same distillation.",
            "",
        ]
    clauses = [
        f"{_points(row)} points ({row['switch'].removeprefix('n follows T, ')}; "
        f"{DATA[_data(studies[name])]}, {_where(studies[name], row)}, {row['seeds']} seeds x "
        f"{row['teachers']} teachers)"
        for name, row in found
    ]
    words = {verdict(row) for _, row in found}
    judged = {
        frozenset({"open"}): "nothing that these intervals can tell from zero",
        frozenset({"holds"}): "a gain",
        frozenset({"contradicted"}): "a loss",
    }.get(frozenset(words), "a gain or a loss as the data and the comparison have it")
    return [
        "**What adaptivity itself is worth**, letting n follow T with everything else equal, is "
        f"{judged}: " + "; ".join(clauses) + ".",
        "",
    ]


def _processors(records: Mapping[str, Any], studies: Mapping[str, Record]) -> list[str]:
    found = records.get("processors")
    if not found:
        return []
    values = [f"{100 * run['accuracy']:.2f} % {run['on']}" for run in found["runs"]]
    cell = found["cell"]
    rows = [row for row in _rows(studies[cell["study"]]) if _is(row, cell)]
    (interval,) = summarise_crossed(rows, "accuracy", ["net"])
    low, high = interval["ci_low"], interval["ci_high"]
    inside = all(low <= run["accuracy"] <= high for run in found["runs"])
    return [
        "**Accuracies depend on the arithmetic of the processor.** The same seed and code "
        f"({cell['net']}, {cell['method']}, {cell['size']} images, seed {cell['seed']}) give "
        f"{_and(values)}. Rounding differs, training amplifies it; the differences "
        f"{'lie' if inside else 'do not all lie'} within the interval over seeds, "
        f"{100 * low:.1f} to {100 * high:.1f} %.",
        "",
    ]


# --- claims, switches, spread --------------------------------------------------------------------


def _claims(studies: Mapping[str, Record]) -> list[str]:
    lines = [
        "## The paper's claims",
        "",
        "Each is claimed of every cell (a network and a number of images). A cell *holds* if the "
        "95 % "
        "interval of its paired difference lies above zero, is *contradicted* if it lies below, "
        "*open* "
        "otherwise; a claim holds if all cells do, and is contradicted if one is. Intervals are "
        "not "
        "corrected for their number.",
        "",
        "| claim | study | holds | open | contradicted | means, points | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for claim, first, second in CLAIMS:
        found = False
        for name, record in studies.items():
            rows = _compare(record, "method", [(first, second)], ["net", "size"])
            if rows:
                found = True
                lines.append(f"| {claim} | `{name}` | {_counts(rows)} |")
        if not found:
            lines.append(f"| {claim} | none | | | | | not tested |")
    for name, record in studies.items():
        sizes = sorted({row["size"] for row in _rows(record)})
        if len(sizes) < 2:
            continue
        rows = _compare(record, "size", [(b, a) for a, b in pairwise(sizes)], ["net", "method"])
        lines.append(
            f"| accuracy rises with every update, every method | `{name}` | {_counts(rows)} |"
        )
        rows = _gain_at_few(record, sizes)
        if rows:
            lines.append(
                f"| AFLKD (`reverse`) gains more over training from scratch at {sizes[0]} images "
                f"than "
                f"at {sizes[-1]:,} | `{name}` | {_counts(rows)} |"
            )
    lines += [
        "| T settles where Var(teacher) = Cov(student, teacher), eq. 13 | "
        "[equations](../../../docs/aflkd-equations.md) | | | | | contradicted |",
        "| CIFAR-100 (table 4) | none | | | | | not tested |",
        "",
    ]
    return lines


def _counts(rows: Sequence[Record]) -> str:
    words = [verdict(row) for row in rows]
    holds, still, against = (words.count(w) for w in ("holds", "open", "contradicted"))
    overall = "contradicted" if against else "holds" if holds == len(rows) else "open"
    means = [100 * row["mean"] for row in rows]
    return f"{holds} | {still} | {against} | {min(means):+.1f} to {max(means):+.1f} | {overall}"


def _gain_at_few(record: Record, sizes: Sequence[int]) -> list[Row]:
    """Compare AFLKD's gain over the baseline at the fewest images with that at the most."""
    gains: dict[tuple[Any, ...], float] = {}
    for row in _rows(record):
        sign = {"aflkd-reverse": 1, "baseline": -1}.get(row["method"])
        if sign and row["size"] in (sizes[0], sizes[-1]):
            key = (row["net"], row["teacher"], row["seed"], row["size"])
            gains[key] = gains.get(key, 0.0) + sign * row["accuracy"]
    both = {"aflkd-reverse", "baseline"} <= {row["method"] for row in _rows(record)}
    rows = [
        {"net": net, "teacher": teacher, "seed": seed, "size": size, "accuracy": gain}
        for (net, teacher, seed, size), gain in gains.items()
    ]
    pairs = [(sizes[0], sizes[-1])]
    return compare_crossed(rows, "accuracy", ["net"], treatment="size", pairs=pairs) if both else []


def _switches(studies: Mapping[str, Record]) -> list[str]:
    lines = []
    for name, record in studies.items():
        rows = _pooled(record)
        if rows:
            lines += [
                f"### {DATA[_data(record)]} (`{name}`)",
                "",
                "| switch | difference | points | runs | |",
                "|---|---|---|---|---|",
                *(
                    f"| {row['switch']} | {row['difference']} | {_points(row)} | "
                    f"{row['seeds']} x {row['teachers']} | {verdict(row)} |"
                    for row in rows
                ),
                "",
            ]
            if "switches" in record:
                lines += [f"![paired differences, {name}]({name}/forest.png)", ""]
    if not lines:
        return []
    return [
        "## What each switch is worth",
        "",
        "Methods that differ in one switch; mean over networks and numbers of images [95 % "
        "interval over "
        "seeds and teachers]; *holds*: above zero. Every method against KD with all layers "
        "frozen, SSLF "
        "and the baseline, cell by cell: `*/tables.md`.",
        "",
        *lines,
    ]


def _spread(studies: Mapping[str, Record]) -> list[str]:
    lines = []
    for name, record in studies.items():
        rows = summarise_crossed(_rows(record), "accuracy", ["net", "size", "method"])
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


def _temperatures(studies: Mapping[str, Record]) -> list[str]:
    lines = []
    for name, record in studies.items():
        for method in record["manifest"]["config"]["methods"]:
            runs = [run for run in record["runs"] if run["method"] == method]
            course = [run["course"]["temperature"] for run in runs]
            if not course or course[0][-1] is None or all(len(set(c)) == 1 for c in course):
                continue
            last = sorted(c[-1] for c in course)
            low, high = sum(t < 2 for t in last), sum(t > 9 for t in last)
            lines.append(
                f"| `{name}` | {method} | {len(last)} | {low} | {len(last) - low - high} | "
                f"{high} | "
                f"{last[0]:.2f} | {median(last):.2f} | {last[-1]:.2f} |"
            )
    return [
        "## Where T ends",
        "",
        "Runs by the T at their end; below 2 nearly all layers are frozen, above 9 none or one "
        "in ten.",
        "",
        "| study | method | runs | below 2 | between | above 9 | least | median | most |",
        "|---|---|---|---|---|---|---|---|---|",
        *lines,
        "",
    ]


# --- the rest ------------------------------------------------------------------------------------


def _sslf(cells: Mapping[str, Record], studies: Mapping[str, Record]) -> list[str]:
    lines = ["## SSLF on edge-1 at 2,000 CIFAR images", ""]
    known = [
        row for row in summarise_crossed(_rows(studies["cifar10-jpeg"]), "accuracy", _CELL)
        if (row["net"], row["method"], row["size"]) == ("edge-1", "sslf", 2000)
    ] if "cifar10-jpeg" in studies else []  # fmt: skip
    if known:
        lines += [
            f"It reaches {percent(known[0])} % where the paper has 59.7 (n = {known[0]['n']})."
        ]
    base = next((name for name in cells if name.endswith("sslf-base")), None)
    if base is None:
        return [
            *lines,
            "Which of its differences from the paper explains it has not been tried.",
            "",
        ]
    names = {
        "labels": "streamed images carry their true labels",
        "cumulative": "an update trains on all images so far",
        "epochs": "twice the epochs",
        "steps": "updates of 500 images",
        "teacher": "the teacher trained to its end",
        "leak": "the teacher trained to its end on all images, test included, as in the paper",
        "paper": "all of these but the true labels",
    }
    teacher = ", ".join(f"{100 * c:.1f} %" for c in cells[base]["cloud"]["accuracy"])
    lines += [
        f"One change at a time (teacher: {teacher}, its own accuracy where it is changed), SSLF "
        f"at 2,000 "
        "images:",
        "",
        "| change | accuracy, % | against none, points | seeds | |",
        "|---|---|---|---|---|",
    ]
    rows = {
        name: [
            r | {"cell": name} for r in _rows(record) if r["method"] == "sslf" and r["size"] == 2000
        ]
        for name, record in cells.items()
    }
    for name in sorted(cells, key=lambda n: n != base):
        (own,) = summarise_crossed(rows[name], "accuracy", ["method"])
        change = names.get(name.rpartition("-")[2], "none")
        difference = [""] * 2
        if name != base:
            (row,) = compare_crossed(
                rows[name] + rows[base], "accuracy", [], treatment="cell", pairs=[(name, base)]
            )
            difference = [_points(row), verdict(row)]
        lines.append(
            f"| {change} | {percent(own)} | {difference[0]} | {own['seeds']} | {difference[1]} |"
        )
    return [*lines, ""]


def _robustness(record: Record | None) -> list[str]:
    if not record:
        return []

    def accuracy(method: str) -> Record:
        return next(
            r for r in record["accuracy"]
            if (r["disturbance"], r["remedy"], r["size"], r["method"])
            == ("label noise 0.4", "none", 100, method)
        )  # fmt: skip

    def gain(disturbance: str) -> Record:
        return next(
            g for g in record["gains"]
            if (g["disturbance"], g["difference"], g["size"])
            == (disturbance, "safeguard - none", 100)
        )  # fmt: skip

    ours, plain = accuracy("aflkd-reverse"), accuracy("sslf")
    helped, hurt = gain("teacher noise 0.5"), gain("label noise 0.4")
    return [
        "## Wrong labels and wrong teachers",
        "",
        f"With 40 % of the labels wrong, at 100 digits on edge-1, AFLKD reaches {percent(ours)} "
        f"% and SSLF "
        f"{percent(plain)} % (n = {ours['n']}). The teacher safeguard is worth {_points(helped)} "
        f"points "
        f"where half of the cloud's answers are wrong, and {_points(hurt)} points where the "
        f"labels that it "
        "checks with are: it trusts labels. All of it: `robustness.md`.",
        "",
    ]


def _speed(record: Record | None) -> list[str]:
    if not record:
        return []
    steps = [row["mean"] for row in record["step_over_bare_loop"].values()]
    deepest = {net: rows[-1] for net, rows in record["backward_by_frozen_layers"].items()}
    ends = [
        f"{net} {row['ratio']['mean']:.2f} (from FLOPs {row['flop_ratio']:.2f})"
        for net, row in deepest.items()
    ]
    return [
        "## Speed",
        "",
        f"A step costs what a bare torch loop costs (ratios {min(steps):.2f} to "
        f"{max(steps):.2f}). With "
        f"every layer frozen the backward pass takes, of that with none: {_and(ends)}. Where it "
        f"is more "
        "than the FLOPs say, the update of the fully connected head, which the count leaves out, "
        "remains.",
        "",
    ]


def _files(records: Mapping[str, Any]) -> list[str]:
    return [
        "## Files",
        "",
        "| | |",
        "|---|---|",
        "| `STUDY/results.json` | manifest, every run with the course of T and n, paired "
        "differences |",
        "| `STUDY/tables.md` | accuracies beside the paper's, every difference, every verdict |",
        "| `STUDY/*.png` | accuracy, differences (forest), course of T |",
        "| `robustness.*`, `speed.*` | `benchmarks/aflkd_robustness.py`, "
        "`benchmarks/aflkd_speed.py` |",
        *(
            ["| `processors.json` | one run on several processors |"]
            if "processors" in records
            else []
        ),
        "",
    ]


def _again(planned: Mapping[str, StudyConfig]) -> list[str]:
    big = [name for name in planned if not name.startswith("small") and name != "digits"]
    steps = sum(_steps(planned[name]) for name in big)
    return [
        "## Making it again, and in full",
        "",
        "    python benchmarks/aflkd.py --data-dir DIR --device auto --workers 16 --work out/aflkd",
        "    python benchmarks/aflkd_report.py --data-dir DIR --work out/aflkd",
        "",
        "The first trains everything that is planned: all methods on all three networks to 5,000 "
        "Fashion-MNIST images with five seeds to 1,000 (three beyond) and three teachers, the main "
        "methods on CIFAR-10, and what may explain SSLF: "
        f"{steps / 1e6:.1f} million training steps of edge networks beside the small studies. It "
        f"is "
        "meant for one accelerator shared by a dozen processes, or for many cores; it goes on "
        "where it "
        "stopped, and `--budget SECONDS` ends it in time. The code for an accelerator has not "
        "been run on one "
        "yet. The second takes over what is complete and writes this page; its test makes the "
        "page again "
        "from the committed records.",
    ]


def _steps(config: StudyConfig) -> int:
    training = config.student.training
    runs = len(config.nets) * len(config.methods) * config.teachers
    total = 0
    for seed in range(config.seeds):
        sizes = (0, *config.sizes_of(seed))
        for a, b in pairwise(sizes):
            images = b if config.update == "cumulative" else b - a
            total += training.epochs * -(-images // training.batch_size)
    return runs * total


# --- helpers -------------------------------------------------------------------------------------

_CELL = ["net", "size", "method"]


def _data(record: Record) -> str:
    return str(record["manifest"]["data"]["name"])


def _rows(record: Record) -> list[Row]:
    keys = ("net", "method", "teacher", "seed")
    return [
        {**{k: run[k] for k in keys}, "size": stage["size"], "accuracy": stage["accuracy"]}
        for run in record["runs"]
        for stage in run["stages"]
    ]


def _compare(
    record: Record, treatment: str, pairs: Sequence[tuple[Any, Any]], by: Sequence[str]
) -> list[Row]:
    return compare_crossed(_rows(record), "accuracy", by, treatment=treatment, pairs=pairs)


def _pooled(record: Record) -> list[Row]:
    """Return what each switch is worth over all networks, or over the only one."""
    rows = switch_rows(_rows(record))
    several = {row["switch"] for row in rows if row["net"] is None}
    return [row for row in rows if row["net"] is None or row["switch"] not in several]


def _where(record: Record, row: Record) -> str:
    sizes = sorted({r["size"] for r in _rows(record)})
    net = row["net"] or " and ".join(record["manifest"]["config"]["nets"])
    return f"{net}, {' and '.join(f'{n:,}' for n in sizes)} images"


def _is(row: Record, cell: Record) -> bool:
    return all(row[key] == cell[key] for key in ("net", "method", "size"))


def _points(row: Record) -> str:
    if row["ci_low"] is None:
        return f"{100 * row['mean']:+.1f} [one seed]"
    return f"{100 * row['mean']:+.1f} [{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]"


def _and(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
