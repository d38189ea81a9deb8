"""A trace says what the run says: every core, every instant, every arrow."""

import itertools
import json
import tracemalloc
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kdsim
from kdsim.errors import PlotError
from kdsim.policies.names import POLICY_NAMES
from kdsim.report import chrome_trace
from kdsim.scenario.changes import with_fields

EXTENSIONS = {
    "extensions.prefetch": 2,
    "extensions.release": 1.5,
    "extensions.reallocation_cost": 0.125,
    "extensions.noise": 0.5,
}


def run_of(policy="random", cores=4, cycles=5, replication=0, *, extended=False):
    scenario = kdsim.load_scenario("paper-1to1")
    changes = {"device.cores": cores, "workload.cycles": cycles}
    changed = with_fields(scenario, {**changes, **(EXTENSIONS if extended else {})})
    return kdsim.simulate(changed, policy, replication=replication)


runs = st.builds(
    run_of,
    policy=st.sampled_from(POLICY_NAMES),
    cores=st.integers(1, 6),
    cycles=st.integers(1, 8),
    replication=st.integers(0, 100),
    extended=st.booleans(),
)


def events_of(run, phase):
    return [e for e in chrome_trace.trace_events(run)["traceEvents"] if e["ph"] == phase]


def tracks_of(run):
    tracks = defaultdict(list)
    for event in events_of(run, "X"):
        tracks[event["tid"]].append((event["ts"], event["ts"] + event["dur"], event["name"]))
    return tracks


@settings(max_examples=40, deadline=None)
@given(runs)
def test_slices_of_a_core_are_in_order_and_never_overlap(run):
    for track in tracks_of(run).values():
        assert track == sorted(track)
        assert all(end > start for start, end, _ in track)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(track))


@settings(max_examples=40, deadline=None)
@given(runs)
def test_the_area_of_each_task_is_its_cores_times_its_time(run):
    expected = defaultdict(float)
    for piece in run.intervals:
        for task, kind, cores in (
            (piece.comm, "Comm", piece.comm_cores),
            (piece.comp, piece.stage.capitalize(), run.plan.c_total - piece.comm_cores),
        ):
            if task >= 0 and cores:
                name = "Stall" if piece.stalled else kind
                expected[f"{name}_{task + 1}"] += cores * (piece.end - piece.start)
    found = defaultdict(float)
    for event in events_of(run, "X"):
        found[event["name"]] += event["dur"] / 1e6
    # Each boundary is rounded by at most half a microsecond.
    slack = 1e-6 * run.plan.c_total * (len(run.intervals) + 1)
    for name in expected.keys() | found.keys():
        assert found[name] == pytest.approx(expected[name], abs=slack)


@settings(max_examples=40, deadline=None)
@given(runs)
def test_every_arrow_leads_from_comm_to_the_backward_that_needed_it(run):
    slices = defaultdict(list)
    for event in events_of(run, "X"):
        slices[event["tid"]].append(event)

    def enclosing(event):
        (found,) = [s for s in slices[event["tid"]] if s["ts"] <= event["ts"] < s["ts"] + s["dur"]]
        return found["name"]

    starts = {event["id"]: event for event in events_of(run, "s")}
    ends = {event["id"]: event for event in events_of(run, "f")}
    assert sorted(starts) == sorted(ends) == list(range(1, run.plan.cycles + 1))
    for cycle, start in starts.items():
        end = ends[cycle]
        assert end["bp"] == "e"
        assert start["ts"] < end["ts"]
        assert (enclosing(start), enclosing(end)) == (f"Comm_{cycle}", f"Backward_{cycle}")


@settings(max_examples=20, deadline=None)
@given(runs)
def test_events_stand_by_time_and_counters_never_exceed_the_cores(run):
    events = chrome_trace.trace_events(run)["traceEvents"]
    timed = [event for event in events if event["ph"] != "M"]
    assert events[: len(events) - len(timed)] == [e for e in events if e["ph"] == "M"]
    assert [e["ts"] for e in timed] == sorted(e["ts"] for e in timed)
    assert all(isinstance(e["ts"], int) for e in timed)
    counters = [event["args"] for event in timed if event["ph"] == "C"]
    assert all(0 <= sum(args.values()) <= run.plan.c_total for args in counters)
    assert counters[-1] == {"communication": 0, "computation": 0}


def test_tracks_are_named_after_the_cores_and_the_run():
    run = run_of("greedy", cores=3)
    names = [(e["name"], e["tid"], e["args"].get("name")) for e in events_of(run, "M")]
    assert ("process_name", 0, "paper-1to1 · greedy (seed 0, replication 0)") in names
    threads = [(tid, name) for kind, tid, name in names if kind == "thread_name"]
    assert threads == [(1, "core 0"), (2, "core 1"), (3, "core 2")]
    assert set(tracks_of(run)) == {1, 2, 3}


def test_a_wait_is_a_gap():
    scenario = with_fields(kdsim.load_scenario("paper-1to1"), {"workload.cycles": 3})
    run = kdsim.simulate(with_fields(scenario, {"extensions.release": 20.0}), "comp-priority")
    covered = sum(end - start for start, end, _ in tracks_of(run)[1])
    idle = sum(p.end - p.start for p in run.intervals if p.comm < 0 and p.comp < 0)
    assert idle > 0
    assert covered / 1e6 == pytest.approx(run.makespan - idle, abs=1e-4)


def test_an_uninterrupted_task_is_one_slice():
    track = tracks_of(run_of("comm-priority", cores=4, cycles=2))[1]
    assert [name for _, _, name in track] == [
        "Comm_1", "Comm_2", "Forward_1", "Backward_1", "Forward_2", "Backward_2",
    ]  # fmt: skip


def test_a_written_trace_is_json_with_the_facts_of_the_run(tmp_path):
    run = run_of("greedy")
    first = chrome_trace.write(run, tmp_path / "a.json").read_bytes()
    second = chrome_trace.write(run_of("greedy"), tmp_path / "b.json").read_bytes()
    assert first == second
    trace = json.loads(first)
    assert trace == chrome_trace.trace_events(run)
    assert trace["otherData"]["makespan_s"] == run.makespan
    assert trace["otherData"]["bound"] == "optimum"


def test_a_trace_that_cannot_be_written_says_where(tmp_path):
    with pytest.raises(PlotError, match=r"nowhere/run\.json: cannot be written: there is no"):
        chrome_trace.write(run_of(), tmp_path / "nowhere" / "run.json")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(PlotError, match="No space left on device"):
        chrome_trace.write(run_of(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_trace_is_written_without_ever_being_whole_in_memory(tmp_path):
    run = run_of("greedy", cores=4, cycles=1600)
    tracemalloc.start()
    path = chrome_trace.write(run, tmp_path / "t.json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * path.stat().st_size
    assert json.loads(path.read_text()) == chrome_trace.trace_events(run)


@settings(max_examples=40, deadline=None)
@given(runs)
def test_at_one_instant_counters_and_slices_stand_before_arrows(run):
    events = [e for e in chrome_trace.trace_events(run)["traceEvents"] if e["ph"] != "M"]
    places = [(e["ts"], "CXsf".index(e["ph"]), e["tid"]) for e in events]
    assert places == sorted(places)
