"""What a run did, kept in columns: the same stretches, in a fraction of the memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kdsim
from kdsim.results import recording
from kdsim.results.recording import Interval, Recording, chunked


def written_out(log):
    """Return the stretches of a log, one after the other: what `Recording` does in columns."""
    begin, found = 0.0, []
    for end, step, cores, comm, task, stall, starved in log:
        comp = task // 2 if task >= 0 else -1
        stage = "" if task < 0 else "backward" if task % 2 else "forward"
        if stall > 0:
            middle = end - step
            found.append(Interval(begin, middle, cores, comm, comp, stage, True, False))
            begin = middle
        if end > begin:
            found.append(Interval(begin, end, cores, comm, comp, stage, False, starved))
        begin = end
    return found


entries = st.lists(
    st.tuples(
        st.floats(0.0, 10.0),
        st.integers(0, 8),
        st.integers(-1, 9),
        st.integers(-1, 9),
        st.sampled_from([0.0, 0.0, 0.25]),
        st.booleans(),
    ),
    max_size=20,
)


def log_of(entries):
    now, log = 0.0, []
    for step, cores, comm, task, stall, starved in entries:
        now += stall + step
        log.append((now, step, cores, comm, task, stall, starved))
    return log


@given(entries, st.integers(1, 5))
def test_a_recording_holds_the_stretches_of_its_log_whatever_the_size_of_its_blocks(entries, block):
    log = log_of(entries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "_BLOCK", block)
        kept = Recording()
        for k, entry in enumerate(log):
            kept.append(entry)
            if k % 3 == 0:
                kept.stretches()  # looking at it does not disturb it
        found = kept.stretches()
        assert list(found) == written_out(log)
        assert [found[k] for k in range(len(found))] == list(found)
        assert list(found[1:4]) == list(found)[1:4]


def test_an_index_beyond_the_run_is_refused_and_negative_ones_count_from_the_end():
    run = kdsim.simulate("measured", "optimal")
    assert run.intervals[-1] == list(run.intervals)[-1]
    assert run.intervals[-1].end == run.makespan
    for index in (len(run.intervals), -len(run.intervals) - 1):
        with pytest.raises(IndexError):
            run.intervals[index]


def test_an_array_is_read_in_chunks_of_plain_numbers():
    values = list(chunked(np.arange(40_000) / 3))
    assert values == [k / 3 for k in range(40_000)]
    assert type(values[0]) is float


@pytest.mark.parametrize("policy", ["greedy", "optimal"])
def test_a_long_run_takes_a_few_hundred_bytes_per_cycle(policy):
    base = kdsim.load_scenario("paper-1to1")
    few, many = (kdsim.with_fields(base, {"workload.cycles": n}) for n in (4_000, 14_000))
    for scenario in (few, many):
        kdsim.minimal_makespan(scenario)  # whatever is loaded once is loaded now
    peaks = []
    for scenario in (few, many):
        tracemalloc.start()
        kdsim.simulate(scenario, policy)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 2,100 bytes when every stretch was a tuple and every task had an event for the whole run.
    assert (peaks[1] - peaks[0]) / 10_000 < 400
