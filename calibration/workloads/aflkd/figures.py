"""Figures of an AFLKD study: accuracy against training images, and the course of T and n."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.workloads.aflkd.switches import references_of
from calibration.workloads.records.results import ResultError
from kdsim._types import RecordView
from kdsim.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colour and marker of each method.
_STYLE: dict[str, tuple[str, str]] = {
    "baseline": (BLACK, "s"),
    "fine-tune": (BLACK, "x"),
    "sslf": (BLUE, "o"),
    "kd": (SKY, "s"),
    "kd-shared": (SKY, "x"),
    "kd-half": (SKY, "d"),
    "kd-frozen": (SKY, "o"),
    "kd-frozen-t1": (SKY, "1"),
    "kd-frozen-t2": (SKY, "2"),
    "kd-frozen-t8": (SKY, "3"),
    "kd-shared-learned": (GREY, "x"),
    "kd-half-learned": (ORANGE, "d"),
    "kd-frozen-learned": (GREY, "o"),
    "aflkd-reverse": (VERMILION, "^"),
    "aflkd-reverse-shared": (VERMILION, "<"),
    "aflkd-descend": (GREEN, "v"),
    "aflkd-clamped": (GREEN, "1"),
    "aflkd-printed": (GREEN, "2"),
    "aflkd-fixed": (PURPLE, "D"),
    "aflkd-schedule": (ORANGE, "P"),
}

#: Colour and marker of each number of images in a forest plot.
_SIZES = ((BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (PURPLE, "D"))

_LABEL = {"baseline": "baseline", "sslf": "SSLF", "kd": "KD"}


#: What one figure of accuracies shows where a study has too many methods to distinguish.
_MAIN = (
    "baseline", "sslf", "kd-shared", "kd-frozen", "kd-frozen-learned", "aflkd-fixed",
    "aflkd-reverse", "aflkd-descend",
)  # fmt: skip


def plot_accuracy(
    result: RecordView,
    net: str,
    *,
    methods: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw test accuracy against training images: the paper's figures 7 to 9.

    Parameters
    ----------
    result : mapping
        As ``report.build_result`` returns it.

    Returns
    -------
    Axes
        Means with 95 % intervals, each run as a small mark; the paper's single runs as dotted
        lines.
    """
    ax = ax or _new_axes()
    rows = [
        row
        for row in result["accuracy"]
        if row["net"] == net and (methods is None or row["method"] in methods)
    ]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    sizes = sorted({row["size"] for row in rows})
    # Side by side, so that intervals of equal size do not hide each other.
    gap = min((b - a for a, b in pairwise(sizes)), default=sizes[0]) * 0.03
    papers_drawn = set()
    for place, method in enumerate(methods):
        colour, marker = _STYLE[method]
        own = [row for row in rows if row["method"] == method]
        shift = gap * (place - (len(methods) - 1) / 2)
        means = [100 * row["mean"] for row in own]
        low = [100 * (row["mean"] - _known(row["ci_low"], row["mean"])) for row in own]
        high = [100 * (_known(row["ci_high"], row["mean"]) - row["mean"]) for row in own]
        ax.errorbar(
            [row["size"] + shift for row in own],
            means,
            yerr=[low, high],
            color=colour,
            marker=marker,
            capsize=3,
            label=_name(method),
        )
        runs = [r for r in result["runs"] if r["net"] == net and r["method"] == method]
        points = [(s["size"] + shift, 100 * s["accuracy"]) for r in runs for s in r["stages"]]
        ax.plot(*zip(*points, strict=True), marker, color=colour, alpha=0.35, markersize=3)
        family = method.partition("-")[0]
        paper = [(row["size"], 100 * row["paper"]) for row in own if row["paper"] is not None]
        if paper and family not in papers_drawn:
            papers_drawn.add(family)
            ax.plot(
                *zip(*paper, strict=True), ":", color=colour, alpha=0.6,
                label=f"{_LABEL.get(family, family.upper())}, paper",
            )  # fmt: skip
    for number, accuracy in enumerate(result["cloud"]["accuracy"]):
        named = "_nolegend_" if number else "cloud network"  # one entry for all of them
        ax.axhline(100 * accuracy, color="0.5", linewidth=1, label=named)
    ax.set(xlabel="training images", ylabel="test accuracy (%)", title=net, xticks=sizes)
    # The interval of two or three seeds may pass 0 or 100 %; the scale need not.
    bottom, top = ax.get_ylim()
    ax.set_ylim(max(bottom, 0), min(top, 100))
    return ax


