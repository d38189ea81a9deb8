"""Samples of a made-up study, and what is read of the figures drawn of them."""

import numpy as np

from kdsim.results.comparison import Sample

RANDOM = np.linspace(10.0, 12.0, 41)  # mean 11, standard deviation 0.5990


def sample(point, policy, makespans, bounds=(9.0,), *, kind="optimum", varies=None):
    values = np.asarray(makespans, dtype=float)
    varies = values.size > 1 if varies is None else varies
    return Sample(dict(point), policy, values, np.asarray(bounds, dtype=float), kind, varies)


def study(points, scale=1.0):
    """At each point `random` varies around 11 s and `optimal` is on the bound of 9 s."""
    return [
        sample(point, policy, makespans * scale, [9.0 * scale])
        for point in points
        for policy, makespans in (("random", RANDOM), ("optimal", np.array([9.0])))
    ]


def lines_of(ax, label):
    return [line for line in ax.get_lines() if line.get_label() == label]


def legend_of(ax):
    (legend,) = ax.figure.legends
    return [text.get_text() for text in legend.get_texts()]


def note_of(ax):
    """Return the note below a figure; matplotlib has no public way to it."""
    titles = [legend.get_title().get_text() for legend in ax.figure.legends]
    return " ".join(" ".join(titles).split())


def tick_labels(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]
