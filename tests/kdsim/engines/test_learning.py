"""Accuracy of real runs against simulated time."""

import json

import numpy as np
import pytest
from front_door import call
from hypothesis import given, settings
from hypothesis import strategies as st

import kdsim
from kdsim.api import learning_curves
from kdsim.errors import ScenarioError
from kdsim.model.bound.optimum import minimal_makespan
from kdsim.scenario.changes import with_fields
from kdsim.scenario.files.faults import FaultyFileError
from kdsim.scenario.load import load_scenario
from kdsim.scenario.parts.profile import read_profile
from kdsim.scenario.validate import scenario_from_data

HEADER = "cycle,epoch,downlink_bytes,forward_s,backward_s,cores,frozen_layers,accuracy\n"


def write(path, rows, **header):
    """Write a profile of (comm MB, forward s, backward s, accuracy or None) rows."""
    text = "".join(f"# {key}: {value}\n" for key, value in header.items()) + HEADER
    for i, (comm, forward, backward, accuracy) in enumerate(rows, 1):
        told = "" if accuracy is None else accuracy
        text += f"{i},1,{comm * 1e6!r},{forward!r},{backward!r},1,0,{told}\n"
    path.write_text(text)
    return path


def with_work(device, comm, forward, backward):
    """Return the device's scenario with other work."""
    data = {name: getattr(device, name) for name in ("name", "device", "policies", "extensions")}
    amounts = {"comm": comm, "forward": forward, "backward": backward}
    work = {name: amount.tolist() for name, amount in amounts.items()}
    return scenario_from_data({**data, "workload": {"cycles": len(comm), **work}})


#: Two epochs of three cycles; each exchanges, computes and learns something.
ROWS = [(1.0, 0.5, 0.25, 0.6 + 0.02 * i if i % 3 == 2 else None) for i in range(6)]


@pytest.fixture
def profile(tmp_path):
    return write(tmp_path / "run.csv", ROWS, workload="aflkd", method="mine", seed=0)


def test_a_profile_is_read_with_its_header_and_accuracies(profile):
    read = read_profile(profile)
    assert read.header == {"workload": "aflkd", "method": "mine", "seed": "0"}
    assert read.marks.tolist() == [3, 6]
    np.testing.assert_allclose(read.accuracies, [0.64, 0.7])
    assert read.lines == (5, 6, 7, 8, 9, 10)


@pytest.mark.parametrize("cell", ["1.5", "-0.1", "nan", "good"])
def test_an_accuracy_that_is_none_is_told_with_its_line(cell, tmp_path):
    path = write(tmp_path / "run.csv", [(1.0, 1.0, 1.0, cell)])
    with pytest.raises(FaultyFileError, match=r"run\.csv:2:1: accuracy: must be empty or a number"):
        read_profile(path)


