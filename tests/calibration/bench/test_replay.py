from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from synthetic_traces import synthetic

from calibration.bench.bench import Bench, BenchSettings, Event
from calibration.bench.replay import LiveRun, Task, replay
from calibration.bench.start import TeacherProcess
from calibration.commands.calibrate import command
from calibration.fit import fit_trace
from calibration.machine.cores import take_cores
from calibration.trace import Trace, write_trace
from calibration.validation import validate
from calibration.validation.plots import timeline_figure, validation_figure
from kdsim import Decision, Policy, simulate
from kdsim.errors import KdsimError, PolicyError, WorkloadError
from kdsim.model.plan import Plan

TINY = {"batch": 8, "channels": [2, 4], "classes": 100}


class IdealBench:
    """A bench whose tasks take exactly as long as a plan's rates say, on a clock of its own."""

    def __init__(self, plan, clock):
        self.plan, self.clock = plan, clock
        self.total_cores = plan.c_total
        self.split = 0
        self.left = {}
        self.work = {}
        self.begun = {}
        self.count = {"forward": 0, "backward": 0}
        self.log = []

    def set_split(self, comm_cores):
        self.split = comm_cores

    def _start(self, side, task, work):
        self.left[side] = self.work[side] = work
        self.begun[side] = (task, self.clock.now)

    def start_comm(self, mb):
        self._start("comm", "comm", mb)

    def start_forward(self, batches):
        self._start("comp", "forward", float(self.plan.forward[self.count["forward"]]))
        self.count["forward"] += 1

    def start_backward(self, batches):
        self._start("comp", "backward", float(self.plan.backward[self.count["backward"]]))
        self.count["backward"] += 1

    def comm_progress(self):
        return 1.0 - self.left["comm"] / self.work["comm"] if "comm" in self.left else 0.0

    def comp_progress(self):
        return 1.0 - self.left["comp"] / self.work["comp"] if "comp" in self.left else 0.0

    def next_event(self, timeout_s=None):
        rates = {
            "comm": self.plan.comm_rates[self.split],
            "comp": self.plan.comp_rates[self.split],
        }
        times = {s: self.left[s] / rates[s] if rates[s] > 0 else np.inf for s in self.left}
        step = min(times.values(), default=np.inf)
        if timeout_s is not None and step > timeout_s + 1e-12:
            for side in self.left:
                self.left[side] -= rates[side] * timeout_s
            self.clock.now += timeout_s
            return None
        side = min(times, key=times.get)
        for other in self.left:
            self.left[other] = max(self.left[other] - rates[other] * step, 0.0)
        self.clock.now += step
        del self.left[side]
        task, start = self.begun.pop(side)
        return Event(task, self.work[side], start, self.clock.now)


class Clock:
    now = 100.0

    def perf_counter(self):
        return self.now


def ideal_replay(monkeypatch, plan, policy, **kwargs):
    clock = Clock()
    monkeypatch.setattr("calibration.bench.replay.time", clock)
    return replay(IdealBench(plan, clock), plan, [1] * plan.cycles, policy, **kwargs)


WORK = [(1.0, 1.0, 1.0), (3.0, 0.5, 0.7), (0.5, 2.0, 1.0), (1.3, 0.9, 1.1)]


def plan_of(total):
    comm, forward, backward = (np.array(column) for column in zip(*WORK, strict=True))
    c = np.arange(total + 1.0)
    return Plan(comm, forward, backward, c**0.8, (total - c) ** 0.9)


