"""What figures show, read from their drawn marks rather than from pixels."""

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import stats

import kdsim
from kdsim import plots
from kdsim.errors import PlotError
from kdsim.plots.figures.timeline import blocks, joined
from kdsim.plots.panels import CROWDED, MAX_PANELS, panels_of
from kdsim.policies.names import POLICY_NAMES
from kdsim.results.comparison import Comparison, Sample
from kdsim.scenario.changes import with_fields

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


@pytest.fixture(scope="module")
def scenario():
    return with_fields(kdsim.load_scenario("paper-1to1"), {"device.cores": 4, "workload.cycles": 6})


@pytest.fixture
def swept(scenario):
    eight, six = study([{"device.cores": 8}]), study([{"device.cores": 6}], scale=2.0)
    return Comparison(scenario, eight + six)


@pytest.fixture
def grid(scenario):
    points = [{"device.cores": c, "workload.ratio": r} for r in ("1:1", "2:1") for c in (6, 8, 10)]
    return Comparison(scenario, study(points))


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


# --- comparison -----------------------------------------------------------------------------------


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


# --- lines, maps, distributions -------------------------------------------------------------------


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


def assert_drawn(figure, name):
    """Draw a figure, where a formula that is none would fail, and find a name in it as it is."""
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if name in text.get_text().replace(r"\$", "$")]
    assert texts
    for text in texts:
        _, is_formula = text._preprocess_math(text.get_text())
        assert not is_formula


def test_dollars_in_names_are_no_formulas(scenario, swept, grid):
    dollars = r"from $\frac$"
    named = scenario.model_copy(update={"name": dollars})
    own = [sample({}, dollars, [10.0]), sample({}, "optimal", [9.0])]
    drawn = [
        plots.comparison(Comparison(named, own)),
        plots.comparison(Comparison(named, grid.samples)),
        plots.sweep_lines(swept.frame.assign(policy=dollars).head(1), "device.cores"),
        plots.regret_distribution(own),
    ]
    for axes in drawn:
        first = axes[0] if isinstance(axes, list) else axes
        assert_drawn(first.figure, dollars)
    run = kdsim.simulate(named, "greedy")
    assert_drawn(plots.timeline(run).figure, dollars)


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


# --- curves ---------------------------------------------------------------------------------------


def test_curves_are_the_times_of_unit_work(scenario):
    f, g = plots.curves(scenario, [4, 6])
    (line,) = lines_of(f, "6")
    rates = scenario.device.compute_rates(6)
    for comp_cores, seconds in zip(line.get_xdata(), line.get_ydata(), strict=True):
        assert seconds == pytest.approx(1.0 / rates[6 - comp_cores])
    assert sorted(line.get_xdata()) == [1, 2, 3, 4, 5, 6]
    (line,) = lines_of(g, "4")
    assert sorted(line.get_xdata()) == [0, 1, 2, 3]  # without a core it never ends
    b1, b2, b3 = 0.05, 0.3, 2.0
    slowest = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))[3]
    assert slowest == pytest.approx(1 / (b1 + b2 * np.log(b3)))


def test_the_curves_are_the_cores_whatever_the_link(scenario):
    slow = with_fields(scenario, {"link.rate": 0.5})
    (line,) = lines_of(plots.curves(slow, [4])[1], "4")
    (free,) = lines_of(plots.curves(scenario, [4])[1], "4")
    assert line.get_ydata().tolist() == free.get_ydata().tolist()


def test_curves_default_to_the_swept_core_counts():
    f, _ = plots.curves(kdsim.load_scenario("paper-1to1"))
    assert legend_of(f) == ["6 cores", "8 cores", "10 cores", "12 cores"]