works = st.one_of(st.just(0.0), st.floats(0.01, 4.0))
rows_with_marks = st.lists(st.tuples(works, works, works, st.booleans()), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(
    rows=rows_with_marks,
    policy=st.sampled_from(["comm-priority", "greedy", "greedy-full", "static:2", "optimal"]),
    prefetch=st.sampled_from([None, 1, 3]),
)
def test_moments_are_the_ends_of_backward_and_never_before_the_bound(
    rows, policy, prefetch, tmp_path_factory
):
    rows = [(c, f, b, 0.5 if told else None) for c, f, b, told in rows]
    rows[-1] = (1.0, *rows[-1][1:3], 0.5)
    path = write(tmp_path_factory.mktemp("learning") / "run.csv", rows)
    device = with_fields(load_scenario("paper-1to1"), {"extensions.prefetch": prefetch})
    (curve,) = learning_curves(device, [path], [policy], profile_rate=1.0).curves
    # The amounts as read: greedy's decisions do not survive a change of the last bit.
    work = read_profile(path).work(device.device, 1.0)
    comm, forward, backward = (np.array(work[name]) for name in ("comm", "forward", "backward"))
    run = kdsim.simulate(with_work(device, comm, forward, backward), policy)
    table = run.timeline
    for mark, moment in zip(curve.cycles, curve.seconds[0], strict=True):
        # All work up to this mark is done, and its own Backward ends here.
        upto = table[table["stage"].eq("backward") & table["comp"].le(mark)]
        if backward[mark - 1] > 0:
            assert moment == upto["end"].max()
        else:
            assert moment >= upto["end"].max() if len(upto) else moment >= 0.0
    assert curve.seconds[0, -1] == pytest.approx(run.makespan, rel=1e-12)
    assert (np.diff(curve.seconds[0]) >= 0).all()
    assert (curve.seconds >= curve.bounds * (1 - 1e-12)).all()
    if policy == "optimal":
        assert curve.seconds[0, -1] == pytest.approx(curve.bounds[0, -1], rel=1e-12)


def test_the_bound_of_each_mark_is_the_optimum_of_the_cycles_up_to_it(profile):
    curves = learning_curves("paper-1to1", [profile], ["optimal"], profile_rate=1.0)
    device = load_scenario("paper-1to1")
    for cycles, bound in zip((3, 6), curves.curves[0].bounds[0], strict=True):
        part = with_work(device, *(np.full(cycles, amount) for amount in (1.0, 0.5, 0.25)))
        assert bound == minimal_makespan(part.plan()).makespan
    assert curves.bound_kind == "optimum"


def test_random_policies_and_noise_are_replicated_with_paired_bounds(profile):
    device = with_fields(load_scenario("paper-1to1"), {"extensions.noise": 0.2})
    found = learning_curves(device, [profile], ["random", "optimal"], replications=12, seed=5)
    for curve in found.curves:
        assert curve.seconds.shape == curve.bounds.shape == (12, 2)
        assert (curve.seconds >= curve.bounds * (1 - 1e-12)).all()
        assert curve.at(0).n == 12
        assert curve.at(0).method == "t"
    assert found.scenario.seed == 5
    assert len(np.unique(found.curves[0].bounds[:, 0])) == 12


def test_the_scenarios_own_replications_count_up_to_a_hundred(profile):
    found = learning_curves("paper-1to1", [profile], ["random", "greedy"], profile_rate=1.0)
    assert [curve.seconds.shape[0] for curve in found.curves] == [100, 1]
    assert found.curves[1].at(1).method == "exact"


def test_a_faster_host_makes_more_work(profile):
    slow, fast = (
        learning_curves("paper-1to1", [profile], ["optimal"], profile_rate=rate)
        for rate in (1.0, 10.0)
    )
    assert fast.curves[0].seconds[0, 0] > slow.curves[0].seconds[0, 0]


def test_what_is_reached_is_told_and_what_is_not(tmp_path):
    high = write(tmp_path / "high.csv", ROWS, method="high")
    low = write(tmp_path / "low.csv", [(*row[:3], row[3] and 0.5) for row in ROWS], method="low")
    found = learning_curves("paper-1to1", [high, low], ["greedy"], profile_rate=1.0)
    assert found.common_accuracy == 0.5
    assert [row["cycle"] for row in found.reached()] == [3, 3]
    first, second = found.reached(0.65)
    assert (first["profile"], first["cycle"], first["accuracy"]) == ("high", 6, 0.7)
    assert first["late"] == pytest.approx(first["mean"] / first["bound"] - 1)
    assert (second["profile"], second["mean"], second["late"]) == ("low", None, None)
    assert list(found.frame.columns[:4]) == ["profile", "policy", "cycle", "accuracy"]
    assert len(found.frame) == 4


def test_profiles_are_named_by_what_tells_them_apart(tmp_path):
    def names(*profiles):
        found = learning_curves("paper-1to1", profiles, ["greedy"], profile_rate=1.0)
        return [curve.profile for curve in found.curves]

    a = write(tmp_path / "a.csv", ROWS, method="mine", seed=0)
    b = write(tmp_path / "b.csv", ROWS, method="yours", seed=0)
    c = write(tmp_path / "c.csv", ROWS, method="mine", seed=1)
    d = write(tmp_path / "d.csv", ROWS, method="mine", seed=1)
    assert names(a, b) == ["mine", "yours"]
    assert names(a, c) == ["mine, seed 0", "mine, seed 1"]
    assert names(c, d) == ["c", "d"]
    assert names(write(tmp_path / "plain.csv", ROWS)) == ["plain"]


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ([], {}, "must be a list of cost profiles"),
        (["run.csv"], {"policies": "greedy"}, "must be a list of policies"),
        (["run.csv"], {"seed": -1}, "seed: must be"),
        (["run.csv"], {"replications": 2.5}, "replications: must be"),
        (["run.csv"], {"profile_rate": float("nan")}, "profile_rate: must be positive"),
        (["run.csv"], {"profile_rate": -1.0}, "profile_rate: must be positive"),
        (["silent.csv"], {}, "no cycle has an accuracy"),
        (["absent.csv"], {}, "absent.csv"),
        (["run.csv"], {"replications": 0}, "replications: must be a whole number, at least 1"),
        (["run.csv"], {"policies": ["gredy"]}, "greedy"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, options, said, profile):
    write(profile.parent / "silent.csv", [(1.0, 1.0, 1.0, None)])
    with pytest.raises(kdsim.KdsimError, match=said):
        learning_curves("paper-1to1", [profile.parent / name for name in arguments], **options)


def test_one_path_is_no_list_and_a_policy_named_twice_is_one(profile):
    with pytest.raises(ScenarioError, match="must be a list of cost profiles"):
        learning_curves("paper-1to1", str(profile))
    found = learning_curves("paper-1to1", [profile], ["greedy", "greedy"])
    assert len(found.curves) == 1
    for target in (float("nan"), 1.5):
        with pytest.raises(ScenarioError, match=r"target: must lie in \[0, 1\]"):
            found.reached(target)


def test_a_profile_of_more_cores_than_the_curves_know_asks_for_its_rate(profile):
    profile.write_text(profile.read_text().replace(",1,0,", ",64,0,"))
    with pytest.raises(ScenarioError, match="recorded on 64 compute cores"):
        learning_curves("paper-1to1", [profile])
    assert learning_curves("paper-1to1", [profile], ["greedy"], profile_rate=2.0).curves


def test_the_command_prints_draws_and_gives_json(profile, tmp_path):
    asked = ("learning", "paper-1to1", profile, "-p", "greedy", "-p", "optimal")
    figure = tmp_path / "accuracy.png"
    answer = call(*asked, "-o", figure)
    assert answer.code == 0, answer.err
    assert "paper-1to1, 8 cores: seconds until test accuracy 70.0 %" in answer.out
    assert figure.read_bytes().startswith(b"\x89PNG")
    data = json.loads(call(*asked, "--target", "0.64", "--json").out)
    assert [row["cycle"] for row in data["rows"]] == [3, 6, 3, 6]
    assert [row["cycle"] for row in data["reached"]] == [3, 3]
    missed = call(*asked, "--target", "0.9")
    assert missed.code == 0
    assert "not reached" in missed.out
    assert json.loads(call(*asked, "--target", "0.9", "--json").out)["reached"][0]["mean"] is None


def test_the_command_refuses_bad_input_in_one_line(profile):
    for arguments, said in (
        (("paper-1to1", "absent.csv"), "absent.csv"),
        (("paper-1to1", profile, "-p", "gredy"), "did you mean 'greedy'"),
        (("paper-1to1", profile, "-o", "figure.xyz"), "figures are written as"),
        (("nowhere", profile), "no such file"),
    ):
        answer = call("learning", *arguments)
        assert answer.code == 2
        assert said in answer.err
        assert "Traceback" not in answer.err


def test_each_profile_has_its_panel_with_the_same_axes(tmp_path):
    paths = [write(tmp_path / f"{m}.csv", ROWS, method=m) for m in ("a", "b")]
    found = learning_curves("paper-1to1", paths, ["random", "optimal"], replications=5)
    axes = found.plot()
    assert [ax.get_title(loc="left") for ax in axes] == ["a", "b"]
    assert axes[0].get_xlim() == axes[1].get_xlim()
    assert axes[0].get_xlabel() == "simulated time (s)"
    assert axes[0].get_ylabel() == "test accuracy (%)"
    drawn = axes[0].get_lines()[0]
    np.testing.assert_allclose(drawn.get_xdata(), found.curves[0].seconds.mean(axis=0))
    np.testing.assert_allclose(drawn.get_ydata(), [64.0, 70.0])
    with pytest.raises(kdsim.KdsimError, match="2 panels"):
        found.plot(ax=axes[0])


def test_what_was_sent_is_stated_and_not_simulated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    columns = "downlink_bytes,uplink_bytes,forward_s,backward_s,cores,accuracy\n"
    (tmp_path / "sent.csv").write_text(columns + "2000000,500000,0.5,1,1,\n0,250000,0.5,1,1,0.9\n")
    old = columns.replace("downlink_bytes,uplink_bytes", "comm_bytes")
    (tmp_path / "old.csv").write_text(old + "2000000,0.5,1,1,\n0,0.5,1,1,0.9\n")
    found = learning_curves("measured", ["sent.csv", "old.csv"], ["greedy"])
    assert [(t.received_mb, t.sent_mb) for t in found.traffic] == [(2.0, 0.75), (2.0, None)]
    times = [curve.seconds.tolist() for curve in found.curves]
    assert times[0] == times[1]
