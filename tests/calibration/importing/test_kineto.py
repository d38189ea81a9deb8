from __future__ import annotations

import json
import subprocess
import sys

import pytest

from calibration.importing.into import from_kineto, write_import
from calibration.importing.kineto import read_kineto
from calibration.trace import read_trace, trial_times
from kdsim.errors import TraceError


def event(name, start, duration, **more):
    return {"ph": "X", "cat": "user_annotation", "name": name, "pid": 1, "tid": 1, "ts": start,
            "dur": duration, **more}  # fmt: skip


def steps(n=5, forward="forward", backward="backward"):
    found = []
    for i in range(n):
        found += [event(f"ProfilerStep#{i}", 100_000 * i, 90_000),
                  event(forward, 100_000 * i + 10, 20_000 + i),
                  event(backward, 100_000 * i + 30_000, 40_000)]  # fmt: skip
    return found


def engine(n=5):
    found = []
    for i in range(n):
        found += [event(f"ProfilerStep#{i}", 100_000 * i, 90_000)] + [
            event(f"autograd::engine::evaluate_function: B{k}", 100_000 * i + 25_000 + 10_000 * k,
                  9_000, cat="cpu_op")
            for k in range(3)
        ]  # fmt: skip
    return found


def write(tmp_path, events):
    path = tmp_path / "prof.json"
    path.write_text(events if isinstance(events, str) else json.dumps({"traceEvents": events}))
    return path


def test_steps_are_read_by_their_named_passes(tmp_path):
    run = read_kineto(write(tmp_path, steps()))
    assert [s.forward_s for s in run.steps] == pytest.approx([0.02 + 1e-6 * i for i in range(5)])
    assert [s.backward_s for s in run.steps] == pytest.approx([0.04] * 5)
    assert run.steps[3].start_s == pytest.approx(0.3)
    named = read_kineto(
        write(tmp_path, steps(forward="vorw", backward="back")), forward="vorw", backward="back"
    )
    assert named.steps == run.steps


def test_without_names_a_step_is_cut_at_the_autograd_engine_s_events(tmp_path):
    run = read_kineto(write(tmp_path, engine()))
    assert len(run.steps) == 5
    assert run.steps[0].forward_s == pytest.approx(0.025)
    assert run.steps[0].backward_s == pytest.approx(0.029)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ("{", "not JSON"),
        ("[" * 30_000, "nested too deeply|not JSON"),
        ("[]", "no list 'traceEvents'"),
        ('{"traceEvents": [3]}', r"traceEvents\[0\]: must be an object"),
        ([], "no training step"),
        (steps()[:-1], "5 ranges 'forward' and 4 'backward'"),
        ([event("forward", 0, 10), event("backward", 5, 10)], "must follow each"),
        ([event("forward", 0, 0), event("backward", 5, 10)], "takes no time"),
        ([event("forward", -1, 10)], r"ts: must be a number of microseconds \(got '-1'\)"),
        ([event("forward", 0, "10")], "dur: must be a number"),
        ([event("forward", 0, True)], "dur: must be a number"),
        ([event("forward", 0, 1e300)], "dur: must be a number"),
        ([*steps(), event("forward", 0, 5, tid=2)], "in 2 threads"),
        ([*steps(), event("k", 0, 5, cat="kernel")], "used a GPU"),
        ([event("ProfilerStep#0", 0, 10)], "no backward pass in it"),
        ([event("train", 0, 10)], "the file has the ranges 'train' .1."),
    ],
)
def test_what_has_no_steps_is_refused(tmp_path, events, said):
    path = write(tmp_path, events)
    with pytest.raises(TraceError, match=said) as caught:
        read_kineto(path)
    assert str(path) in str(caught.value)


def test_unknown_range_names_are_listed(tmp_path):
    with pytest.raises(TraceError, match="no range 'f' for the forward pass; the file has"):
        read_kineto(write(tmp_path, steps()), forward="f", backward="b")
    with pytest.raises(TraceError, match="both names or none"):
        read_kineto(write(tmp_path, steps()), forward="f")


def test_cores_and_device_are_asked_for(tmp_path):
    path = write(tmp_path, steps())
    with pytest.raises(TraceError, match=r"which device\?(.|\n)*how many cores has the device"):
        from_kineto(path, device=None, total_cores=None, cores=1)
    with pytest.raises(TraceError, match=r"--cores N: its threads"):
        from_kineto(path, device="own", total_cores=2, cores=None)
    with pytest.raises(TraceError, match=r"--cores must lie in 1\.\.2 \(got 3\)"):
        from_kineto(path, device="own", total_cores=2, cores=3)


def test_one_file_per_core_count_makes_one_trace(tmp_path):
    out = tmp_path / "t.csv"
    for cores, factor in ((1, 2.0), (2, 1.0)):
        events = [e | {"ts": factor * e["ts"], "dur": factor * e["dur"]} for e in steps()]
        got = from_kineto(write(tmp_path, events), device="own", total_cores=2, cores=cores)
        write_import(got, out, add=cores == 2)
    trace = read_trace(out)
    times = trial_times(trace.rows).groupby("comm_cores")["seconds_per_work"].median()
    assert times.to_dict() == pytest.approx({0: 0.060002, 1: 0.120004})
    assert [o["options"]["cores"] for o in trace.header["origin"]] == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False])
def test_a_file_that_the_profiler_wrote_is_read(tmp_path, named):
    """The passes that it names are those that a clock around them measures."""
    path = tmp_path / "prof.json"
    code = f"""
import json, time, torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule
torch.set_num_threads(1)
net = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
x, y, clock = torch.randn(256, 256), torch.randint(10, (256,)), []
def step():
    start = time.perf_counter()
    if {named}:
        with record_function("forward"): loss = torch.nn.functional.cross_entropy(net(x), y)
        with record_function("backward"): loss.backward()
    else:
        torch.nn.functional.cross_entropy(net(x), y).backward()
    clock.append(time.perf_counter() - start)
with profile(activities=[ProfilerActivity.CPU], schedule=schedule(wait=0, warmup=1, active=8,
             repeat=1), on_trace_ready=lambda p: p.export_chrome_trace({str(path)!r})) as p:
    for _ in range(9): step(); p.step()
print(json.dumps(clock[1:]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )
    clock = json.loads(done.stdout.splitlines()[-1])
    run = read_kineto(path)
    assert len(run.steps) == 8
    for step, seconds in zip(run.steps, clock, strict=True):
        assert step.forward_s > 0
        assert step.backward_s > 0
        # A step as the profiler bounds it begins before the clock; named passes lie within it.
        assert not named or step.forward_s + step.backward_s <= seconds
    assert ("ranges" in run.by) == named