def plot_forest(result: RecordView, net: str, reference: str, *, ax: Axes | None = None) -> Axes:
    """Draw every method's paired difference from one: a row each, a mark for each number of images.

    Parameters
    ----------
    result : mapping
        As ``report.build_result`` returns it.
    net, reference : str
        An edge network, and the method that all others are compared with.

    Returns
    -------
    Axes
        Means with 95 % intervals over seeds and teachers; filled where the interval is off zero.
    """
    ax = ax or _new_axes()
    rows = [
        row
        for row in result["differences"]
        if row["net"] == net and row["second"] == reference and row["ci_low"] is not None
    ]
    methods = list(dict.fromkeys(row["first"] for row in rows))
    sizes = sorted({row["size"] for row in rows})
    for row in rows:
        place, size = methods.index(row["first"]), sizes.index(row["size"])
        at = place + 0.7 * (size - (len(sizes) - 1) / 2) / max(len(sizes), 1)
        colour, marker = _SIZES[size % len(_SIZES)]
        decided = row["ci_low"] > 0 or row["ci_high"] < 0
        low, mean, high = (100 * row[key] for key in ("ci_low", "mean", "ci_high"))
        ax.errorbar(
            mean,
            at,
            xerr=[[mean - low], [high - mean]],
            color=colour,
            marker=marker,
            markersize=5,
            markerfacecolor=colour if decided else "white",
            linewidth=1,
        )
    for number, size in enumerate(sizes):  # a row's own mark would also say what it decided
        colour, marker = _SIZES[number % len(_SIZES)]
        ax.plot([], [], color=colour, marker=marker, markerfacecolor="white", markersize=5,
                linewidth=1, label=f"{size:,} images")  # fmt: skip
    ax.axvline(0.0, color="0.4", linewidth=0.8)
    ax.set(
        xlabel=f"points above {reference}\n(filled: the interval excludes 0)",
        title=net,
        ylim=(len(methods) - 0.4, -0.6),
    )
    ax.set_yticks(range(len(methods)), methods)
    return ax


def plot_temperature(result: RecordView, net: str, method: str, *, ax: Axes | None = None) -> Axes:
    """Draw the course of T over the epochs, one line per run, with n written by the scale of n.

    Parameters
    ----------
    result : mapping
        As ``report.build_result`` returns it.
    net, method : str
        An edge network and an AFLKD method.

    Returns
    -------
    Axes
        Every run is drawn: the spread is the message. The right-hand scale gives eq. 17's
        n / m; dashed lines mark the starts of updates.
    """
    ax = ax or _new_axes()
    runs = [r for r in result["runs"] if r["net"] == net and r["method"] == method]
    colour, _ = _STYLE[method]
    for run in runs:
        values = run["course"]["temperature"]
        ax.plot(range(1, len(values) + 1), values, color=colour, alpha=0.7, linewidth=1.2)
    epochs = result["manifest"]["config"]["student"]["training"]["epochs"]
    for update in range(1, len(runs[0]["stages"]) if runs else 0):
        ax.axvline(update * epochs + 0.5, color="0.6", linestyle="--", linewidth=0.8)
    bounds = result["manifest"]["config"]["student"]["temperature"]
    t_min, t_max = bounds["t_min"], bounds["t_max"]
    ax.set(
        xlabel="epoch",
        ylabel="temperature T",
        ylim=(t_min, t_max),
        title=f"{net}, {_name(method)} ({len(runs)} runs)",
    )
    ax.locator_params(axis="x", integer=True)

    def share(t: Any) -> Any:
        return (t_max - t) / (t_max - t_min)

    def back(s: Any) -> Any:
        return t_max - s * (t_max - t_min)

    ax.secondary_yaxis("right", functions=(share, back)).set_ylabel("frozen share n / m (eq. 17)")
    return ax


