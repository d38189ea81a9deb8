"""Figures that decisions are read from: scales, what a core saves, maps, what is missing."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdsim import plots
from kdsim.errors import PlotError
from kdsim.plots.figures.marginal import savings
from kdsim.plots.labels import apart, is_log, setting
from kdsim.plots.panels import panels_of
from kdsim.results.comparison import Comparison, MissingRun, Sample
from kdsim.scenario.changes import with_fields
from kdsim.scenario.study import Range


def sample(point, policy, makespans, bound=9.0):
    values = np.atleast_1d(np.asarray(makespans, dtype=float))
    return Sample(point, policy, values, np.array([bound]), "optimum", values.size > 1)


def texts_of(ax):
    return " ".join(text.get_text() for text in ax.texts)


def marks_of(ax, label):
    return [line for line in ax.get_lines() if line.get_label() == label]


# --- axes -----------------------------------------------------------------------------------------


def test_the_design_decides_about_logarithms():
    assert is_log([1.0, 1.1, 1.2], Range(low=1.0, high=2.0, scale="log"))
    assert not is_log([0.1, 1.0, 10.0, 100.0], Range(low=0.1, high=100.0))
    assert not is_log(["1:1", "2:1"])
    assert not is_log([0, 1, 10, 100])


@given(st.floats(0.01, 10.0), st.floats(1.6, 5.0), st.integers(6, 12))
def test_listed_values_in_geometric_steps_get_a_logarithmic_axis(low, factor, count):
    assert is_log([low * factor**k for k in range(count)])
    assert not is_log([low + 2.0 * factor * k for k in range(1, count)])


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=12, unique=True).map(sorted))
def test_ticks_that_are_kept_do_not_touch(values):
    labels = [str(v) for v in values]
    kept = apart([float(v) for v in values], labels, room=50.0)
    span = values[-1] - values[0]
    for a, b in itertools.pairwise(kept):
        room = (values[b] - values[a]) / span * 50.0
        assert room >= (len(labels[a]) + len(labels[b])) / 2
    assert kept[0] == 0


def test_a_logarithmic_sweep_is_drawn_on_a_logarithmic_axis(scenario):
    rates = [0.1 * 2**k for k in range(15)]
    samples = [sample({"extensions.link_rate": r}, "greedy", 9.0 + 1 / r) for r in rates]
    ax = plots.comparison(Comparison(scenario, samples))
    assert ax.get_xscale() == "log"
    few = plots.comparison(Comparison(scenario, samples[:5]), lines=True)
    assert few.get_xscale() == "log"
    assert [t.get_text() for t in few.get_xticklabels()] == ["0.1", "0.2", "0.4", "0.8", "1.6"]


def test_a_title_names_what_is_fixed_and_not_what_varies(scenario):
    noisy = with_fields(scenario, {"extensions.noise": 0.2})
    assert setting(noisy) == (
        "4 cores · N = 6 · comm 1 · forward 1 · backward 1 · noise = 0.2"
    )  # fmt: skip
    assert setting(noisy, ["device.cores", "workload.ratio"]) == "N = 6 · noise = 0.2"
    ax = plots.comparison(Comparison(noisy, [sample({}, "greedy", 10.0)]))
    assert "4 cores · N = 6" in texts_of(ax).replace("\n", " ")


# --- what one more core saves ---------------------------------------------------------------------


def cores(values):
    """One policy whose makespans at each core count are given."""
    return [
        s
        for count, times in values.items()
        for s in (
            sample({"device.cores": count}, "greedy", times, bound=100.0 / count),
            sample({"device.cores": count}, "optimal", 100.0 / count, bound=100.0 / count),
        )
    ]


def test_savings_are_seconds_per_extra_core_paired_over_replications(scenario):
    runs = {2: [60.0, 62.0, 67.0], 4: [50.0, 51.0, 55.0], 8: [46.0, 51.0, 54.0]}
    (panel,) = panels_of(Comparison(scenario, cores(runs)))
    found = {(s.policy, s.high): s for s in savings(panel)}
    assert found["greedy", 4.0].saved.mean == pytest.approx((10 + 11 + 12) / 3 / 2)
    assert found["greedy", 8.0].saved.mean == pytest.approx((4 + 0 + 1) / 3 / 4)
    interval = found["greedy", 8.0].saved
    expected = stats.ttest_1samp([4 / 4, 0.0, 1 / 4], 0.0).confidence_interval()
    assert (interval.low, interval.high) == pytest.approx(tuple(expected))
    assert found["optimal", 4.0].saved.mean == pytest.approx(25.0 / 2)
    assert found["bound", 8.0].saved.mean == pytest.approx(12.5 / 4)


def test_the_figure_of_savings_has_a_mark_per_step(scenario):
    ax = plots.marginal(Comparison(scenario, cores({2: [60.0], 4: [50.0], 8: [46.0]})))
    (line,) = marks_of(ax, "greedy")
    assert list(line.get_xdata()) == [4.0, 8.0]
    assert list(line.get_ydata()) == pytest.approx([5.0, 1.0])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["2 to 4", "4 to 8"]
    assert ax.get_ylabel() == "seconds saved per extra core"


def test_without_a_numeric_sweep_there_is_nothing_to_save(scenario):
    ratios = [sample({"workload.ratio": r}, "greedy", 9.0) for r in ("1:1", "2:1")]
    for samples in ([sample({}, "greedy", 9.0)], ratios):
        with pytest.raises(PlotError, match="need a field swept over several numbers"):
            plots.marginal(Comparison(scenario, samples))


# --- maps -----------------------------------------------------------------------------------------


def test_two_fields_give_a_map_per_policy_on_one_scale(scenario):
    samples = [
        sample({"device.cores": c, "workload.ratio": r}, policy, makespan)
        for c, r in itertools.product((4, 8), ("1:1", "2:1"))
        for policy, makespan in (("greedy", 9.9), ("optimal", 9.0))
    ]
    axes = plots.gap_maps(Comparison(scenario, samples))
    assert [ax.get_title(loc="left") for ax in axes] == ["greedy", "optimal"]
    (limits,) = {c.get_clim() for ax in axes for c in ax.collections if c.get_array() is not None}
    assert limits == pytest.approx((0.0, 10.0))


def test_a_third_field_gives_a_map_per_value_and_one_field_a_row_per_policy(scenario):
    samples = [
        sample({"device.cores": c, "workload.ratio": r, "extensions.noise": n}, "greedy", 9.9)
        for c, r, n in itertools.product((4, 8), ("1:1", "2:1"), (0.0, 0.5))
    ]
    axes = plots.gap_maps(Comparison(scenario, samples))
    assert [ax.get_title(loc="left") for ax in axes] == ["greedy, noise = 0", "greedy, noise = 0.5"]
    single = [
        sample({"device.cores": c}, p, 9.9) for c in (4, 8) for p in ("greedy", "comm-priority")
    ]
    (ax,) = plots.gap_maps(Comparison(scenario, single))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["greedy", "comm-priority"]
    (ax,) = plots.gap_maps(Comparison(scenario, [sample({}, "greedy", 9.9)]))
    assert "10.00" in texts_of(ax)


def test_a_sampled_design_is_a_mark_per_point_in_the_colour_of_its_gap(scenario):
    generator = np.random.default_rng(5)
    samples = [
        sample({"extensions.noise": a, "workload.comm": b}, "greedy", 9.0 + a)
        for a, b in generator.uniform(0.1, 1.0, (30, 2))
    ]
    (ax,) = plots.gap_maps(Comparison(scenario, samples))
    (marks,) = [c for c in ax.collections if len(c.get_offsets()) == 30]
    assert list(marks.get_array()) == pytest.approx(
        [100 * (s.makespans[0] / 9.0 - 1) for s in samples]
    )


# --- what is missing ------------------------------------------------------------------------------


def note_of(ax):
    """Return the note below a figure, with or without a legend."""
    notes = [legend.get_title() for legend in ax.figure.legends]
    if ax.figure._supxlabel is not None:
        notes.append(ax.figure._supxlabel)
    return " ".join(" ".join(note.get_text() for note in notes).split())


def test_runs_without_a_result_are_marked_and_counted(scenario):
    samples = [sample({"device.cores": c}, "greedy", 9.9) for c in (4, 6)]
    missing = [
        MissingRun("1", {"device.cores": 4}, "mine:Crash", "failed", "ValueError: no"),
        MissingRun("2", {"device.cores": 6}, "mine:Crash", "failed", "ValueError: no"),
        MissingRun("3", {"device.cores": 8}, "greedy", "pending", ""),
    ]
    partial = Comparison(scenario, samples, missing)
    for lines in (False, True):
        ax = plots.comparison(partial, lines=lines)
        assert len(marks_of(ax, "mine:Crash failed")) == 2
        assert len(marks_of(ax, "greedy pending")) == 1
        (legend,) = ax.figure.legends
        words = [text.get_text() for text in legend.get_texts()]
        assert {"mine:Crash", "failed", "pending"} <= set(words)
        assert note_of(ax) == "Incomplete: 2 of 5 runs done, 1 pending, 2 failed."
    for axes in (plots.gap_maps(partial), [plots.marginal(partial)]):
        assert "2 of 5 runs done" in note_of(axes[0])
    whole = plots.comparison(Comparison(scenario, samples))
    assert note_of(whole) == ""
