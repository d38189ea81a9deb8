from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from split_networks import relative_error, vgg

from calibration.workloads.split_inference import PlanError, WorkerPool, plan, trace
from calibration.workloads.split_inference.pipeline import (
    PipelinedModel,
    balanced_cuts,
    plan_pipeline,
)
from calibration.workloads.split_inference.workers.worker_process import one_core_each

SHAPE = (3, 32, 24)


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(one_core_each(4), timeout_s=60) as workers:
        yield workers


@given(seconds=st.lists(st.floats(0.0, 10.0), min_size=1, max_size=7), data=st.data())
def test_cuts_make_the_slowest_stage_as_fast_as_any_cuts_do(
    seconds: list[float], data: st.DataObject
) -> None:
    n = len(seconds)
    stages = data.draw(st.integers(1, n))
    handover = data.draw(st.lists(st.floats(0.0, 5.0), min_size=n, max_size=n))

    def slowest(cuts: list[int]) -> float:
        cost = dict.fromkeys((0, n), 0.0) | {c: handover[c] for c in cuts}
        bounds = [0, *cuts, n]
        return max(sum(seconds[a:b]) + cost[a] + cost[b] for a, b in pairwise(bounds))

    best = min(slowest(list(cuts)) for cuts in combinations(range(1, n), stages - 1))
    assert slowest(balanced_cuts(seconds, stages, handover)) == pytest.approx(best, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("stages", "parts"), [(2, 1), (3, 1), (2, 2)])
def test_a_stream_gives_each_image_its_result_in_order(
    pool: WorkerPool, stages: int, parts: int
) -> None:
    net = vgg((2, 8), (2, 12))
    images = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    with PipelinedModel(net, SHAPE, stages, parts, pool=pool, timeout_s=60) as model:
        for _ in range(2):  # a second stream starts afresh
            results = list(model.stream(images))
            for x, y in zip(images, results, strict=True):
                with torch.inference_mode():
                    assert relative_error(y, net(x[None])) <= 1e-6
    assert len(model.completed_ns) == len(images)


def test_a_map_read_by_a_later_stage_is_handed_over_to_it() -> None:
    class Residual(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Conv2d(3, 4, 3, padding=1)
            self.b = torch.nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            return self.b(y) + y

    split = plan(trace(Residual(), SHAPE), 1)
    pipeline = plan_pipeline(split, [1, 2])
    handed = [(m.tensor, m.source, m.target) for m in pipeline.programs[0].messages]
    assert handed == [(1, 0, 1), (1, 0, 2), (2, 1, 2)]


@pytest.mark.parametrize("cuts", [[0], [3, 3], [99]])
def test_cuts_out_of_order_are_refused(cuts: list[int]) -> None:
    split = plan(trace(vgg((2, 4)), SHAPE), 1)
    with pytest.raises(PlanError, match="cuts must increase between 1 and"):
        plan_pipeline(split, cuts)


def test_a_pipeline_refuses_overlap_and_too_many_stages() -> None:
    split = plan(trace(vgg((2, 4)), SHAPE), 2, mode="overlap")
    with pytest.raises(PlanError, match="layerwise or fused"):
        plan_pipeline(split, [2])
    with pytest.raises(PlanError, match="stages must be 1 to 2"):
        balanced_cuts([1.0, 2.0], 3)
