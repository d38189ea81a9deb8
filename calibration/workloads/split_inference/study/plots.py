"""Figures of a study: the paper's per-layer comparison, and all methods against the baseline."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from calibration.workloads.split_inference.study.measure import Study
from kdsim.plots.style import BLUE, GREY, ORANGE, VERMILION, new_axes

_WHOLE, _SPLIT, _WAIT, _OTHER = BLUE, ORANGE, VERMILION, GREY


def plot_layers(study: Study, name: str, ax: Axes | None = None) -> Axes:
    """Draw the time of each layer whole and split (the AFLKD paper's fig. 10).

    Waiting for and sending rows is stacked on the split bars; the bars show the slowest part.

    Parameters
    ----------
    name : str
        The method to set against the whole network, e.g. ``"layerwise/tcp"``.
    """
    ax = new_axes(ax, 7.0, 4.0)
    whole, split = study.methods["whole"], study.methods[name]
    x = np.arange(len(study.graph.layers))
    total = split.layer_totals_s * 1e3
    slowest = split.layers_s.sum(axis=2).argmax(axis=0)
    compute = split.layers_s[slowest, x, 0] * 1e3
    ax.bar(x - 0.2, whole.layer_totals_s * 1e3, 0.4, color=_WHOLE, label="whole")
    ax.bar(x + 0.2, compute, 0.4, color=_SPLIT, label=f"{study.parts} parts, {name}")
    ax.bar(
        x + 0.2,
        total - compute,
        0.4,
        bottom=compute,
        color=_WAIT,
        hatch="///",
        edgecolor="white",
        linewidth=0,
        label="of which exchanging rows",
    )
    kinds = {"batch_norm": "norm", "max_pool": "pool", "avg_pool": "pool"}
    labels: list[str] = [
        kinds.get(layer.kind, str(layer.options.get("function", layer.kind)))
        for layer in study.graph.layers
    ]
    ax.set_xticks(x, labels, rotation=90, fontsize=7)
    ax.set_ylabel("time of the layer (ms, median)")
    ax.set_title(_title(study, "Each layer, whole and split"))
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_methods(study: Study, ax: Axes | None = None) -> Axes:
    """Draw every method's time over the baseline's, with its 95 % interval and the limit."""
    ax = new_axes(ax, 7.0, 4.0)
    names = [name for name in study.methods if name != "whole"]
    y = np.arange(len(names))[::-1]
    whole = float(np.median(study.methods["whole"].rounds_s))
    for k, name in zip(y, names, strict=True):
        ratio = study.ratio(name)
        split = "/" in name
        colour = (_WAIT if name.endswith("gloo") else _SPLIT) if split else _OTHER
        ax.barh(k, ratio.mean, 0.6, color=colour)
        ax.plot([ratio.low, ratio.high], [k, k], color="black", linewidth=1.5)
        if name in study.predicted_s:
            label = "predicted" if name == "layerwise/tcp" else None
            ax.plot(study.predicted_s[name] / whole, k, "D", color="black", ms=4, label=label)
        ax.annotate(
            f"{ratio.mean:.3f}",
            (max(ratio.high, ratio.mean, study.predicted_s.get(name, 0.0) / whole), k),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    ax.axvline(1 / study.parts, color=_WHOLE, linestyle="--", label=f"limit 1/{study.parts}")
    ax.axvline(1.0, color="black", linewidth=0.8, label="whole network")
    ax.set_yticks(y, names)
    ax.set_xlabel("time / time of the whole network (mean, 95 % interval)")
    ax.set_title(_title(study, "All methods in one run"))
    ax.legend(frameon=False, fontsize=8, loc="best")
    ax.margins(x=0.12)
    return ax


def _title(study: Study, text: str) -> str:
    return f"{text}: {study.verdict.word}" if study.verdict.is_too_disturbed else text
