from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from split_networks import relative_error, vgg
from torch import Tensor, nn

from calibration.workloads.split_inference import (
    PlanError,
    SplitModel,
    WorkerError,
    WorkerPool,
    plan,
    trace,
)
from calibration.workloads.split_inference.workers.job import Job
from calibration.workloads.split_inference.workers.worker_process import WorkerSpec, one_core_each

SHAPE = (3, 64, 48)


def _net() -> nn.Sequential:
    head = [nn.Flatten(), nn.LazyLinear(10), nn.Dropout(0.5)]
    torch.manual_seed(0)
    net = nn.Sequential(*vgg((2, 8), (2, 12)), *head)
    net(torch.zeros(1, *SHAPE))
    return net


def _images(count: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def _gone(pid: int, timeout_s: float = 10.0) -> bool:
    """Wait until a process has ended; true when it has (or is only waiting to be reaped)."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], timeout_s)[0])
    finally:
        os.close(handle)


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(one_core_each(3), timeout_s=60) as workers:
        yield workers


def test_workers_give_what_the_network_gives_for_one_image_after_another(pool: WorkerPool) -> None:
    net = _net()
    net.train()
    with SplitModel(net, SHAPE, parts=3, pool=pool, timeout_s=60) as split:
        for seed in (1, 2):  # the second image must reuse nothing of the first
            x = _images(seed=seed)
            got = split(x)
            with torch.inference_mode():
                assert relative_error(got, net.eval()(x)) <= 1e-6
        assert split.timing is not None
        assert split.timing.total_s >= split.timing.gathered_s > split.timing.trunk_s > 0
        batch = _images(3, seed=4)
        with torch.inference_mode():
            assert relative_error(split(batch), net(batch)) <= 1e-6
        with pytest.raises(PlanError, match="must be finite, got NaN or an infinity at"):
            split(torch.full((1, *SHAPE), float("nan")))
        with pytest.raises(PlanError, match=r"shape \(N, 3, 64, 48\), got \(1, 3, 8, 8\)"):
            split(torch.zeros(1, 3, 8, 8))
        with pytest.raises(PlanError, match=r"must be torch\.float32"):
            split(torch.zeros(1, *SHAPE, dtype=torch.float64))
        with torch.no_grad():
            net[0].weight.mul_(2.0)
        split.refresh()
        with torch.inference_mode():
            assert relative_error(split(batch), net(batch)) <= 1e-6


@pytest.mark.parametrize("transport", ["tcp", "gloo"])
@pytest.mark.parametrize("mode", ["layerwise", "overlap", "fused"])
@pytest.mark.filterwarnings("ignore:.*")
def test_every_mode_is_exact_over_every_transport(
    pool: WorkerPool, transport: str, mode: str
) -> None:
    net = vgg((2, 8), (2, 12)).to(memory_format=torch.channels_last)
    x = _images(seed=3).contiguous(memory_format=torch.channels_last)
    split = plan(trace(net, SHAPE), 3, mode=mode, shares=[1.0, 1.5, 1.0])
    job = Job(pool, split, transport=transport)
    with torch.inference_mode():
        for image in (x, -x):
            (got,), _ = job.run(image, repeats=2)
            assert relative_error(got, net(image)) <= 1e-6


def test_the_baseline_runs_the_networks_own_calls(pool: WorkerPool) -> None:
    net, x = vgg((2, 8), (2, 12)), _images()
    (got,), timing = Job(pool, plan(trace(net, SHAPE), 1), whole=True).run(x)
    with torch.inference_mode():
        assert torch.equal(got, net(x))
    assert timing.trunk_s > 0


# --- faults: a clear error within the timeout, and nobody left behind --------------------------


def _faulty(pool_size: int, timeout_s: float) -> tuple[WorkerPool, Job]:
    pool = WorkerPool(one_core_each(pool_size), timeout_s=60)
    job = Job(pool, plan(trace(vgg((2, 8), (2, 12)), SHAPE), pool_size))
    job.run(_images())
    pool.timeout_s = timeout_s
    return pool, job


@pytest.mark.slow
def test_a_killed_worker_is_named_and_the_others_are_ended() -> None:
    pool, job = _faulty(2, 30.0)
    pids = pool.pids
    os.kill(pids[1], signal.SIGKILL)
    with pytest.raises(WorkerError, match=rf"worker 1 \(process {pids[1]}\) ended with SIGKILL"):
        job.run(_images())
    assert all(_gone(pid) for pid in pids)
    with pytest.raises(WorkerError, match="the workers have ended: worker 1"):
        job.run(_images())


@pytest.mark.slow
def test_a_stopped_worker_is_named_within_the_timeout() -> None:
    pool, job = _faulty(2, 2.0)
    pids = pool.pids
    os.kill(pids[0], signal.SIGSTOP)
    with pytest.raises(WorkerError, match=rf"worker 0 \(process {pids[0]}\) is stopped"):
        job.run(_images())
    assert all(_gone(pid) for pid in pids)


def test_a_port_in_use_is_reported_before_anything_starts() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(WorkerError, match=r"cannot listen on 127.0.0.1:\d+: Address already in use"),
    ):
        SplitModel(_net(), SHAPE, parts=2, port=taken.getsockname()[1])


@pytest.mark.slow
def test_a_workers_port_in_use_is_reported_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] - 1
        with pytest.raises(WorkerError, match=r"cannot listen on 127.0.0.1:\d+"):
            WorkerPool([WorkerSpec()], port=port, timeout_s=30)


@pytest.mark.slow
def test_a_worker_does_not_outlive_its_master() -> None:
    code = (
        "import os, sys\n"
        "from calibration.workloads.split_inference import WorkerPool, WorkerSpec\n"
        "pool = WorkerPool([WorkerSpec()], timeout_s=60)\n"
        "print(*pool.pids, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).parents[4]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert all(_gone(int(pid)) for pid in done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"transport": "smoke signals"}, "transport must be tcp or gloo"),
        ({"parts": 9}, "parts must be 1 to 7, got 9"),
        ({"cores": [WorkerSpec()]}, "2 parts need 2 worker specs, got 1"),
        ({"mode": "quick"}, "mode must be one of"),
    ],
)
def test_a_wrong_argument_is_refused_before_any_worker_starts(
    arguments: dict[str, object], said: str
) -> None:
    with pytest.raises(PlanError, match=said):
        SplitModel(_net(), SHAPE, **arguments)  # type: ignore[arg-type]


def test_an_inference_keeps_the_master_to_one_thread_and_gives_the_callers_setting_back(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    run = Job.run

    def recording(job: Job, *arguments: Any, **options: Any) -> Any:
        seen.append(torch.get_num_threads())
        return run(job, *arguments, **options)

    monkeypatch.setattr(Job, "run", recording)
    torch.set_num_threads(2)
    try:
        with SplitModel(_net(), SHAPE, parts=2, pool=pool, timeout_s=60) as split:
            split(_images())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert seen == [1]
