from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from front_door import call
from synthetic_traces import synthetic

from calibration.bench import collect, measure
from calibration.bench.bench import BenchSettings
from calibration.bench.start import TeacherProcess
from calibration.commands.calibrate import command
from calibration.link.server import KnowledgeServer
from calibration.link.stream import RemoteTeacher
from calibration.machine.cores import take_cores
from calibration.trace import read_trace, write_trace
from kdsim.errors import KdsimError, TraceError, TransportError, WorkloadError

TINY = {"batch": 8, "channels": [2, 4], "classes": 100}
#: A guard of 1 accepts trials on a busy machine: these tests check the path, not the times.
FAST = measure.CollectSettings(
    rounds=1, extra_rounds=0, window_s=0.05, batches=(1, 2), mb=(0.256,), guard=1.0,
    patience_s=0.0, device="test",
)  # fmt: skip


@pytest.fixture(scope="module")
def teacher():
    with TeacherProcess(spec={"chunks": 2, "chunk_rows": 64}) as running:
        yield running


def bench_settings(**changes):
    return BenchSettings(
        cores=take_cores(None), student_spec=TINY, capacity_mb=1.0,
        **{"timeout_s": 30.0, "reconnect_s": 0.5, **changes},
    )  # fmt: skip


# --- the plan -------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("total", [1, 2, 3, 4, 8])
def test_every_feasible_split_of_each_side_is_measured(total, full):
    points = measure.plan_points(total, full=full)
    fitted = [p for p in points if p.condition in {"alone", "contended"}]
    compute = {p.comm_cores for p in fitted if "compute" in p.sides}
    comm = {p.comm_cores for p in fitted if "comm" in p.sides}
    assert compute == set(range(total))
    assert comm == set(range(1, total + 1))
    assert len(set(points)) == len(points)
    # The cost of a change is told from the two splits it goes between, each side alone.
    for point in points:
        if point.condition == "switching":
            for cores in (point.comm_cores, point.comm_cores + 1):
                assert measure.Point("alone", cores, point.sides) in points


def test_rounds_are_interleaved_in_orders_that_a_seed_fixes():
    points = measure.plan_points(4, full=True)
    orders = [collect._shuffled(points, 7, trial) for trial in range(5)]
    assert orders == [collect._shuffled(points, 7, trial) for trial in range(5)]
    assert len({tuple(order) for order in orders}) == 5
    assert all(set(order) == set(points) for order in orders)


# --- a collection ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    path = tmp_path_factory.mktemp("collect") / "t.csv"
    told = []
    collect.collect(
        path, FAST, student_spec=TINY, progress=lambda done, total, what: told.append((done, total))
    )
    return path, told


@pytest.mark.skipif(len(take_cores(None)) < 2, reason="needs two cores to split")
def test_a_collection_measures_every_point_and_says_how(collected):
    path, told = collected
    trace = read_trace(path)
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1]
    total = trace.total_cores
    assert set(trace.rows["condition"]) == {"alone", "contended", "shared", "switching"}
    assert set(trace.rows["task"]) == {"compute", "comm"}
    assert set(trace.rows.loc[trace.rows["task"] == "compute", "phase"]) >= {"forward", "backward"}
    assert trace.header["cores_given_by"] == "pinned"
    assert trace.header["environment"]["OMP_WAIT_POLICY"] == "PASSIVE"
    assert trace.header["host"]["cpu"]
    comm = trace.rows[(trace.rows["task"] == "comm") & (trace.rows["condition"] == "alone")]
    assert (comm["streams"] == comm["comm_cores"]).all()
    assert comm["sender_cpu_s"].notna().all()
    assert comm["comm_cores"].max() == total


@pytest.mark.skipif(len(take_cores(None)) < 2, reason="needs two cores to split")
def test_a_collection_is_resumed_where_it_stopped(collected, tmp_path):
    path, _ = collected
    lines = path.read_text().splitlines(keepends=True)
    shorter = tmp_path / "t.csv"
    body = next(i for i, line in enumerate(lines) if line.startswith("device"))
    kept = [line for line in lines[body + 1 :] if ",contended," not in line]
    shorter.write_text("".join([*lines[: body + 1], *kept]))
    told = []
    trace = collect.collect(
        shorter, FAST, student_spec=TINY, resume=True,
        progress=lambda done, total, what: told.append(what),
    )  # fmt: skip
    assert set(told) == {"compute + comm contended, c = 1", "done"} or len(take_cores(None)) > 2
    assert "contended" in set(trace.rows["condition"])
    assert len(trace.rows) >= len(kept)


@pytest.mark.skipif(len(take_cores(None)) < 2, reason="needs two cores to split")
def test_a_trace_of_other_settings_is_not_resumed(collected):
    from dataclasses import replace

    with pytest.raises(TraceError, match=r"cannot be resumed: window_s \(the trace has 0.05"):
        collect.collect(collected[0], replace(FAST, window_s=9.0), student_spec=TINY, resume=True)


