"""Policies as lines over a swept field."""

import pytest
from drawn_study import lines_of, study, tick_labels

from kdsim import plots
from kdsim.errors import PlotError
from kdsim.results.comparison import Comparison


def test_sweep_lines_follow_means_intervals_and_bound(swept):
    ax = plots.sweep_lines(swept.frame, "device.cores")
    (line,) = lines_of(ax, "random")
    assert list(line.get_xdata()) == [6, 8]
    assert list(line.get_ydata()) == pytest.approx([22.0, 11.0])
    (bound,) = lines_of(ax, "bound")
    assert list(bound.get_ydata()) == pytest.approx([18.0, 9.0])
    (bars,) = ax.containers
    rows = [s.summary() for s in reversed(swept.samples) if s.policy == "random"]
    for segment, row in zip(bars.lines[2][0].get_segments(), rows, strict=True):
        assert segment[:, 1] == pytest.approx([row["ci_low"], row["ci_high"]])


def test_sweep_lines_take_text_as_places_in_the_order_met(scenario):
    samples = study([{"workload.ratio": "2:1"}, {"workload.ratio": "1:1"}])
    ax = plots.sweep_lines(Comparison(scenario, samples).frame, "workload.ratio")
    assert tick_labels(ax.xaxis) == ["2:1", "1:1"]


def test_sweep_lines_refuse_an_ambiguous_table(grid, swept):
    with pytest.raises(PlotError, match=r"several rows are of random at device\.cores = 6"):
        plots.sweep_lines(grid.frame, "device.cores")
    with pytest.raises(PlotError, match=r"no column 'cores'; there are device\.cores, policy"):
        plots.sweep_lines(swept.frame, "cores")
    with pytest.raises(PlotError, match="no row is of policy greedy; there are random, optimal"):
        plots.sweep_lines(swept.frame, "device.cores", policies=["greedy"])
