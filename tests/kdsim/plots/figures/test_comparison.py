"""A comparison, read from its drawn marks rather than from pixels."""

import numpy as np
import pytest
from drawn_study import RANDOM, legend_of, lines_of, note_of, sample, study, tick_labels
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from kdsim import plots
from kdsim.errors import PlotError
from kdsim.plots.panels import CROWDED, MAX_PANELS, panels_of
from kdsim.results.comparison import Comparison


def test_a_comparison_marks_the_means_in_the_order_of_core_counts(swept):
    ax = plots.comparison(swept)
    assert tick_labels(ax.xaxis) == ["6", "8"]
    marks = sorted((m.get_xdata()[0], m.get_ydata()[0]) for m in lines_of(ax, "random"))
    assert [round(x) for x, _ in marks] == [0, 1]
    assert [y for _, y in marks] == pytest.approx([22.0, 11.0])
    assert ax.get_xlabel() == "cores of the device"
    assert ax.get_ylabel() == "makespan (s)"


def test_a_comparison_draws_the_confidence_interval_of_each_mean(swept):
    ax = plots.comparison(swept)
    drawn = sorted(
        (c.lines[0].get_ydata()[0], *c.lines[2][0].get_segments()[0][:, 1]) for c in ax.containers
    )
    expected = [s.summary() for s in swept.samples if s.policy == "random"]
    for (mean, low, high), row in zip(
        drawn, sorted(expected, key=lambda r: r["mean"]), strict=True
    ):
        assert (mean, low, high) == pytest.approx((row["mean"], row["ci_low"], row["ci_high"]))


def test_a_comparison_shows_the_spread_of_replications_and_their_number(swept):
    ax = plots.comparison(swept)
    shapes = [c.get_paths()[0].vertices[:, 1] for c in ax.collections if len(c.get_facecolor())]
    spans = sorted((shape.min(), shape.max()) for shape in shapes)
    assert spans == [pytest.approx((10.0, 12.0)), pytest.approx((20.0, 24.0))]
    assert "41 replications, line 5–95 %" in legend_of(ax)


def test_few_replications_are_shown_one_by_one(scenario):
    few = [10.0, 10.5, 11.5]
    ax = plots.comparison(Comparison(scenario, [sample({}, "random", few)]))
    (points,) = [c for c in ax.collections if c.get_offsets().shape[0] == 3]
    assert sorted(points.get_offsets()[:, 1]) == few


def test_the_bound_is_a_line_across_its_group_named_as_what_it_is(scenario, swept):
    ax = plots.comparison(swept)
    spans = [s for c in ax.collections if hasattr(c, "get_segments") for s in c.get_segments()]
    across = sorted(s[0, 1] for s in spans if s[1, 0] - s[0, 0] > 0.8)
    assert across == pytest.approx([9.0, 18.0])
    assert "optimum (proven)" in legend_of(ax)
    lower = [sample({}, "optimal", [9.5], kind="lower bound")]
    assert "lower bound (proven)" in legend_of(plots.comparison(Comparison(scenario, lower)))


def test_bounds_that_differ_between_replications_show_their_spread(scenario):
    noisy = [sample({}, "optimal", RANDOM, RANDOM - 1.0)]
    words = legend_of(plots.comparison(Comparison(scenario, noisy)))
    assert "optimum (proven): mean; dotted 5–95 %" in words


def test_gaps_are_drawn_in_percent(swept):
    ax = plots.comparison(swept, value="gap")
    assert ax.get_ylabel() == "gap (%)"
    means = [line.get_ydata()[0] for line in lines_of(ax, "random")]
    assert means == pytest.approx([100 * (11 / 9 - 1)] * 2)


def test_one_run_of_what_may_vary_stays_an_open_mark(scenario):
    single = Comparison(scenario, [sample({}, "random", [10.0], varies=True)])
    (mark,) = lines_of(plots.comparison(single), "random")
    assert to_rgb(mark.get_markerfacecolor()) != to_rgb(mark.get_markeredgecolor())
    assert not plots.comparison(single).containers


