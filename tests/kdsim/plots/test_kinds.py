"""Every kind of figure works on every study, without a flag."""

import matplotlib.axes
import matplotlib.text
import numpy as np
import pytest

import kdsim
from kdsim.errors import PlotError
from kdsim.plots.kinds import KINDS, draw
from kdsim.results.comparison import Comparison, MissingRun
from kdsim.scenario.validate import scenario_from_data

DESIGNS = {
    "no sweep": {},
    "one number": {"sweep": {"device.cores": [2, 4, 8]}},
    "one text": {"sweep": {"workload.ratio": ["1:1", "2:1"]}},
    "two": {"sweep": {"device.cores": [2, 4], "workload.ratio": ["1:1", "2:1"]}},
    "three": {
        "sweep": {
            "device.cores": [2, 4], "workload.ratio": ["1:1", "2:1"], "extensions.noise": [0.0, 0.2]
        }
    },
    "many": {"sweep": {"device.cores": [2, 4], "workload.comm": [k / 4 for k in range(1, 15)]}},
    "zip": {
        "sweep": {"device.cores": [2, 4, 8], "workload.comm": [1.0, 2.0, 3.0]},
        "design": {"method": "zip"},
    },
    "sampled": {
        "sweep": {
            "workload.comm": {"low": 0.1, "high": 10.0, "scale": "log"},
            "extensions.noise": {"low": 0.0, "high": 0.5},
        },
        "design": {"method": "latin-hypercube", "samples": 14},
    },
    "one value": {"sweep": {"device.cores": [4]}},
}  # fmt: skip


@pytest.fixture(scope="module")
def studies():
    base = kdsim.load_scenario("paper-1to1").model_dump()
    base["workload"]["cycles"] = 2
    return {
        name: kdsim.compare(
            scenario_from_data({**base, "sweep": {}, **more}), ["random", "greedy"], replications=3
        )
        for name, more in DESIGNS.items()
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("design", DESIGNS)
def test_a_kind_draws_any_design(studies, design, kind):
    drawn = np.ravel(np.asarray(draw(studies[design], kind), dtype=object))
    assert all(isinstance(ax, matplotlib.axes.Axes) for ax in drawn)
    assert 1 <= len(drawn) <= 12
    drawn[0].figure.draw_without_rendering()


def test_what_a_design_does_not_allow_is_replaced_and_said(studies):
    ax = draw(studies["one text"], "marginal")
    (legend,) = ax.figure.legends
    note = " ".join(legend.get_title().get_text().split())
    assert note.startswith("Makespans instead of savings: seconds saved per extra core need")
    assert ax.get_ylabel() == "makespan (s)"


def test_an_axis_that_was_not_swept_and_an_unknown_kind_are_refused(studies):
    for kind in ("comparison", "gap", "lines", "heatmap", "marginal"):
        with pytest.raises(PlotError, match=r"workload\.comm was not swept; swept are: device"):
            draw(studies["one number"], kind, "workload.comm")
    with pytest.raises(PlotError, match="kind must be one of comparison, gap"):
        draw(studies["two"], "pie")
    with pytest.raises(PlotError, match="no samples"):
        draw(Comparison(studies["two"].scenario, []), "heatmap")


def partial(made):
    """Take away the last point, and every run of one of the two policies."""
    last = repr(made.samples[-1].point)
    kept = [s for s in made.samples if repr(s.point) != last and s.policy == "random"]
    missing = [
        MissingRun(str(k), s.point, s.policy, "failed" if s.policy == "greedy" else "pending", "")
        for k, s in enumerate(made.samples)
        if repr(s.point) == last or s.policy == "greedy"
    ]
    return Comparison(made.scenario, kept, missing)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("design", ["one number", "two", "three", "sampled"])
def test_a_kind_draws_what_is_there_of_a_design_and_says_that_it_is_not_all(studies, design, kind):
    made = partial(studies[design])
    drawn = np.ravel(np.asarray(draw(made, kind), dtype=object))
    figure = drawn[0].figure
    figure.draw_without_rendering()
    texts = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    assert any(made.incomplete in text for text in texts)


def test_a_map_keeps_the_places_of_runs_without_a_result(studies):
    axes = draw(partial(studies["two"]), "heatmap")
    assert [ax.get_title(loc="left") for ax in axes] == ["random", "greedy"]
    for ax in axes:
        assert [text.get_text() for text in ax.get_xticklabels()] == ["2", "4"]
        assert [text.get_text() for text in ax.get_yticklabels()] == ["1:1", "2:1"]
    cells = [ax.collections[0].get_array() for ax in axes]
    assert [int(np.ma.count(cell)) for cell in cells] == [3, 0]


def test_marks_of_missing_runs_stand_below_every_value_and_beside_each_other(studies):
    made = partial(studies["one number"])
    for kind in ("comparison", "gap", "lines"):
        ax = draw(made, kind)
        ax.figure.draw_without_rendering()
        low, high = ax.get_ylim()
        marks = [line for line in ax.lines if line.get_label().endswith(("failed", "pending"))]
        places = {(float(mark.get_xdata()[0]), float(mark.get_ydata()[0])) for mark in marks}
        assert len(marks) == len(places) == 4
        foot = low + max(y for _, y in places) * (high - low)
        values = [s.makespans if kind != "gap" else 100 * s.gaps for s in made.samples]
        assert foot < min(value.min() for value in values)


def test_a_panel_without_two_neighbours_says_so():
    base = kdsim.load_scenario("paper-1to1").model_dump()
    base["workload"]["cycles"] = 2
    sweep = {"device.cores": [2, 4, 8], "workload.ratio": ["1:1", "2:1"]}
    made = kdsim.compare(scenario_from_data({**base, "sweep": sweep}), ["greedy"])
    kept = [
        s
        for s in made.samples
        if s.point["workload.ratio"] == "1:1" or s.point["device.cores"] == 2
    ]
    gone = [
        MissingRun("x", s.point, s.policy, "pending", "") for s in made.samples if s not in kept
    ]
    axes = draw(Comparison(made.scenario, kept, gone), "marginal")
    said = [[text.get_text() for text in ax.texts] for ax in axes]
    assert ["no two neighbouring values are finished" in texts for texts in said] == [False, True]
