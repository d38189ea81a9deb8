"""Sections of the page over all AFLKD records on how training went: loss, step, temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from calibration.workloads.aflkd.settling import (
    FITTED,
    ended,
    unsettled_rows,
    went_backwards,
)

Record = Mapping[str, Any]


def backwards(record: Record, method: str) -> tuple[int, int]:
    """Return how many runs of a method went backwards, of how many."""
    epochs = record["manifest"]["config"]["student"]["training"]["epochs"]
    losses = [run["course"]["loss"] for run in record["runs"] if run["method"] == method]
    return sum(went_backwards(loss, epochs) for loss in losses), len(losses)


def unsettled_table(studies: Mapping[str, Record]) -> list[str]:
    """List the methods whose training did not settle."""
    lines = [
        f"| `{name}` | {row['net']} | {row['method']} | {ended(row)} |"
        for name, record in studies.items()
        for row in unsettled_rows(record)
    ]
    if not lines:
        return []
    return [
        "## Trainings that did not settle",
        "",
        "A run went backwards if its training loss, in some training, ended above half of the "
        "first epoch's and 25 % above its least; a method did not fit what it trained on if its "
        f"runs classify, on average, fewer than {100 * FITTED:.0f} % of their last training's own "
        "images as their labels say (mean, least to most). A difference from such a method says "
        "how it fares at this learning rate, and no more.",
        "",
        "| study | network | method | own images, % | went backwards |",
        "|---|---|---|---|---|",
        *lines,
        "",
    ]


def temperatures_table(studies: Mapping[str, Record]) -> list[str]:
    """Count where T ends and in how many runs n changed."""
    lines = []
    for name, record in studies.items():
        for method in record["manifest"]["config"]["methods"]:
            runs = [run for run in record["runs"] if run["method"] == method]
            course = [run["course"]["temperature"] for run in runs]
            if not course or course[0][-1] is None or all(len(set(c)) == 1 for c in course):
                continue
            last = sorted(c[-1] for c in course)
            low, high = sum(t < 2 for t in last), sum(t > 9 for t in last)
            way = median(abs(c[-1] - c[0]) for c in course)
            changed = sum(len(set(run["course"]["frozen_layers"])) > 1 for run in runs)
            lines.append(
                f"| `{name}` | {method} | {len(last)} | {low} | {len(last) - low - high} | "
                f"{high} | {last[0]:.2f} | {median(last):.2f} | {last[-1]:.2f} | {way:.2f} | "
                f"{changed} |"
            )
    return [
        "## Where T ends",
        "",
        "Runs by the T at their end; below 2 nearly all layers are frozen, above 9 none or one "
        "in ten.",
        "",
        "| study | method | runs | below 2 | between | above 9 | least | median | most | "
        "median way from epoch 1 | runs in which n changed |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *lines,
        "",
    ]


def steps_section(steps: Record | None) -> list[str]:
    """Say why KD with all layers frozen goes backwards, and which step the slow study takes."""
    if not steps:
        return []
    trials = {(t["method"], t["learning_rate"], t["momentum"]): t for t in steps["trials"]}
    plain, soft = steps["curvature"].values()

    def silent(*trial: Any) -> str:
        return f"{100 * trials[trial]['silent_units']:.0f} %"

    rates = sorted(
        {rate for method, rate, momentum in trials if method == "kd-frozen" and momentum}
    )
    compared = [m for m in dict.fromkeys(m for m, _, _ in trials) if _at_all(trials, m, rates)]
    lines = [
        "**Why.** KL at T = 4, times T squared, adds to the curvature of the loss: with all layers "
        f"frozen the largest eigenvalue of its Hessian is {soft:.0f} at the start, for "
        f"cross-entropy alone {plain:.0f}. Steps of 0.01 with momentum 0.9 overshoot, and hidden "
        "units of the head fall silent for good: on edge-1 and 500 Fashion-MNIST images "
        f"{silent('kd-frozen', 0.01, 0.9)} of them are zero for every image at the end. Under SSLF "
        f"they are {silent('sslf', 0.01, 0.9)}, under SSLF at twice the step "
        f"{silent('sslf', 0.02, 0.9)}, under KD with nothing frozen {silent('kd', 0.01, 0.9)}, and "
        f"under KD with all layers frozen, but without momentum, {silent('kd-frozen', 0.01, 0.0)}.",
        "",
        "On these images, without a test image, the step of `slow-fashion-mnist` was chosen: that "
        "at which the method that fits its own images worst fits them best. Own images classified "
        "as their labels say in the last epoch (dropout on), %:",
        "",
        "| step | " + " | ".join(compared) + " | worst |",
        "|---:|" + "---:|" * (len(compared) + 1),
    ]
    for rate in rates:
        fitted = [100 * trials[m, rate, 0.9]["train_accuracy"][-1] for m in compared]
        shown = " | ".join(f"{value:.1f}" for value in (*fitted, min(fitted)))
        lines.append(f"| {rate:g} | {shown} |")
    return [*lines, ""]


def _at_all(trials: Mapping[Any, Any], method: str, rates: Sequence[float]) -> bool:
    return all((method, rate, 0.9) in trials for rate in rates)
