"""A map is a comparison at every pair of values of two fields."""

import json

import numpy as np
import pytest
from front_door import call

import kdsim
from kdsim.answers.policy_map import Mark, policy_map
from kdsim.errors import ScenarioError
from kdsim.scenario.changes import with_fields


@pytest.fixture(scope="module")
def small():
    base = with_fields(kdsim.load_scenario("paper-1to1"), {"workload.cycles": 5})
    return base.model_copy(
        update={"sweep": {"device.cores": [2, 4], "workload.comm": [0.1, 1.0, 10.0]}}
    )


def test_every_cell_is_the_gap_of_a_run_there(small):
    made = policy_map(small, ["greedy", "comm-priority"])
    assert made.x.tolist() == [2, 4]
    for i, comm in enumerate(made.y):
        for j, cores in enumerate(made.x):
            point = {"device.cores": int(cores), "workload.comm": float(comm)}
            for name, gaps in made.gaps.items():
                run = kdsim.simulate(with_fields(small, point), name)
                assert gaps[i, j] == pytest.approx(run.gap, abs=1e-12)


def test_without_a_sweep_the_axes_are_data_per_compute_and_the_link():
    base = with_fields(kdsim.load_scenario("paper-1to1"), {"workload.cycles": 3})
    made = policy_map(base, ["comm-priority"])
    assert (made.x_field, made.y_field) == ("workload.ratio", "link.rate")
    assert made.x[[0, 8, 16]] == pytest.approx([0.01, 1.0, 100.0], rel=1e-4)
    needed = float(base.plan().comm.sum()) / kdsim.minimal_makespan(base).makespan
    assert made.y[8] == pytest.approx(needed, rel=1e-3)
    assert (made.gaps["comm-priority"] >= -1e-9).all()


def test_a_panel_per_policy_with_marks(small):
    places = [Mark("here", 3.0, 1.0), Mark("this many", 2.0, None), Mark("so much", None, 5.0)]
    axes = policy_map(small, ["greedy", "comm-priority"], marks=places).plot()
    assert [ax.get_title(loc="left") for ax in axes] == ["greedy", "comm-priority"]
    texts = {text.get_text() for text in axes[0].texts}
    assert {"here", "this many", "so much"} <= texts


def test_a_sampled_range_is_refused():
    from kdsim.scenario.study import Design, Range

    scenario = kdsim.load_scenario("paper-1to1")
    ranges = {"device.cores": Range(low=2, high=8), "workload.comm": Range(low=0.1, high=1)}
    design = Design(method="sobol", samples=4)
    with pytest.raises(ScenarioError, match="lists of values"):
        policy_map(scenario.model_copy(update={"sweep": ranges, "design": design}), ["greedy"])


def test_the_command_draws_and_prints(tmp_path):
    axes = ["--sweep", "device.cores=2,4", "--sweep", "workload.comm=log:0.1:10:3"]
    changes = ["--set", "workload.cycles=4"]
    made = call("map", "paper-1to1", *changes, *axes, "-p", "greedy", "-o", tmp_path / "m.png")
    assert made.code == 0, made.out
    assert "gap to the optimum over 6 points" in made.out
    assert (tmp_path / "m.png").exists()
    data = json.loads(call("map", "paper-1to1", *changes, *axes, "-p", "greedy", "--json").out)
    assert np.array(data["gaps"]["greedy"]).shape == (3, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sweep", "device.cores=2,4"], "two axes"),
        (["--mark", "a=b"], "NAME=X,Y"),
        (["--sweep", "device.cores=2", "--sweep", "device.cars=1,2"], "device.cars"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(arguments, words):
    result = call("map", "paper-1to1", *arguments)
    assert result.code == 2
    assert words in result.out + result.err
    assert "Traceback" not in result.out + result.err