@pytest.mark.skipif(len(take_cores(None)) < 2, reason="needs two cores to split")
def test_more_rounds_can_be_asked_for_when_going_on(collected, tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_text(collected[0].read_text())
    asked = []

    def trial_of(bench_settings, teacher, point, settings, trial, t_zero, header):
        asked.append(trial)
        rows = read_trace(collected[0]).rows
        mine = (rows["condition"] == point.condition) & rows["task"].isin(point.sides)
        if point.comm_cores is not None:
            mine &= rows["comm_cores"] == point.comm_cores
        return rows[mine].assign(trial=trial).to_dict("records")

    monkeypatch.setattr(collect, "guarded_trial", trial_of)
    trace = collect.collect(path, replace(FAST, rounds=2), student_spec=TINY, resume=True)
    assert set(asked) == {1}
    assert set(trace.rows["trial"]) == {0, 1}
    assert trace.header["settings"]["rounds"] == 2


@pytest.mark.parametrize(("guard", "waits"), [(1.0, 0), (0.12, 1)])
def test_nothing_is_waited_for_where_every_trial_counts(guard, waits, monkeypatch):
    waited = []
    monkeypatch.setattr(collect, "wait_for_calm", lambda *_: waited.append(1))
    bench = contextlib.nullcontext(SimpleNamespace(share_method="affinity"))
    monkeypatch.setattr(collect, "Bench", lambda *_: bench)
    monkeypatch.setattr(collect, "measure_point", lambda *_, **__: [{"status": "ok"}])
    settings = replace(FAST, guard=guard)
    rows = collect.guarded_trial(bench_settings(), None, None, settings, 0, 0.0, {})
    assert (len(rows), len(waited)) == (1, waits)


def test_a_trace_that_is_there_outlives_a_collection_that_measures_nothing(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("an hour of measuring")
    with pytest.raises(TransportError, match="cannot connect"):
        collect.collect(path, FAST, teacher=RemoteTeacher(("127.0.0.1", 9)))
    assert [p.read_text() for p in tmp_path.iterdir()] == ["an hour of measuring"]


@pytest.mark.parametrize("name", ["  ", "a\nb", "a\u2028b"])
def test_a_name_that_no_trace_could_hold_is_refused_before_anything_is_measured(name, tmp_path):
    from dataclasses import replace

    with pytest.raises(WorkloadError, match="a device's name must be printable"):
        collect.collect(tmp_path / "t.csv", replace(FAST, device=name))


def test_ctrl_c_is_told_once_and_is_the_status_130(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(collect, "collect", interrupted)
    answer = call("calibrate", "collect", "-o", tmp_path / "t.csv")
    assert answer.code == 130
    assert "stopped" in answer.err
    assert "sys.exit" not in answer.err


@pytest.mark.parametrize("command_name", ["collect", "fit", "validate"])
def test_a_negative_seed_is_bad_input(command_name):
    arguments = [] if command_name == "collect" else ["t.csv"]
    answer = call("calibrate", command_name, *arguments, "--seed", "-1")
    assert answer.code == 2
    assert "-1 is not in the range" in answer.err


def test_an_unwritable_trace_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(TraceError, match="cannot be written"):
        collect.collect(tmp_path / "no" / "t.csv", FAST)


def test_a_share_too_small_to_be_granted_is_refused(tmp_path):
    from dataclasses import replace

    settings = replace(FAST, cores=1, virtual_cores=21)
    with pytest.raises(WorkloadError, match=r"1 core\(s\) can be shared out into at most 20 .*21"):
        collect.collect(tmp_path / "v.csv", settings)
    assert not (tmp_path / "v.csv").exists()


def test_shares_receive_in_tasks_as_large_as_real_ones():
    assert min(measure.quick_settings(virtual_cores=8).mb) >= max(measure.quick_settings().mb)


@pytest.mark.slow
def test_virtual_cores_are_measured_by_throughput(tmp_path):
    from dataclasses import replace

    settings = replace(FAST, virtual_cores=3, window_s=0.1)
    trace = collect.collect(tmp_path / "v.csv", settings, student_spec=TINY)
    assert trace.total_cores == 3
    assert set(trace.rows.loc[trace.rows["task"] == "compute", "phase"]) == {"step"}
    assert trace.header["cores_given_by"] in {"cgroup-v1 cfs quota", "SIGSTOP/SIGCONT duty cycle"}


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"columns": 100},
        {"columns": "many", "chunk_rows": 10},
        {"columns": 0, "chunk_rows": 10},
        {"columns": 2.5, "chunk_rows": 10},
        {"columns": 10**9, "chunk_rows": 10**9},
    ],
)
def test_a_stranger_s_teacher_is_refused(tmp_path, sizes):
    with (
        KnowledgeServer(lambda *_: None, {"name": "stranger", **sizes}) as server,
        pytest.raises(WorkloadError, match="must say columns and chunk_rows"),
    ):
        collect.collect(tmp_path / "t.csv", FAST, teacher=RemoteTeacher(server.address))


# --- the command ----------------------------------------------------------------------------------


def test_the_command_explains_itself_without_torch():
    for arguments in ([], ["collect"], ["fit"], ["validate"], ["serve"]):
        result = CliRunner().invoke(command, [*arguments, "--help"])
        assert result.exit_code == 0
        assert "Example:" in result.output


def test_the_fit_command_prints_tables_or_json_and_writes_files(tmp_path):
    path = tmp_path / "t.csv"
    write_trace(path, synthetic(4, trials=4, noise=0.01).rows, {"host": {"cpu": "x"}})
    out, plot = tmp_path / "c.yaml", tmp_path / "c.png"
    arguments = ["fit", str(path), "-o", str(out), "--plot", str(plot), "--bootstrap", "10"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "paper *" in result.output
    assert out.exists()
    assert plot.read_bytes().startswith(b"\x89PNG")
    result = CliRunner().invoke(command, ["fit", str(path), "--bootstrap", "0", "--json"])
    assert json.loads(result.stdout)["reference_cores"] == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "absent.csv"],
        ["collect", "--cores", "4096", "-o", "t.csv"],
        ["collect", "--teacher", "nowhere", "-o", "t.csv"],
        ["collect", "--teacher", "h:1", "--tls-ca", "absent.pem", "-o", "t.csv"],
        ["collect", "-o", "no/such/folder/t.csv"],
        ["validate", "absent.csv"],
    ],
)
def test_bad_input_raises_the_project_s_own_errors(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, arguments)
    assert isinstance(result.exception, KdsimError)
    assert str(result.exception)
