"""Whether trainings settled: what a difference between methods means hangs on it.

A method whose training goes backwards, or that ends without fitting the very images that it
trains on, says how it fares at this learning rate and these epochs, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdsim._types import Record, RecordView

#: Below this share of its own images a training has not fitted them.
FITTED = 0.75


def went_backwards(losses: Sequence[float], epochs: int) -> bool:
    """Whether the training loss came near its beginning again.

    Parameters
    ----------
    losses : sequence of float
        Of every epoch of a run, training after training.
    epochs : int
        How many make one training.

    Returns
    -------
    bool
        Whether some training's last loss is above half of the run's first and 25 % above the least
        of that training: the step is too long for what is trained.
    """
    trainings = [losses[k : k + epochs] for k in range(0, len(losses), epochs)]
    return any(loss[-1] > max(0.5 * losses[0], 1.25 * min(loss)) for loss in trainings)


def settling_rows(result: RecordView) -> list[Record]:
    """Say how the trainings of each network and method ended.

    Returns
    -------
    list of dict
        ``net``, ``method``, ``runs``, ``backwards`` (how many of them), and ``least``, ``mean`` and
        ``most`` of the share of the last training's images that a run classified as their labels
        say, in its last epoch (dropout on).
    """
    epochs = result["manifest"]["config"]["student"]["training"]["epochs"]
    groups: dict[tuple[str, str], list[RecordView]] = {}
    for run in result["runs"]:
        groups.setdefault((run["net"], run["method"]), []).append(run["course"])
    rows = []
    for (net, method), courses in groups.items():
        fitted = [course["train_accuracy"][-1] for course in courses]
        rows.append(
            {
                "net": net,
                "method": method,
                "runs": len(courses),
                "backwards": sum(went_backwards(course["loss"], epochs) for course in courses),
                "least": min(fitted),
                "mean": sum(fitted) / len(fitted),
                "most": max(fitted),
            }
        )
    return rows


def unsettled_rows(result: RecordView) -> list[Record]:
    """Return those rows in which a run went backwards or the mean share is below `FITTED`."""
    return [row for row in settling_rows(result) if row["backwards"] or row["mean"] < FITTED]


def settling_table(result: RecordView) -> list[str]:
    """Write the rows as Markdown, with a word on the methods that did not settle."""
    rows = settling_rows(result)
    training = result["manifest"]["config"]["student"]["training"]
    lines = [
        "## How training ended",
        "",
        "Images of the last training that are classified as their labels say, in its last epoch "
        "(dropout on): mean, least to most of the runs. A run went backwards if its loss came "
        "near its beginning again.",
        "",
        "| network | method | own images, % | went backwards |",
        "|---|---|---|---|",
    ]
    lines += [f"| {row['net']} | {row['method']} | {ended(row)} |" for row in rows]
    unsettled = list(dict.fromkeys(row["method"] for row in unsettled_rows(result)))
    if unsettled:
        lines += [
            "",
            f"Not settled: {', '.join(unsettled)}. Accuracies of such a method, and differences "
            f"from it, are those of a learning rate of {training['learning_rate']:g} and "
            f"{training['epochs']} epochs; a smaller rate, or more epochs, may change them more "
            "than the method does.",
        ]
    return [*lines, ""]


def ended(row: RecordView) -> str:
    """Write two cells: the share of own images with its range, and the runs that went backwards."""
    shares = f"{100 * row['mean']:.0f}, {100 * row['least']:.0f} to {100 * row['most']:.0f}"
    return f"{shares} | {row['backwards']} of {row['runs']}"
