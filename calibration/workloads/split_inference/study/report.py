"""A study as tables, JSON with its manifest, and a timeline for chrome://tracing or Perfetto.

What is not here: measuring (``measure``), figures (``plots``).
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from rich.table import Table

from calibration.workloads.records.results import manifest
from calibration.workloads.split_inference.study.measure import IMAGES, Study
from calibration.workloads.split_inference.workers.job import Timing
from kdsim._types import Record
from kdsim.results.intervals import Interval


def to_json(study: Study, config: Record) -> Record:
    """Return a study as JSON values.

    Parameters
    ----------
    config : dict
        What the user asked for, with its `seed`; goes into the manifest.
    """
    return {
        "manifest": manifest(config, seeds=[config["seed"]]),
        "images_per_round": IMAGES - 1,
        "verdict": asdict(study.verdict),
        "rounds": _rounds(study),
        "predictions_disturbed": study.has_disturbed_predictions,
        "methods": [_method(study, name) for name in study.methods],
        "layers": _layers(study),
        "kinds": {
            name: {
                kind: {"whole_ms": a * 1e3, "split_ms": b * 1e3, "ratio": b / a}
                for kind, (a, b) in study.kinds(name).items()
            }
            for name in study.methods
            if name not in ("whole", "openmp")
        },
        "halo_us": {
            transport: {
                "bytes": 28 * 1024,
                "n": len(times),
                "median": float(np.median(times)),
                "p95": float(np.percentile(times, 95)),
            }
            for transport, times in study.halo_us.items()
        },
    }


def _rounds(study: Study) -> Record:
    rounds = study.rounds
    return {
        "asked": rounds.asked,
        "made": len(rounds.made),
        "undisturbed": len(rounds.undisturbed),
        "set_aside": rounds.set_aside,
        "counted": len(rounds.counted),
        "guard": rounds.guard,
        # Rounds too short for a reading of their own repeat the one that they share.
        "readings": [
            {**asdict(each.taken), "disturbed": each.taken.disturbs(rounds.guard)}
            for each in rounds.made
        ],
        "costs": asdict(study.costs_taken),
    }


def _method(study: Study, name: str) -> Record:
    method = study.methods[name]
    row: Record = {
        "method": name,
        "ms": interval_json(study.seconds(name), 1e3),
        "median_ms": float(np.median(method.rounds_s)) * 1e3,
        "ratio": interval_json(study.ratio(name)),
        "median_ratio": study.median_ratio(name),
        "artefact": study.is_artefact(name),
        "disturbed": study.verdict.is_too_disturbed,
    }
    if "/" in name:
        row |= {
            "modes": list(method.plan.modes),
            "shares": list(method.plan.shares),
            "halo_bytes": method.plan.halo_values * 4,
            "messages": len(method.plan.messages),
        }
    if name in study.predicted_s:
        row |= {
            "predicted_ms": study.predicted_s[name] * 1e3,
            "prediction_error": study.prediction_error(name),
            "simulated_ms": study.simulated_s[name] * 1e3,
        }
    return row


def interval_json(interval: Interval, scale: float = 1.0) -> Record:
    """Return an interval as JSON values."""
    return {
        "mean": interval.mean * scale,
        "ci_low": interval.low * scale,
        "ci_high": interval.high * scale,
        "n": interval.n,
        "method": interval.method,
    }


def _layers(study: Study) -> list[Record]:
    columns = {name: method.layer_totals_s * 1e3 for name, method in study.methods.items()}
    return [
        {
            "layer": layer.name,
            "kind": layer.options.get("function", layer.kind),
            "shape": list(study.graph.shapes[i + 1]),
            "ms": {name: float(values[i]) for name, values in columns.items()},
        }
        for i, layer in enumerate(study.graph.layers)
    ]


def sentences(study: Study) -> list[str]:
    """Say what disturbed a study, and whether its figures may be believed."""
    found = []
    if study.has_disturbed_predictions:
        found.append(
            "others took "
            f"{study.costs_taken.per_second:.2f} CPU seconds per second while the costs behind "
            "the predictions were measured: the predictions are too disturbed to be judged"
        )
    if study.verdict.is_too_disturbed:
        found.append("the times and ratios above are of all rounds, disturbed ones included")
    return [*found, f"verdict: {study.verdict.word} ({study.verdict.reason})"]


def _mark(study: Study) -> str:
    """Return what stands behind the title of everything that must not be believed."""
    return f"\n{study.verdict.word}" if study.verdict.is_too_disturbed else ""


def methods_table(study: Study) -> Table:
    """Return whole, split, bound and OpenMP side by side, 80 columns wide."""
    limit = f"limit {1 / study.parts:.2f}"
    title = f"Trunk, {study.parts} parts ({limit}); ms{_mark(study)}"
    table = Table(title=title, title_justify="left", padding=(0, 0))
    for column in ("method", "time", "ratio [95 % CI]", "predicted", "simulated", "halo KB"):
        table.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    for name, method in study.methods.items():
        known = name in study.predicted_s
        table.add_row(
            name,
            f"{study.seconds(name).mean * 1e3:.2f}",
            _ratio_cell(study, name),
            _predicted_cell(study, name) if known else "",
            f"{study.simulated_s[name] * 1e3:.2f}" if known else "",
            f"{method.plan.halo_values * 4 / 1024:.0f}" if "/" in name else "",
        )
    return table


def _ratio_cell(study: Study, name: str) -> str:
    ratio = study.ratio(name)
    if study.verdict.is_too_disturbed:
        # An interval would claim what the verdict denies.
        return f"{ratio.mean:.3f} disturbed"
    mark = " artefact" if study.is_artefact(name) else ""
    return f"{ratio.mean:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]{mark}"


def _predicted_cell(study: Study, name: str) -> str:
    predicted = f"{study.predicted_s[name] * 1e3:.2f}"
    if study.has_disturbed_predictions or study.verdict.is_too_disturbed:
        return f"{predicted} disturbed"
    return f"{predicted} {study.prediction_error(name):+.1%}"


def layers_table(study: Study, name: str) -> Table:
    """Return the time of every layer whole and split, and of every kind of layer."""
    table = Table(title=f"Layers, whole against {name}{_mark(study)}", title_justify="left")
    for column in ("layer", "kind"):
        table.add_column(column)
    for column in ("whole ms", "split ms", "ratio"):
        table.add_column(column, justify="right")
    whole, split = study.methods["whole"].layer_totals_s, study.methods[name].layer_totals_s
    for layer, a, b in zip(study.graph.layers, whole, split, strict=True):
        kind = layer.options.get("function", layer.kind)
        table.add_row(layer.name, kind, f"{a * 1e3:.3f}", f"{b * 1e3:.3f}", f"{b / a:.3f}")
    table.add_section()
    for kind, (a, b) in study.kinds(name).items():
        table.add_row("all", kind, f"{a * 1e3:.3f}", f"{b * 1e3:.3f}", f"{b / a:.3f}")
    return table


def chrome_trace(timing: Timing) -> Record:
    """Return one inference in the Chrome trace format: a row for each part.

    Parameters
    ----------
    timing : Timing
        Of the last of its repeats.

    Returns
    -------
    dict
        Ready for ``json.dump``; opens in chrome://tracing and in Perfetto.
    """
    origin = min(int(steps[-1, 0, 0]) for steps in timing.steps)
    events: list[Record] = [
        {"ph": "M", "pid": 0, "name": "process_name", "args": {"name": "split inference"}}
    ]
    for part, (program, steps) in enumerate(zip(timing.programs, timing.steps, strict=True)):
        row = {"pid": 0, "tid": part}
        events.append({"ph": "M", "name": "thread_name", "args": {"name": f"part {part}"}, **row})
        for step, (start, end) in zip(program.steps, steps[-1], strict=True):
            layer = program.layers[step.layer]
            verb = {"compute": "", "send": "send ", "recv": "wait for "}[step.action]
            events.append(
                {
                    "ph": "X",
                    "name": f"{verb}{layer.name}",
                    "cat": layer.kind if step.action == "compute" else step.action,
                    "ts": (int(start) - origin) / 1e3,
                    "dur": (int(end) - int(start)) / 1e3,
                    "args": {"rows": list(step.rows)},
                    **row,
                }
            )
    return {"traceEvents": events, "displayTimeUnit": "ms"}
