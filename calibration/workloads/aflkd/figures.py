"""Figures of an AFLKD study: accuracy against training images, and the course of T and n."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.workloads.records.results import ResultError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colour (Okabe and Ito, safe for colour-blind readers) and marker of each method.
_STYLE: dict[str, tuple[str, str]] = {
    "baseline": ("#000000", "s"),
    "fine-tune": ("#000000", "x"),
    "sslf": ("#0072B2", "o"),
    "kd": ("#56B4E9", "s"),
    "kd-shared": ("#56B4E9", "x"),
    "kd-half": ("#56B4E9", "d"),
    "kd-frozen": ("#56B4E9", "o"),
    "kd-frozen-t1": ("#56B4E9", "1"),
    "kd-frozen-t2": ("#56B4E9", "2"),
    "kd-frozen-t8": ("#56B4E9", "3"),
    "kd-shared-learned": ("#999999", "x"),
    "kd-half-learned": ("#999999", "d"),
    "kd-frozen-learned": ("#999999", "o"),
    "aflkd-reverse": ("#D55E00", "^"),
    "aflkd-reverse-shared": ("#D55E00", "<"),
    "aflkd-descend": ("#009E73", "v"),
    "aflkd-clamped": ("#009E73", "1"),
    "aflkd-printed": ("#009E73", "2"),
    "aflkd-fixed": ("#CC79A7", "D"),
    "aflkd-schedule": ("#E69F00", "P"),
}

_LABEL = {"baseline": "baseline", "sslf": "SSLF", "kd": "KD"}


def plot_accuracy(result: Mapping[str, Any], net: str, *, ax: Axes | None = None) -> Axes:
    """Draw test accuracy against training images: the paper's figures 7 to 9.

    Parameters
    ----------
    result : mapping
        As ``aflkd_report.build_result`` returns it.
    net : str
        Which edge network.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Means with 95 % intervals, each run as a small mark; the paper's single runs as dotted
        lines.
    """
    ax = ax or _new_axes()
    rows = [row for row in result["accuracy"] if row["net"] == net]
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
            label = f"{_LABEL.get(family, family.upper())}, paper"
            ax.plot(*zip(*paper, strict=True), ":", color=colour, alpha=0.6, label=label)
    for number, accuracy in enumerate(result["cloud"]["accuracy"]):
        label = None if number else "cloud network"
        ax.axhline(100 * accuracy, color="0.5", linewidth=1, label=label)
    ax.set(xlabel="training images", ylabel="test accuracy (%)", title=net, xticks=sizes)
    # The interval of two or three seeds may pass 0 or 100 %; the scale need not.
    bottom, top = ax.get_ylim()
    ax.set_ylim(max(bottom, 0), min(top, 100))
    return ax


def plot_temperature(
    result: Mapping[str, Any], net: str, method: str, *, ax: Axes | None = None
) -> Axes:
    """Draw the course of T over the epochs, one line a run, with n written by the scale of n.

    Parameters
    ----------
    result : mapping
        As ``aflkd_report.build_result`` returns it.
    net, method : str
        An edge network and an AFLKD method.
    ax : Axes, optional
        Where to draw.

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

    def share(t: Any) -> Any:
        return (t_max - t) / (t_max - t_min)

    def back(s: Any) -> Any:
        return t_max - s * (t_max - t_min)

    ax.secondary_yaxis("right", functions=(share, back)).set_ylabel("frozen share n / m (eq. 17)")
    return ax


def save_figures(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Save ``accuracy.png`` and, if a method has a temperature, ``temperature.png``.

    Raises
    ------
    ResultError
        If a file cannot be written.
    """
    config = result["manifest"]["config"]
    nets = config["nets"]
    figure = _new_figure(len(nets), 1)
    for place, net in enumerate(nets):
        plot_accuracy(result, net, ax=figure.add_subplot(1, len(nets), place + 1))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    n = len(result["manifest"]["seeds"])
    data = result["manifest"]["data"]["name"]
    figure.suptitle(f"{data}: mean and 95 % interval over {n} seeds{_teachers(config)}")
    saved = [_save(figure, folder / "accuracy.png")]
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


def _teachers(config: Mapping[str, Any]) -> str:
    return f" and {config['teachers']} teachers" if config["teachers"] > 1 else ""


def _new_figure(columns: int, rows: int) -> Figure:
    from matplotlib.figure import Figure  # no pyplot: nothing global, no window

    return Figure(figsize=(4.6 * columns, 3.1 * rows + 1.2), layout="constrained", dpi=120)


def _new_axes() -> Axes:
    return _new_figure(1, 1).add_subplot()


def _save(figure: Figure, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": None})
    except OSError as error:
        raise ResultError(f"{path} cannot be written: {error}") from error
    return path