def save_figures(result: RecordView, folder: Path) -> list[Path]:
    """Save ``accuracy.png``, ``forest.png`` and, where T is adaptive, ``temperature.png``.

    Raises
    ------
    ResultError
        If a file cannot be written.
    """
    config = result["manifest"]["config"]
    nets = config["nets"]
    figure = _new_figure(len(nets), 1)
    few = config["methods"] if len(config["methods"]) <= len(_MAIN) else _MAIN
    for place, net in enumerate(nets):
        ax = figure.add_subplot(1, len(nets), place + 1)
        plot_accuracy(result, net, methods=few, ax=ax)
    _legend_below(figure)
    seeds = _seeds(result)
    data = result["manifest"]["data"]["name"]
    figure.suptitle(f"{data}: mean and 95 % interval over {seeds}{_teachers(config)}")
    saved = [_save(figure, folder / "accuracy.png")]
    references = references_of(config["methods"])
    if len(config["methods"]) > 1 and references:
        figure = _new_figure(len(nets), 1, height=1.5 + 0.3 * len(config["methods"]))
        for place, net in enumerate(nets):
            plot_forest(result, net, references[0], ax=figure.add_subplot(1, len(nets), place + 1))
        _legend_below(figure)
        figure.suptitle(f"{data}: paired differences, {seeds}{_teachers(config)}")
        saved.append(_save(figure, folder / "forest.png"))
    adaptive = [m for m in config["methods"] if m.startswith("aflkd")]
    if adaptive:
        figure = _new_figure(len(nets), len(adaptive))
        for row, method in enumerate(adaptive):
            for place, net in enumerate(nets):
                where = row * len(nets) + place + 1
                ax = figure.add_subplot(len(adaptive), len(nets), where)
                plot_temperature(result, net, method, ax=ax)
        saved.append(_save(figure, folder / "temperature.png"))
    return saved


def _known(end: float | None, mean: float) -> float:
    """Return an interval's end; a single run has none, and its bar no length."""
    return mean if end is None else end


def _name(method: str) -> str:
    family, _, policy = method.partition("-")
    if family == "fine":
        return method
    return f"{_LABEL.get(family, family.upper())} {policy}".strip()


def _seeds(result: RecordView) -> str:
    """Say how many seeds there are at most, and how many go beyond the size at which some stop."""
    count, config = len(result["manifest"]["seeds"]), result["manifest"]["config"]
    if not config["short_seeds"]:
        return f"{count} seeds"
    whole = count - config["short_seeds"]
    return f"{count} seeds ({whole} beyond {config['short_size']:,} images)"


def _teachers(config: RecordView) -> str:
    return f" and {config['teachers']} teachers" if config["teachers"] > 1 else ""


def _legend_below(figure: Figure) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    columns = max(int(figure.get_figwidth() / 2.2), 1)  # an entry is about two inches wide
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def _new_figure(columns: int, rows: int, *, height: float | None = None) -> Figure:
    from matplotlib.figure import Figure  # no pyplot: nothing global, no window

    width = max(4.6 * columns, 6.6)  # below, a title over all axes would be cut
    size = (width, 3.1 * rows + 1.2 if height is None else height)
    return Figure(figsize=size, layout="constrained", dpi=120)


def _new_axes() -> Axes:
    return _new_figure(1, 1).add_subplot()


def _save(figure: Figure, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": None})
    except OSError as error:
        raise ResultError(f"{path} cannot be written: {error}") from error
    return path
