"""Figures as files, and what drawing leaves behind: nothing."""

import matplotlib
import numpy as np
import pytest
from drawn_study import sample
from matplotlib.text import Text

import kdsim
from kdsim import plots
from kdsim.errors import PlotError
from kdsim.results.comparison import Comparison


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