def test_a_second_swept_field_makes_a_panel_for_each_of_its_values(grid):
    axes = plots.comparison(grid)
    assert [ax.get_title(loc="left") for ax in axes] == [
        "Comp : Comm work = 1:1",
        "Comp : Comm work = 2:1",
    ]
    assert all(tick_labels(ax.xaxis) == ["6", "8", "10"] for ax in axes)


def test_fields_that_change_in_step_share_a_panel(scenario):
    points = [
        {"device.cores": 6, "extensions.noise": 0.1},
        {"device.cores": 8, "extensions.noise": 0.2},
    ]
    (panel,) = panels_of(Comparison(scenario, study(points)))
    assert list(panel.groups) == [6, 8]
    assert panel.title == "noise in step"


def test_a_long_zipped_design_is_joined_by_lines(scenario):
    points = [
        {"extensions.noise": k / 50, "device.communication.b1": 1.0 - k / 50} for k in range(30)
    ]
    ax = plots.comparison(Comparison(scenario, study(points)))
    (line,) = lines_of(ax, "random")
    assert len(line.get_xdata()) == 30
    assert line.get_linestyle() != "None"
    (band,) = ax.collections  # in place of 30 bars
    low, high = band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()
    row = study(points)[0].summary()
    assert (low, high) == pytest.approx((row["ci_low"], row["ci_high"]))


def test_a_large_sample_keeps_its_extremes(scenario):
    many = np.append(np.random.default_rng(1).normal(10.0, 0.1, 20_000), [9.0, 14.0])
    ax = plots.comparison(Comparison(scenario, [sample({}, "random", many)]))
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (9.0, 14.0)


def test_a_sampled_design_is_scattered_not_joined(scenario):
    points = [
        {"device.cores": c, "extensions.noise": n}
        for c, n in ((6, 0.3), (8, 0.1), (6, 0.2), (7, 0.4))
    ]
    ax = plots.comparison(Comparison(scenario, study(points)))
    assert ax.get_title(loc="left") == "paper-1to1, also varying: noise"
    (marks,) = lines_of(ax, "random")
    assert sorted(marks.get_xdata()) == [6, 6, 7, 8]
    assert marks.get_linestyle() == "None"


def test_many_values_become_lines(scenario):
    points = [{"extensions.noise": k / 100} for k in range(CROWDED)]
    ax = plots.comparison(Comparison(scenario, study(points)))
    (line,) = lines_of(ax, "random")
    assert list(line.get_xdata()) == pytest.approx([k / 100 for k in range(CROWDED)])


def test_of_too_many_panels_the_first_are_drawn_and_a_note_says_so(scenario):
    points = [
        {"device.cores": c, "extensions.noise": k / 10}
        for c in (6, 8)
        for k in range(MAX_PANELS + 1)
    ]
    axes = plots.comparison(Comparison(scenario, study(points)))
    assert len(axes) == MAX_PANELS
    assert note_of(axes[0]).startswith("The first 12 of 13 panels")


def test_a_comparison_draws_on_the_axes_given(swept, grid):
    ax = Figure().subplots()
    assert plots.comparison(swept, ax=ax) is ax
    assert ax.get_legend() is not None
    pair = Figure().subplots(1, 2)
    assert plots.comparison(grid, ax=pair) == list(pair)
    with pytest.raises(PlotError, match="2 panels, got 1"):
        plots.comparison(grid, ax=ax)


def test_nothing_to_draw_is_said(scenario):
    empty = Comparison(scenario, [])
    with pytest.raises(PlotError, match="no samples"):
        plots.comparison(empty)
    with pytest.raises(PlotError, match="no samples"):
        plots.regret_distribution([])
    with pytest.raises(PlotError, match="value must be"):
        plots.comparison(empty, value="speed")