def test_curves_leave_out_only_the_core_counts_nobody_asked_for():
    bent = {"b1": -0.3, "b2": 1.0, "b3": 3.0}  # its rate falls below 0 at 12 cores
    scenario = kdsim.Scenario(
        name="bent",
        device={"cores": 2, "compute": {"a1": 1.0, "a2": 0.5}, "communication": bent},
        workload={"cycles": 2, "comm": 1.0, "forward": 1.0, "backward": 1.0},
    )
    f, _ = plots.curves(scenario)
    assert legend_of(f) == ["2 cores", "6 cores", "8 cores", "10 cores"]
    with pytest.raises(PlotError, match="do not reach 12 cores"):
        plots.curves(scenario, [12])
    with pytest.raises(PlotError, match="whole numbers from 1"):
        plots.curves(scenario, [0])


def test_measured_points_carry_their_intervals(scenario):
    point = plots.CurvePoint("compute", 4, 1, 2.5, 2.25, 3.0)
    f, g = plots.curves(scenario, [4], points=[point])
    (bars,) = f.containers
    assert bars.lines[0].get_xydata().tolist() == [[3.0, 2.5]]
    assert bars.lines[2][0].get_segments()[0][:, 1].tolist() == [2.25, 3.0]
    assert not g.containers


# --- timeline -------------------------------------------------------------------------------------


EXTENSIONS = {
    "extensions.prefetch": 1,
    "extensions.release": 2.0,
    "extensions.reallocation_cost": 0.25,
}


@settings(max_examples=30, deadline=None)
@given(
    policy=st.sampled_from(POLICY_NAMES),
    cores=st.integers(1, 5),
    replication=st.integers(0, 50),
    extended=st.booleans(),
)
def test_blocks_fill_the_cores_exactly(scenario, policy, cores, replication, extended):
    changes = {"device.cores": cores, **(EXTENSIONS if extended else {})}
    run = kdsim.simulate(with_fields(scenario, changes), policy, replication=replication)
    drawn = list(blocks(run))
    on_cores = [b for b in drawn if not b.kind.endswith("waits")]
    area = sum((b.end - b.start) * (b.high - b.low) for b in on_cores)
    assert area == pytest.approx(cores * run.makespan)
    assert all(0 <= b.low < b.high <= cores for b in on_cores)
    waited = sum(b.end - b.start for b in drawn if b.kind == "comp waits")
    computed = sum(p.end - p.start for p in run.intervals if p.comp >= 0)
    assert waited + computed == pytest.approx(run.makespan)
    whole = [b for b in joined(blocks(run)) if not b.kind.endswith("waits")]
    assert sum((b.end - b.start) * (b.high - b.low) for b in whole) == pytest.approx(area)


def test_a_timeline_shows_tasks_waits_and_segment_ends(scenario):
    run = kdsim.simulate(with_fields(scenario, EXTENSIONS), "greedy")
    ax = plots.timeline(run)
    shown = {c.get_label() for c in ax.collections}
    assert {"comm", "forward", "backward", "comp waits", "comm waits", "stall"} <= shown
    assert ax.get_xlim() == (0.0, run.makespan)
    assert {"C1", "F1", "B1"} <= {text.get_text() for text in ax.texts}
    (top,) = ax.child_axes
    assert list(top.get_xticks()) == list(run.backward_starts)
    assert f"makespan {run.makespan:.5g} s" in ax.get_title(loc="left")
    assert "above the proven lower bound" in ax.get_title(loc="left")
    assert {"Comp waits", "Comm waits"} <= set(tick_labels(ax.yaxis))


def test_waits_and_stalls_are_hatched(scenario):
    ax = plots.timeline(kdsim.simulate(with_fields(scenario, EXTENSIONS), "greedy"))
    for collection in ax.collections:
        task = collection.get_label() in ("comm", "forward", "backward")
        assert bool(collection.get_hatch()) is not task


def test_a_long_run_shows_its_first_cycles_and_says_so(scenario):
    run = kdsim.simulate(with_fields(scenario, {"workload.cycles": 50}), "optimal")
    ax = plots.timeline(run)
    title = ax.get_title(loc="left")
    assert "cycles 1–10 of 50" in title
    assert "equal to the proven optimum" in title
    assert ax.get_xlim() == (0.0, run.backward_starts[10])
    part = plots.timeline(run, cycles=(20, 30))
    assert part.get_xlim() == (run.backward_starts[18], run.backward_starts[30])
    whole = plots.timeline(run, cycles=50)
    assert whole.get_xlim() == (0.0, run.makespan)