@pytest.mark.parametrize("total", [2, 4, 7])
@pytest.mark.parametrize(
    "policy",
    ["random", "comm-priority", "comp-priority", "greedy", "greedy-full", "static:1", "optimal"],
)
def test_on_an_ideal_device_the_live_loop_is_the_simulation(monkeypatch, policy, total):
    """The controller follows the model: same work, same rates, same draws, same makespan."""
    plan = plan_of(total)
    own = list(range(1, total + 1))
    from kdsim.scenario.study import Scenario

    scenario = Scenario.model_validate(
        {
            "name": "ideal",
            "device": {
                "cores": total,
                "compute": {"model": "table", "cores": own,
                            "rates": plan.comp_rates[::-1][1:].tolist()},
                "communication": {"model": "table", "cores": own,
                                  "rates": plan.comm_rates[1:].tolist()},
            },
            "workload": {"cycles": plan.cycles, "comm": plan.comm.tolist(),
                         "forward": plan.forward.tolist(), "backward": plan.backward.tolist()},
        }
    )  # fmt: skip
    run = simulate(scenario, policy, seed=3, replication=2)
    live = ideal_replay(monkeypatch, plan, policy, seed=3, replication=2)
    assert live.makespan == pytest.approx(run.makespan, rel=1e-9)
    assert live.task_ends("comm") == pytest.approx(list(run.comm_ends), rel=1e-9)
    assert live.task_ends("forward") == pytest.approx(list(run.forward_ends), rel=1e-9)
    assert validate.worst_task_error(run, live) < 1e-9


def test_precedence_holds_in_the_live_loop(monkeypatch):
    live = ideal_replay(monkeypatch, plan_of(4), "random", seed=1)
    by = {(t.kind, t.cycle): t for t in live.tasks}
    assert len(by) == 3 * len(WORK)
    for i in range(len(WORK)):
        assert by["backward", i].start >= by["comm", i].end - 1e-12
        assert by["backward", i].start >= by["forward", i].end - 1e-12
    for kind in ("comm", "forward", "backward"):
        for a, b in itertools.pairwise(t for t in live.tasks if t.kind == kind):
            assert b.start >= a.end - 1e-12


def test_prefetch_holds_communication_back(monkeypatch):
    plan = plan_of(4)
    held = Plan(
        plan.comm, plan.forward, plan.backward, plan.comm_rates, plan.comp_rates, prefetch=1
    )
    live = ideal_replay(monkeypatch, held, "comm-priority")
    by = {(t.kind, t.cycle): t for t in live.tasks}
    for i in range(1, len(WORK)):
        assert by["comm", i].start >= by["backward", i - 1].end - 1e-12


def test_training_without_a_teacher_receives_nothing(monkeypatch):
    plan = plan_of(4)
    alone = plan.with_work(np.zeros(4), plan.forward, plan.backward)
    live = ideal_replay(monkeypatch, alone, "greedy")
    assert live.task_ends("comm") == []
    assert {c for _, c in live.splits} == {0}


