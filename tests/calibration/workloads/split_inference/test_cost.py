from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_networks import vgg

from calibration.workloads.split_inference import plan, trace
from calibration.workloads.split_inference.cost import CostModel, Line, choose, predict
from calibration.workloads.split_inference.planning.program import compile_part
from calibration.workloads.split_inference.study.simulate import scenario_data, simulated_latency

GRAPH = trace(vgg((2, 4), (2, 8)), (3, 64, 16))
FREE = Line(0.0, 0.0)


def _costs(*row_s: float, fixed: float = 0.0, send: float = 0.0, latency: float = 0.0) -> CostModel:
    layers = tuple(tuple(Line(fixed, r) for _ in GRAPH.layers) for r in row_s)
    return CostModel(layers, Line(send, 0.0), Line(send, 0.0), latency)


def test_without_any_overhead_a_split_into_n_takes_one_nth() -> None:
    whole = predict(plan(GRAPH, 1), _costs(1.0)).latency_s
    for parts in (2, 4):
        got = predict(plan(GRAPH, parts), _costs(*[1.0] * parts))
        assert got.latency_s == pytest.approx(whole / parts)
        assert max(got.idle(p) for p in range(parts)) == pytest.approx(0.0, abs=1e-12)


def test_layerwise_pays_every_exchange_and_overlap_hides_the_latency() -> None:
    costs = _costs(1.0, 1.0, latency=0.5)
    bound = predict(plan(GRAPH, 2), _costs(1.0, 1.0)).latency_s
    exchanges = len({m.tensor for m in plan(GRAPH, 2).messages})
    layerwise = predict(plan(GRAPH, 2), costs).latency_s
    assert layerwise == pytest.approx(bound + 0.5 * exchanges)
    assert predict(plan(GRAPH, 2, mode="overlap"), costs).latency_s == pytest.approx(bound)


def test_fused_blocks_win_when_messages_are_dear_and_lose_when_they_are_free() -> None:
    dear = choose(GRAPH, 2, _costs(1e-6, 1e-6, latency=1e-3))
    free = choose(GRAPH, 2, _costs(1e-6, 1e-6))
    assert "fused" in dear.modes
    assert "fused" not in free.modes


@settings(deadline=None, max_examples=25)
@given(speed=st.floats(0.3, 1.0))
def test_rows_follow_the_speed_of_unequal_workers(speed: float) -> None:
    costs = _costs(1.0, 1.0 / speed)
    chosen = choose(GRAPH, 2, costs, modes="layerwise")
    assert predict(chosen, costs).latency_s <= predict(plan(GRAPH, 2), costs).latency_s + 1e-12
    # One row of the last map, of sixteen, is the finest step there is.
    assert chosen.shares[1] == pytest.approx(speed / (1 + speed), abs=1.5 / 16)


def test_a_worker_of_half_the_speed_leaves_nobody_idle_for_long() -> None:
    costs = _costs(1.0, 2.0)
    before = predict(plan(GRAPH, 2), costs)
    after = predict(choose(GRAPH, 2, costs, modes="layerwise"), costs)
    assert before.idle(0) == pytest.approx(0.5)
    assert max(after.idle(0), after.idle(1)) <= 0.15


def test_times_of_a_prediction_follow_each_other() -> None:
    got = predict(plan(GRAPH, 3, mode="overlap"), _costs(1.0, 1.5, 1.0, send=0.1, latency=0.2))
    for times in got.times:
        assert (times[:, 1] >= times[:, 0]).all()
        assert (times[1:, 0] >= times[:-1, 1] - 1e-12).all()


@pytest.mark.parametrize("mode", ["layerwise", "overlap", "fused"])
def test_a_part_as_a_scenario_keeps_all_its_work(mode: str) -> None:
    costs = _costs(1.0, 1.0, fixed=0.1, send=0.05, latency=0.01)
    split = plan(GRAPH, 2, mode=mode)
    for part in (0, 1):
        work = scenario_data(split, part, costs)["workload"]
        steps = compile_part(split, part).steps
        computed = sum(costs.layers[0][s.layer](s.rows.count) for s in steps if s.message < 0)
        assert np.sum(work["forward"]) + np.sum(work["backward"]) == pytest.approx(computed)
        if mode != "overlap":
            assert np.sum(work["forward"]) == 0.0


def test_the_simulator_agrees_with_the_prediction_for_equal_parts() -> None:
    costs = _costs(1.0, 1.0, fixed=0.1, send=0.05, latency=0.01)
    for mode in ("layerwise", "fused"):
        split = plan(GRAPH, 2, mode=mode)
        want = predict(split, costs).latency_s
        assert simulated_latency(split, costs) == pytest.approx(want, rel=1e-9)
