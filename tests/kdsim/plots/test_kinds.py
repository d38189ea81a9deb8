"""Every kind of figure works on every study, without a flag."""

import matplotlib.axes
import numpy as np
import pytest

import kdsim
from kdsim.errors import PlotError
from kdsim.plots.kinds import KINDS, draw
from kdsim.results.comparison import Comparison
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