class Half(Policy):
    name = "another name than the reference"

    def decide(self, state):
        return Decision(state.total_cores // 2)


def test_a_run_goes_by_the_name_that_was_asked_for(monkeypatch):
    assert ideal_replay(monkeypatch, plan_of(4), f"{__name__}:Half").policy == f"{__name__}:Half"
    assert ideal_replay(monkeypatch, plan_of(4), Half()).policy == Half.name


def test_a_policy_that_answers_nonsense_ends_the_loop(monkeypatch):
    class Wild(Policy):
        name = "wild"

        def decide(self, state):
            return Decision(99)

    with pytest.raises(PolicyError, match="wild answered comm_cores = 99"):
        ideal_replay(monkeypatch, plan_of(4), Wild())


def test_the_real_loop_runs_under_a_policy_to_the_end():
    total = len(take_cores(None))
    c = np.arange(total + 1.0)
    with TeacherProcess(spec={"chunks": 2, "chunk_rows": 64}) as teacher:
        n, mb = 3, 4 * teacher.chunk_mb
        plan = Plan(np.full(n, mb), np.full(n, 1.0), np.full(n, 1.0), 400 * c, 100 * (total - c))
        settings = BenchSettings(cores=take_cores(None), student_spec=TINY, timeout_s=30)
        with Bench(settings, teacher) as bench:
            live = replay(bench, plan, [2] * n, "greedy")
    assert [t.cycle for t in live.tasks if t.kind == "backward"] == [0, 1, 2]
    assert live.makespan == max(t.end for t in live.tasks) > 0
    for i in range(n):
        ends = {t.kind: t for t in live.tasks if t.cycle == i}
        assert ends["backward"].end > ends["comm"].end


# --- the verdict ----------------------------------------------------------------------------------


def predicted_as_measured(fit, settings, factor=1.0):
    """Real runs that the simulation predicts exactly, but for a factor."""
    runs = []
    for workload in settings.workloads:
        scenario = validate.scenario_of(fit, workload, 0.256)
        for policy in settings.policies:
            for number in range(settings.runs):
                run = simulate(scenario, policy, seed=settings.seed, replication=number)
                starts = zip(run.backward_starts, [*run.backward_starts[1:], run.makespan],
                             strict=True)  # fmt: skip
                tasks = [
                    *(Task("comm", i, 0.0, e * factor) for i, e in enumerate(run.comm_ends)),
                    *(Task("forward", i, 0.0, e * factor) for i, e in enumerate(run.forward_ends)),
                    *(Task("backward", i, a * factor, b * factor)
                      for i, (a, b) in enumerate(starts)),
                ]  # fmt: skip
                runs.append(
                    (workload, LiveRun(policy, settings.seed, number, run.makespan * factor,
                                       tuple(tasks), ((0.0, 1),), 1))
                )  # fmt: skip
    return runs


SETTINGS = validate.ValidationSettings(
    policies=("random", "comm-priority", "greedy", "optimal"),
    workloads=(validate.Workload("1:1", 4), validate.Workload("2:1", 4)),
    runs=2,
)


@pytest.fixture(scope="module")
def fitted():
    return fit_trace(synthetic(4, noise=0.01), bootstrap=20)


def test_a_perfect_prediction_has_no_error_and_the_right_ranking(fitted):
    result = validate.judge(fitted, SETTINGS, predicted_as_measured(fitted, SETTINGS), 0.256)
    assert result.summary["worst_absolute_error"] < 1e-9
    assert set(result.summary["kendall_tau"].values()) == {1.0}
    assert result.summary["pairs_in_order"] == result.summary["pairs_separated"]
    assert len(result.table) == 8
    assert (result.table["predicted_low"] <= result.table["predicted_high"]).all()
    assert (result.table["worst_task_error"] < 1e-9).all()


def test_an_error_is_signed_predicted_against_measured(fitted):
    runs = predicted_as_measured(fitted, SETTINGS, factor=1.25)
    result = validate.judge(fitted, SETTINGS, runs, 0.256)
    np.testing.assert_allclose(result.table["error"], -0.2, rtol=1e-9)
    assert result.summary["median_absolute_error"] == pytest.approx(0.2)


def test_pairs_count_only_where_measured_intervals_separate():
    table = pd.DataFrame(
        {
            "workload": "1:1",
            "policy": ["a", "b", "c"],
            "measured": [1.0, 1.05, 2.0],
            "measured_low": [0.9, 0.95, 1.9],
            "measured_high": [1.1, 1.15, 2.1],
            "predicted": [1.2, 1.0, 1.1],
            "error": [0.2, -0.05, -0.45],
        }
    )
    summary = validate.summarise(table)
    assert summary["pairs_separated"] == 2
    assert summary["pairs_in_order"] == 1


def test_a_validation_can_be_drawn(fitted):
    result = validate.judge(fitted, SETTINGS, predicted_as_measured(fitted, SETTINGS), 0.256)
    (ax,) = validation_figure(result).axes
    assert "measured makespan (s)" in ax.get_xlabel()
    figure = timeline_figure(result, policies=2)
    assert [ax.get_title(loc="left").split(":")[0] for ax in figure.axes] == [
        "measured", "predicted", "measured", "predicted",
    ]  # fmt: skip


def test_runs_are_interleaved_round_by_round():
    order = validate._order(SETTINGS)
    cells = len(SETTINGS.policies) * len(SETTINGS.workloads)
    assert len(order) == cells * SETTINGS.runs
    for number in range(SETTINGS.runs):
        part = order[number * cells : (number + 1) * cells]
        assert {(w.time_ratio, p) for w, p, _ in part} == {
            (w.time_ratio, p) for w in SETTINGS.workloads for p in SETTINGS.policies
        }
        assert {n for _, _, n in part} == {number}


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        (
            {"policies": ("greedy", "greedy")},
            WorkloadError,
            "policies must be given, and each once",
        ),
        ({"policies": ()}, WorkloadError, "policies must be given"),
        ({"workloads": (validate.Workload("1:1"),) * 2}, WorkloadError, "workloads must be given"),
        ({"policies": ("greedy", "gredy")}, PolicyError, "did you mean 'greedy'"),
        ({"policies": ("greedy", "static:99")}, PolicyError, "asks for 99 communication cores"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is(changes, error, said, monkeypatch):
    monkeypatch.setattr(validate, "_one_run", lambda *_: pytest.fail("a run was made"))
    total = len(take_cores(None))
    here = fit_trace(synthetic(total, a2=0.3), communication_model="table", bootstrap=0)
    with pytest.raises(error, match=said):
        validate.validate(here, replace(SETTINGS, **changes))


@pytest.mark.parametrize("option", ["-o", "--plot", "--timelines"])
def test_results_are_given_a_place_before_anything_is_run(option, tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "validate", lambda *_, **__: pytest.fail("a run was made"))
    path = tmp_path / "t.csv"
    write_trace(path, synthetic(4, trials=2).rows, {})
    arguments = ["validate", str(path), option]
    before = path.read_bytes()
    places = [tmp_path / "no" / "x.png", path] + [tmp_path / "x.xyz"] * (option != "-o")
    for place in places:
        result = CliRunner().invoke(command, [*arguments, str(place)])
        assert isinstance(result.exception, KdsimError)
        assert str(place) in str(result.exception)
    assert path.read_bytes() == before


def test_one_policy_has_no_ranking_and_no_warning(fitted):
    settings = replace(SETTINGS, policies=("greedy",))
    result = validate.judge(fitted, settings, predicted_as_measured(fitted, settings), 0.256)
    assert all(np.isnan(tau) for tau in result.summary["kendall_tau"].values())


def test_another_device_s_trace_cannot_be_validated_here(fitted):
    header = {"cores": list(range(len(take_cores(None))))}
    other = fit_trace(Trace(synthetic(11, a2=0.05).rows, header), bootstrap=0)
    with pytest.raises(WorkloadError, match="validate on the device that was measured"):
        validate.validate(other, SETTINGS)


@pytest.mark.slow
def test_collect_fit_and_validate_in_a_row(tmp_path):
    from calibration.bench.collect import collect
    from calibration.bench.measure import CollectSettings

    settings = CollectSettings(
        rounds=2, extra_rounds=0, window_s=0.1, batches=(1, 2), mb=(0.256,), guard=1.0,
        patience_s=0.0, device="test",
    )  # fmt: skip
    path = tmp_path / "t.csv"
    trace = collect(path, settings, student_spec=TINY)
    trace.rows["status"] = "ok"  # however busy the machine that runs the tests is
    write_trace(path, trace.rows, trace.header)
    arguments = [
        "validate", str(path), "--policies", "greedy,comm-priority", "--time-ratios", "1:1",
        "--cycles", "2", "--batches", "1", "--runs", "2", "--guard", "1", "--json",
        "-o", str(tmp_path / "v.csv"), "--plot", str(tmp_path / "v.png"),
        "--timelines", str(tmp_path / "t.png"),
    ]  # fmt: skip
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    told = json.loads(result.stdout)
    assert {row["policy"] for row in told["rows"]} == {"greedy", "comm-priority"}
    assert all(row["measured"] > 0 and row["predicted"] > 0 for row in told["rows"])
    assert (tmp_path / "v.png").exists()
    assert (tmp_path / "t.png").exists()
    assert len(pd.read_csv(tmp_path / "v.csv")) == 2


@pytest.mark.parametrize("ratio", ["1", "a:b", "0:1", "1:-1", "1:1:1", "nan:1"])
def test_a_workload_must_be_a_ratio(ratio, tmp_path):
    path = tmp_path / "t.csv"
    write_trace(path, synthetic(2, a2=0.3).rows, {})
    result = CliRunner().invoke(command, ["validate", str(path), "--time-ratios", ratio])
    assert isinstance(result.exception, WorkloadError)
    assert "ratios like 2:1" in str(result.exception)
