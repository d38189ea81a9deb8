"""The timeline of one run."""

import pytest
from drawn_study import tick_labels
from hypothesis import given, settings
from hypothesis import strategies as st

import kdsim
from kdsim import plots
from kdsim.errors import PlotError
from kdsim.plots.figures.timeline import blocks, joined
from kdsim.policies.names import POLICY_NAMES
from kdsim.scenario.changes import with_fields

EXTENSIONS = {
    "extensions.prefetch": 1,
    "extensions.release": 2.0,
    "extensions.reallocation_cost": 0.25,
}


@settings(max_examples=30, deadline=None)
@given(
    policy=st.sampled_from(POLICY_NAMES),
    cores=st.integers(1, 5),
    replication=st.integers(0, 50),
    extended=st.booleans(),
)
def test_blocks_fill_the_cores_exactly(scenario, policy, cores, replication, extended):
    changes = {"device.cores": cores, **(EXTENSIONS if extended else {})}
    run = kdsim.simulate(with_fields(scenario, changes), policy, replication=replication)
    drawn = list(blocks(run))
    on_cores = [b for b in drawn if not b.kind.endswith("waits")]
    area = sum((b.end - b.start) * (b.high - b.low) for b in on_cores)
    assert area == pytest.approx(cores * run.makespan)
    assert all(0 <= b.low < b.high <= cores for b in on_cores)
    waited = sum(b.end - b.start for b in drawn if b.kind == "comp waits")
    computed = sum(p.end - p.start for p in run.intervals if p.comp >= 0)
    assert waited + computed == pytest.approx(run.makespan)
    whole = [b for b in joined(blocks(run)) if not b.kind.endswith("waits")]
    assert sum((b.end - b.start) * (b.high - b.low) for b in whole) == pytest.approx(area)


def test_a_timeline_shows_tasks_waits_and_segment_ends(scenario):
    run = kdsim.simulate(with_fields(scenario, EXTENSIONS), "greedy")
    ax = plots.timeline(run)
    shown = {c.get_label() for c in ax.collections}
    assert {"comm", "forward", "backward", "comp waits", "comm waits", "stall"} <= shown
    assert ax.get_xlim() == (0.0, run.makespan)
    assert {"C1", "F1", "B1"} <= {text.get_text() for text in ax.texts}
    (top,) = ax.child_axes
    assert list(top.get_xticks()) == list(run.backward_starts)
    assert f"makespan {run.makespan:.5g} s" in ax.get_title(loc="left")
    assert "above the proven lower bound" in ax.get_title(loc="left")
    assert {"Comp waits", "Comm waits"} <= set(tick_labels(ax.yaxis))


def test_waits_and_stalls_are_hatched(scenario):
    ax = plots.timeline(kdsim.simulate(with_fields(scenario, EXTENSIONS), "greedy"))
    for collection in ax.collections:
        task = collection.get_label() in ("comm", "forward", "backward")
        assert bool(collection.get_hatch()) is not task


def test_a_long_run_shows_its_first_cycles_and_says_so(scenario):
    run = kdsim.simulate(with_fields(scenario, {"workload.cycles": 50}), "optimal")
    ax = plots.timeline(run)
    title = ax.get_title(loc="left")
    assert "cycles 1–10 of 50" in title
    assert "equal to the proven optimum" in title
    assert ax.get_xlim() == (0.0, run.backward_starts[10])
    part = plots.timeline(run, cycles=(20, 30))
    assert part.get_xlim() == (run.backward_starts[18], run.backward_starts[30])
    whole = plots.timeline(run, cycles=50)
    assert whole.get_xlim() == (0.0, run.makespan)


def test_a_run_whose_first_cycles_have_no_work_is_shown_whole(scenario):
    work = [0.0] * 12 + [1.0] * 3
    data = scenario.model_dump()
    data["workload"] = {"cycles": 15, "comm": work, "forward": work, "backward": work}
    run = kdsim.simulate(kdsim.Scenario.model_validate(data), "greedy")
    assert plots.timeline(run).get_xlim() == (0.0, run.makespan)
    with pytest.raises(PlotError, match="cycles 1 to 5 of this run take no time"):
        plots.timeline(run, cycles=5)


@pytest.mark.parametrize("cycles", [0, -1, (3, 2), (0, 4), (51, 60)])
def test_cycles_that_are_not_there_are_refused(scenario, cycles):
    run = kdsim.simulate(scenario, "optimal")
    with pytest.raises(PlotError, match="cycles"):
        plots.timeline(run, cycles=cycles)