def test_a_run_whose_first_cycles_have_no_work_is_shown_whole(scenario):
    work = [0.0] * 12 + [1.0] * 3
    data = scenario.model_dump()
    data["workload"] = {"cycles": 15, "comm": work, "forward": work, "backward": work}
    run = kdsim.simulate(kdsim.Scenario.model_validate(data), "greedy")
    assert plots.timeline(run).get_xlim() == (0.0, run.makespan)
    with pytest.raises(PlotError, match="cycles 1 to 5 of this run take no time"):
        plots.timeline(run, cycles=5)


@pytest.mark.parametrize("cycles", [0, -1, (3, 2), (0, 4), (51, 60)])
def test_cycles_that_are_not_there_are_refused(scenario, cycles):
    run = kdsim.simulate(scenario, "optimal")
    with pytest.raises(PlotError, match="cycles"):
        plots.timeline(run, cycles=cycles)


# --- style and saving -----------------------------------------------------------------------------


def test_built_in_policies_differ_in_colour_and_in_marker():
    styles = [plots.policy_style(name) for name in POLICY_NAMES]
    assert len({style.color for style in styles}) == len(styles)
    assert len({style.marker for style in styles}) == len(styles)


@given(st.sets(st.text(min_size=1, max_size=12), max_size=40))
def test_policies_of_a_figure_never_share_a_look(names):
    styles = {name: plots.policy_style(name, names) for name in {*names, *POLICY_NAMES}}
    assert len({(s.color, s.marker) for s in styles.values()}) == len(styles)
    for name in POLICY_NAMES:
        assert styles[name] == plots.policy_style(name)


def test_neighbouring_static_policies_differ_in_colour_and_in_marker():
    styles = [plots.policy_style(f"static:{c}") for c in range(6)]
    assert len({style.color for style in styles}) == len({style.marker for style in styles}) == 6


def test_a_users_policy_looks_the_same_whatever_stands_beside_it():
    alone = plots.policy_style("mine:Best")
    assert alone == plots.policy_style("mine:Best", ["mine:Best", "other:Policy", "random"])


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_the_same_input_gives_the_same_bytes(tmp_path, swept, suffix, start):
    paths = [tmp_path / f"{k}.{suffix}" for k in range(2)]
    for path in paths:
        assert plots.save(plots.comparison(swept), path) == path
    first, second = (path.read_bytes() for path in paths)
    assert first.startswith(start)
    assert first == second


def test_a_figure_axes_or_panels_can_be_saved(tmp_path, grid):
    axes = plots.comparison(grid)
    for k, what in enumerate((axes, axes[0], axes[0].figure, np.array(axes))):
        plots.save(what, tmp_path / f"{k}.SVG")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    with pytest.raises(PlotError, match="only a figure or Axes can be saved, got str"):
        plots.save("figure", tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("figure.jpg", r"\.png, \.svg, \.pdf \(got \.jpg\)"),
        ("figure", "without suffix"),
        ("missing/figure.png", "there is no folder"),
        ("folder.png", "is a folder"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(tmp_path, swept, name, reason):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PlotError, match=reason) as caught:
        plots.save(plots.comparison(swept), tmp_path / name)
    assert name in str(caught.value)


def test_drawing_leaves_no_trace_in_matplotlib(swept, scenario, tmp_path):
    before = dict(matplotlib.rcParams)
    plots.save(plots.comparison(swept), tmp_path / "a.svg")
    plots.save(plots.curves(scenario), tmp_path / "b.png")
    plots.save(plots.timeline(kdsim.simulate(scenario)), tmp_path / "c.pdf")
    assert dict(matplotlib.rcParams) == before
    pyplot = pytest.importorskip("matplotlib.pyplot")
    assert pyplot.get_fignums() == []


def test_results_draw_themselves(swept, scenario):
    assert swept.plot().get_ylabel() == "makespan (s)"
    assert kdsim.simulate(scenario).plot(cycles=2).get_ylabel() == "cores"
