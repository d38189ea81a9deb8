"""Gaps as a map of two fields, and as a distribution over replications."""

import numpy as np
import pytest
from drawn_study import legend_of, lines_of, note_of, sample, study, tick_labels
from scipy import stats

from kdsim import plots
from kdsim.errors import PlotError
from kdsim.plots.panels import MAX_PANELS
from kdsim.results.comparison import Comparison


def test_a_heat_map_holds_each_gap_at_its_place(scenario):
    values = {(6, "1:1"): 9.0, (8, "1:1"): 9.9, (6, "2:1"): 10.8}
    samples = [
        sample({"device.cores": c, "workload.ratio": r}, "greedy", [makespan])
        for (c, r), makespan in values.items()
    ]
    frame = Comparison(scenario, samples).frame
    ax = plots.gap_heatmap(frame, "device.cores", "workload.ratio", "greedy")
    (mesh,) = [c for c in ax.collections if c.get_array() is not None]
    found = np.ma.filled(mesh.get_array().reshape(2, 2), np.nan)
    assert found == pytest.approx(np.array([[0.0, 10.0], [20.0, np.nan]]), nan_ok=True)
    words = {t.get_position(): t.get_text() for t in ax.texts}
    assert words == {(0, 0): "0.00", (1, 0): "10.00", (0, 1): "20.00"}
    assert (tick_labels(ax.xaxis), tick_labels(ax.yaxis)) == (["6", "8"], ["1:1", "2:1"])


def test_a_heat_map_writes_the_uncertainty_of_varying_gaps(grid):
    ax = plots.gap_heatmap(grid.frame, "device.cores", "workload.ratio", "random", top=0.5)
    row = grid.rows[0]
    half = 50 * (row["ci_high"] - row["ci_low"]) / 9.0
    assert {t.get_text() for t in ax.texts} == {f"22.22\n± {half:.2f}"}
    (mesh,) = [c for c in ax.collections if c.get_array() is not None]
    assert mesh.get_clim() == (0.0, 50.0)


def test_under_noise_the_uncertainty_of_a_gap_is_that_of_the_gaps_not_of_the_makespans(scenario):
    bounds = np.array([5.0, 10.0, 20.0, 40.0])
    gaps = np.array([0.10, 0.11, 0.12, 0.13])
    point = {"device.cores": 6, "workload.ratio": "1:1"}
    frame = Comparison(scenario, [sample(point, "greedy", bounds * (1 + gaps), bounds)]).frame
    (words,) = plots.gap_heatmap(frame, "device.cores", "workload.ratio", "greedy").texts
    low, high = stats.ttest_1samp(100 * gaps, 0.0).confidence_interval()
    assert words.get_text() == f"11.50\n± {(high - low) / 2:.2f}"


def test_a_heat_map_refuses_what_it_cannot_place(grid):
    with pytest.raises(PlotError, match="no row is of policy greedy; there are random, optimal"):
        plots.gap_heatmap(grid.frame, "device.cores", "workload.ratio", "greedy")
    twice = grid.frame.assign(other=1)
    with pytest.raises(PlotError, match="several rows"):
        plots.gap_heatmap(twice, "device.cores", "other", "random")


def test_a_regret_distribution_climbs_by_the_share_of_replications():
    gaps = np.array([0.0, 0.1, 0.1, 0.3])
    ax = plots.regret_distribution([sample({}, "greedy", 9.0 * (1 + gaps), [9.0] * 4)])
    (line,) = lines_of(ax, "greedy")
    steps = dict(zip(np.round(line.get_xdata(), 9), line.get_ydata(), strict=True))
    assert steps == pytest.approx({0.0: 0.25, 10.0: 0.75, 30.0: 1.0})
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    half = np.sqrt(np.log(40.0) / 8.0)
    assert (heights.min(), heights.max()) == pytest.approx((0.0, min(0.75 + half, 1.0)))
    assert "95 % band, n = 4" in legend_of(ax)


def test_a_regret_distribution_has_a_panel_a_point(swept):
    axes = plots.regret_distribution(swept.samples)
    assert [ax.get_title(loc="left") for ax in axes] == ["8 cores", "6 cores"]
    many = study([{"extensions.noise": k / 20} for k in range(MAX_PANELS + 1)])
    axes = plots.regret_distribution(many)
    assert len(axes) == MAX_PANELS
    assert note_of(axes[0]) == "The first 12 of 13 points."
