"""Sweeps: designs, resuming, failures, and tables that do not depend on how it went."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from swept import DEVICE, small

from kdsim.api import compare, sweep
from kdsim.engines.batch import makespans
from kdsim.errors import ScenarioError, StoreError, UnknownPolicyError
from kdsim.results.comparison import SUMMARY_COLUMNS
from kdsim.scenario.load import load_scenario
from kdsim.scenario.points import points
from kdsim.scenario.study import Extensions, Scenario
from kdsim.sweeps import driver as sweeps
from kdsim.sweeps.chunker import MAX_REPLICATIONS, Chunker
from kdsim.sweeps.ledger.store import Store
from kdsim.sweeps.task import Piece, Task


@pytest.fixture
def played(monkeypatch):
    """Count how often each replication of each run is played."""
    count: Counter[tuple[str, str, int]] = Counter()
    run = sweeps.execute

    def counting(task: Task) -> list:
        for piece in task.pieces:
            for replication in range(piece.start, piece.stop):
                count[str(piece.point), piece.policy, replication] += 1
        return run(task)

    monkeypatch.setattr(sweeps, "execute", counting)
    return count


# --- what a sweep is ------------------------------------------------------------------------------


def test_a_sweep_gives_the_rows_of_a_comparison():
    table = sweep(small())
    rows = compare(small()).frame
    assert table[[*rows.columns]].equals(rows)
    assert table["status"].tolist() == ["done"] * 9
    assert list(table.columns) == ["device.cores", *SUMMARY_COLUMNS, "status", "error", "run_id"]


def test_a_scenario_without_a_sweep_is_one_point():
    table = sweep(small(sweep={}))
    assert table["policy"].tolist() == ["random", "greedy", "optimal"]
    assert table["n"].tolist() == [6, 1, 1]


def test_points_share_their_random_numbers():
    table = sweep(small(sweep={"device.communication.b1": [0.3, 0.3000001]}), policies=["random"])
    assert table["mean"][0] == pytest.approx(table["mean"][1], rel=1e-5)
    swept = sweep(small(sweep={"seed": [0, 1]}), policies=["random"])
    assert swept["mean"][0] != pytest.approx(swept["mean"][1], rel=1e-5)


def test_a_run_id_tells_runs_apart_and_is_the_same_everywhere():
    study = small(sweep={"seed": [0, 1], "extensions.noise": [0.0, 0.1]})
    one = sweep(study)
    assert one["run_id"].is_unique
    assert one["run_id"].tolist() == sweep(study)["run_id"].tolist()
    random = one["policy"] == "random"
    more = sweep(study, replications=7)
    assert set(more["run_id"][random]).isdisjoint(one["run_id"])


@pytest.mark.parametrize("method", ["latin-hypercube", "sobol"])
def test_a_sampled_design_fills_its_ranges_and_depends_on_the_seed_alone(method):
    def study(seed: int) -> Scenario:
        return small(
            seed=seed,
            sweep={
                "device.cores": {"low": 2, "high": 9},
                "extensions.noise": {"low": 0.01, "high": 1.0, "scale": "log"},
            },
            design={"method": method, "samples": 16},
        )

    values = [point.values for point in points(study(0))]
    assert values == [point.values for point in points(study(0))]
    assert values != [point.values for point in points(study(1))]
    cores = [v["device.cores"] for v in values]
    noises = [v["extensions.noise"] for v in values]
    assert all(isinstance(c, int) and 2 <= c <= 9 for c in cores)
    assert all(0.01 <= noise <= 1.0 for noise in noises)
    assert sum(noise < 0.1 for noise in noises) == 8  # half of a log range


def test_a_point_that_comes_twice_is_run_once():
    table = sweep(small(sweep={"device.cores": [2, 2, 3]}))
    assert table["device.cores"].tolist() == [2] * 3 + [3] * 3


# --- resuming -------------------------------------------------------------------------------------


def test_a_finished_sweep_plays_nothing_again(tmp_path, played):
    first = sweep(small(), tmp_path / "s.sqlite")
    assert set(played.values()) == {1}
    played.clear()
    assert sweep(small(), tmp_path / "s.sqlite").equals(first)
    assert not played


def test_more_replications_play_only_those_that_are_missing(tmp_path, played):
    sweep(small(), tmp_path / "s.sqlite")
    played.clear()
    table = sweep(small(replications=9), tmp_path / "s.sqlite")
    assert sorted({replication for _, _, replication in played}) == [6, 7, 8]
    assert {policy for _, policy, _ in played} == {"random"}
    assert table.equals(sweep(small(replications=9)))


def test_fewer_replications_leave_what_is_there(tmp_path, played):
    first = sweep(small(), tmp_path / "s.sqlite")
    played.clear()
    assert sweep(small(replications=2), tmp_path / "s.sqlite").equals(first)
    assert not played


def test_more_points_and_policies_play_only_those_and_stand_in_order(tmp_path, played):
    sweep(small(sweep={"device.cores": [2, 4]}, policies=["random"]), tmp_path / "s.sqlite")
    played.clear()
    table = sweep(small(), tmp_path / "s.sqlite")
    assert set(played.values()) == {1}
    assert not {key for key in played if key[1] == "random" and "3" not in key[0]}
    assert table.equals(sweep(small()))


def test_policies_of_an_earlier_sweep_stay_in_the_table(tmp_path):
    sweep(small(), tmp_path / "s.sqlite")
    table = sweep(small(), tmp_path / "s.sqlite", policies=["static:1"])
    assert table["policy"].tolist() == ["random", "greedy", "optimal", "static:1"] * 3


def test_an_interrupted_sweep_keeps_what_is_complete_and_goes_on(tmp_path, monkeypatch):
    whole = sweep(small(replications=40))
    run, calls = sweeps.execute, []

    def interrupted(task: Task) -> list:
        calls.append(task)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(task)

    with monkeypatch.context() as patch:
        patch.setattr(sweeps, "execute", interrupted)
        patch.setattr("kdsim.sweeps.chunker.MAX_PIECES", 1)
        with pytest.raises(KeyboardInterrupt):
            sweep(small(replications=40), tmp_path / "s.sqlite")
    with Store.open(tmp_path / "s.sqlite") as store:
        assert store.state().done == 2
    assert sweep(small(replications=40), tmp_path / "s.sqlite").equals(whole)


# --- failures -------------------------------------------------------------------------------------


def test_a_failing_run_is_a_row_and_harms_no_other(own_policies):
    name = f"{own_policies}:FailsOnThree"
    table = sweep(small(), policies=["random", name, "optimal"])
    failed = table[table["status"] == "failed"]
    assert failed[["device.cores", "policy"]].to_numpy().tolist() == [[3, name]]
    assert "ValueError: three is too many" in failed["error"].iloc[0]
    assert failed["mean"].isna().all()
    sound = sweep(small())
    for policy in ("random", "optimal"):
        ours = table[table["policy"] == policy]["mean"].tolist()
        assert ours == sound[sound["policy"] == policy]["mean"].tolist()


def test_an_illegal_combination_is_a_failed_row():
    # Each value is legal beside the scenario's others; three cores and this slope are not.
    study = small(
        device={**DEVICE, "cores": 2, "reference_cores": 2, "compute": {"a1": 1.0, "a2": 0.5}},
        sweep={"device.cores": [2, 3], "device.compute.a2": [0.5, 0.9]},
    )
    table = sweep(study)
    by_point = table.groupby(["device.cores", "device.compute.a2"])["status"].unique()
    assert {key: value.tolist() for key, value in by_point.items()} == {
        (2, 0.5): ["done"], (2, 0.9): ["done"], (3, 0.5): ["done"], (3, 0.9): ["failed"],
    }  # fmt: skip
    assert "a2" in table["error"].iloc[-1]


def test_an_unknown_policy_is_refused_before_anything_runs(tmp_path, own_policies, played):
    with pytest.raises(UnknownPolicyError, match="did you mean 'Half'"):
        sweep(small(), tmp_path / "s.sqlite", policies=["random", f"{own_policies}:Halv"])
    with pytest.raises(UnknownPolicyError, match="no module named"):
        sweep(small(), policies=["no_such_module:Half"])
    with pytest.raises(ScenarioError, match="did you mean 'greedy'"):
        sweep(small(), policies=["gredy"])
    with pytest.raises(ScenarioError, match="by name"):
        sweep(small(), policies=[object])
    assert not played


def test_a_policy_that_cannot_be_made_fails_its_own_runs_only(own_policies):
    table = sweep(small(), policies=["optimal", f"{own_policies}:Unmakeable"])
    assert table["status"].tolist() == ["done", "failed"] * 3
    assert "not today" in table["error"].iloc[1]


def test_failed_runs_are_played_again_only_on_request(tmp_path, own_policies, played):
    own = {"policies": [f"{own_policies}:FailsOnThree"]}
    first = sweep(small(), tmp_path / "s.sqlite", **own)
    played.clear()
    assert sweep(small(), tmp_path / "s.sqlite", **own).equals(first)
    assert not played
    assert sweep(small(), tmp_path / "s.sqlite", **own, retry=True).equals(first)
    assert {point for point, _, _ in played} == {'{"device.cores": 3}'}


def test_results_of_a_policy_that_has_changed_are_not_mixed(tmp_path, own_policies):
    own = {"policies": [f"{own_policies}:Half"]}
    sweep(small(), tmp_path / "s.sqlite", **own)
    source = tmp_path / f"{own_policies}.py"
    source.write_text(source.read_text().replace("total_cores // 2", "total_cores // 3"))
    with pytest.raises(StoreError, match=r"code of policy .*has changed"):
        sweep(small(), tmp_path / "s.sqlite", **own)
    with Store.open(tmp_path / "s.sqlite") as store:
        assert store.state().done == 3


# --- tables do not depend on how it went ----------------------------------------------------------


@pytest.mark.parametrize(
    "extensions",
    [{}, {"noise": 0.4}, {"noise": 0.4, "release": 1.0}, {"noise": 0.4, "prefetch": 2}],
)
@pytest.mark.parametrize("policy", ["random", "greedy", "optimal"])
def test_pieces_of_a_run_are_bitwise_its_whole(policy, extensions, monkeypatch):
    scenario = load_scenario("paper-1to1").model_copy(
        update={"sweep": {}, "extensions": Extensions(**extensions)}
    )
    whole, bounds = makespans(scenario, policy, 0, 700)
    # A worker that has not yet loaded the compiled engine gives small pieces to SimPy.
    monkeypatch.delitem(sys.modules, "kdsim.engines.kernels")
    for start, stop in ((0, 30), (30, 60), (60, 700)):
        part, lower = makespans(scenario, policy, start, stop)
        assert part.tobytes() == whole[start:stop].tobytes()
        expected = bounds[start:stop] if extensions else bounds
        assert lower.tobytes() == expected.tobytes()


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 2000)), min_size=1, max_size=30),
    rates=st.lists(st.floats(1e-9, 10.0), min_size=1, max_size=5),
    workers=st.integers(1, 8),
)
def test_tasks_hold_every_replication_once_whatever_was_measured(sizes, rates, workers):
    pieces = [
        Piece(str(i), "{}", "m:Own" if i % 2 else "random", "", 0, n, cycles)
        for i, (n, cycles) in enumerate(sizes)
    ]
    units = {"random": float(sum(n * cycles for n, cycles in sizes))}
    chunker = Chunker("{}", pieces, units=units, workers=workers)
    seen: dict[str, list[int]] = {p.run_id: [] for p in pieces}
    for i, task in enumerate(chunker):
        assert 0 < sum(p.stop - p.start for p in task.pieces) <= MAX_REPLICATIONS
        for piece in task.pieces:
            seen[piece.run_id] += range(piece.start, piece.stop)
            work = (piece.stop - piece.start) * piece.cycles
            chunker.learn(piece, rates[i % len(rates)] * work)
    assert seen == {p.run_id: list(range(p.stop)) for p in pieces}


def test_progress_counts_replications_and_ends_at_the_total(tmp_path):
    seen: list[tuple[int, int]] = []
    sweep(small(), tmp_path / "s.sqlite", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (24, 24)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    seen.clear()
    sweep(
        small(replications=9),
        tmp_path / "s.sqlite",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (33, 33)
    assert seen[0][0] > 24


def test_paired_differences_come_from_the_store(tmp_path):
    sweep(small(extensions={"noise": 0.2}), tmp_path / "s.sqlite")
    with Store.open(tmp_path / "s.sqlite") as store:
        rows = store.comparison().differences("optimal")
        samples = {(s.point["device.cores"], s.policy): s.makespans for s in store.samples()}
    for row in rows:
        a, b = samples[row["device.cores"], row["policy"]], samples[row["device.cores"], "optimal"]
        assert row["n"] == 6
        assert row["mean"] == pytest.approx(np.mean(a - b))


@pytest.mark.parametrize("more", [1, 2, 4, 6])
def test_differences_pair_the_replications_that_both_policies_have(tmp_path, more):
    noisy = small(extensions={"noise": 0.2})
    sweep(noisy, tmp_path / "s.sqlite", policies=["random"])
    sweep(noisy, tmp_path / "s.sqlite", policies=["greedy"], replications=more)
    with Store.open(tmp_path / "s.sqlite") as store:
        rows = store.comparison().differences("random")
        samples = {(s.point["device.cores"], s.policy): s.makespans for s in store.samples()}
    assert [row["n"] for row in rows] == [more] * 3
    for row in rows:
        cores = row["device.cores"]
        pairs = samples[cores, "greedy"] - samples[cores, "random"][:more]
        assert row["mean"] == pytest.approx(np.mean(pairs))
        assert (row["ci_method"] == "none") == (more == 1)


def test_differences_leave_out_points_at_which_the_reference_failed(tmp_path, own_policies):
    reference = f"{own_policies}:FailsOnThree"
    sweep(small(), tmp_path / "s.sqlite", policies=["optimal", reference])
    with Store.open(tmp_path / "s.sqlite") as store:
        rows = store.comparison().differences(reference)
    assert [row["device.cores"] for row in rows] == [2, 4]
