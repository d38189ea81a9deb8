from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import nn

from calibration.commands.split import command
from calibration.machine.disturbance import CpuReading, Taken
from calibration.workloads.split_inference import trace
from calibration.workloads.split_inference.planning.planner import plan
from calibration.workloads.split_inference.study import measure as study_module
from calibration.workloads.split_inference.study import report
from calibration.workloads.split_inference.study.measure import Method, Study
from calibration.workloads.split_inference.study.plots import plot_layers, plot_methods
from calibration.workloads.split_inference.study.rounds import Round, Rounds, measure_rounds
from calibration.workloads.split_inference.workers.job import Timing

CALM, BUSY = 0.01, 0.8


class Machine:
    """Two cores on a clock of their own; others take a given part of a core in each round."""

    def __init__(self, taken: Sequence[float], *, seconds: float = 1.0, by_host: bool = False):
        self.taken: Iterator[float] = iter(taken)
        self.seconds, self.by_host = seconds, by_host
        self.now = self.used = self.own = self.stolen = 0.0
        self.begun = self.waits = 0

    def run_round(self) -> dict[str, Timing]:
        others = next(self.taken, BUSY) * self.seconds
        self.begun += 1
        self.now += self.seconds
        self.own += self.seconds
        self.used += self.seconds + (0.0 if self.by_host else others)
        self.stolen += others if self.by_host else 0.0
        return {"whole": Timing(self.begun, 0, 0, (), ())}

    def read(self) -> CpuReading:
        return CpuReading(self.now, self.used, self.stolen, self.own)

    def wait(self) -> None:
        self.waits += 1

    def measure(self, asked: int, extra: int, guard: float = 0.05) -> Rounds:
        return measure_rounds(
            self.run_round, self.read, asked=asked, extra=extra, guard=guard, wait=self.wait
        )


def numbers(rounds: Sequence[Round]) -> list[int]:
    return [each.timings["whole"].called for each in rounds]


@pytest.mark.parametrize("by_host", [False, True])
def test_a_disturbed_round_is_set_aside_and_made_again(by_host: bool) -> None:
    machine = Machine([CALM] * 3 + [BUSY] * 2 + [CALM] * 9, by_host=by_host)
    rounds = machine.measure(asked=8, extra=8)
    assert numbers(rounds.counted) == [1, 2, 3, 6, 7, 8, 9, 10]
    assert rounds.set_aside == machine.waits == 2
    assert rounds.verdict.word == "undisturbed"
    who = ("took 0.00", "the host 0.80") if by_host else ("took 0.80", "the host 0.00")
    assert all(part in rounds.verdict.reason for part in who)


def test_no_round_begins_when_the_budget_is_used_up_and_nothing_is_claimed() -> None:
    machine = Machine([CALM] * 5)
    rounds = machine.measure(asked=10, extra=4)
    assert machine.begun == 14
    assert rounds.verdict.word == "too disturbed to say"
    assert "5 of 14 rounds were undisturbed" in rounds.verdict.reason
    assert "6 undisturbed ones are needed" in rounds.verdict.reason
    assert rounds.counted == rounds.made


def test_enough_for_an_interval_is_enough_though_more_were_asked_for() -> None:
    rounds = Machine([CALM] * 6).measure(asked=10, extra=4)
    assert rounds.verdict.word == "undisturbed"
    assert numbers(rounds.counted) == [1, 2, 3, 4, 5, 6]


def test_rounds_too_short_for_the_clock_tick_share_a_reading() -> None:
    # A quarter of a second each: two to a reading, and the busy one spoils its neighbour.
    rounds = Machine([CALM, CALM, BUSY, CALM, CALM, CALM], seconds=0.25).measure(4, 4)
    assert [r.taken.elapsed_s for r in rounds.made] == [0.5] * 6
    assert numbers(rounds.counted) == [1, 2, 5, 6]


def test_where_the_system_keeps_no_accounts_calm_is_not_claimed() -> None:
    rounds = Rounds((Round({}, Taken(0.0, 0.0, 1.0, known=False)),) * 6, 6, 0.05)
    assert rounds.verdict.word == "disturbance unknown"


@given(
    taken=st.lists(st.floats(0.0, 1.0), max_size=40),
    asked=st.integers(2, 12),
    extra=st.integers(0, 12),
    guard=st.floats(0.01, 0.9),
)
def test_rounds_count_by_their_reading_alone_and_the_budget_holds(
    taken: list[float], asked: int, extra: int, guard: float
) -> None:
    rounds = Machine(taken).measure(asked, extra, guard)
    assert asked <= len(rounds.made) <= asked + extra
    assert len(rounds.undisturbed) <= asked
    assert len(rounds.undisturbed) == asked or len(rounds.made) == asked + extra
    assert rounds.set_aside == sum(r.taken.per_second > guard for r in rounds.made)
    if not rounds.verdict.is_too_disturbed:
        assert all(r.taken.per_second <= guard for r in rounds.counted)
        assert len(rounds.counted) >= min(asked, 6)


def made_up_study(taken: Sequence[float], *, costs_taken: float = CALM) -> Study:
    """Return a study of a small network whose rounds were disturbed as given."""
    graph = trace(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()).eval(), (3, 8, 8))
    rounds = Rounds(tuple(Round({}, Taken(t, 0.0, 1.0)) for t in taken), 6, 0.05)
    n, timing = len(rounds.counted), Timing(0, 0, 0, (), ())
    methods = {
        name: Method(name, plan(graph, parts), seconds * (1 + 0.01 * np.arange(n)), layers, timing)
        for name, parts, seconds, layers in (
            ("whole", 1, 0.03, np.full((1, 2, 3), 0.005)),
            ("layerwise/tcp", 2, 0.042, np.full((2, 2, 3), 0.007)),
        )
    }
    cost = {"layerwise/tcp": 0.02}
    return Study(graph, 2, methods, cost, cost, {}, rounds, Taken(costs_taken, 0.0, 1.0))


def run_command(monkeypatch: pytest.MonkeyPatch, study: Study, *options: str) -> Any:
    monkeypatch.setattr(study_module, "run_study", lambda *_, **__: study)
    return CliRunner().invoke(
        command, ["--net", "edge-1", "--input", "32", "--mode", "layerwise", *options]
    )


def test_on_a_busy_host_every_ratio_is_marked_and_the_command_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = made_up_study([BUSY] * 7 + [CALM] * 5)
    result = run_command(monkeypatch, study)
    assert result.exit_code == 1
    assert "1.400 disturbed" in result.stdout
    assert "1.400 [" not in result.stdout
    assert result.stdout.count("too disturbed to say") >= 3  # both tables and the verdict
    data = json.loads(run_command(monkeypatch, study, "--json").stdout)
    assert data["verdict"]["word"] == "too disturbed to say"
    assert [row["disturbed"] for row in data["methods"]] == [True, True]
    assert data["rounds"]["set_aside"] == 7
    assert [r["disturbed"] for r in data["rounds"]["readings"]] == [True] * 7 + [False] * 5
    assert data["rounds"]["readings"][0]["foreign_s"] == BUSY


def test_with_enough_undisturbed_rounds_the_command_says_how_many_were_set_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = run_command(monkeypatch, made_up_study([BUSY] * 2 + [CALM] * 6))
    assert result.exit_code == 0
    assert "1.400 [1.400, 1.400]" in result.stdout
    assert "verdict: undisturbed (6 of 8 rounds were undisturbed" in result.stdout
    assert " disturbed│" not in result.stdout


def test_predictions_from_disturbed_costs_are_not_judged() -> None:
    study = made_up_study([CALM] * 6, costs_taken=BUSY)
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(report.methods_table(study))
    assert "20.00 disturbed" in console.export_text()
    assert "predictions are too disturbed" in report.sentences(study)[0]


@pytest.mark.parametrize("taken", [[BUSY] * 12, [CALM] * 6])
def test_figures_bear_the_mark_too(taken: list[float]) -> None:
    study = made_up_study(taken)
    titles = [plot_layers(study, "layerwise/tcp").get_title(), plot_methods(study).get_title()]
    assert ["too disturbed to say" in title for title in titles] == [taken[0] == BUSY] * 2


def test_the_page_says_of_the_drill_what_its_record_says():
    results = Path(__file__).parents[5] / "benchmarks" / "results" / "split_inference"
    drill, quiet = (
        json.loads((results / name).read_text()) for name in ("drill-edge-3.json", "edge-3.json")
    )
    page = " ".join((results / "README.md").read_text(encoding="utf-8").split())
    rounds = drill["rounds"]
    assert f"{rounds['set_aside']} of {rounds['made']} rounds were seen" in page
    whole, layers = (
        {kind: next(m for m in record["methods"] if m["method"] == name) for kind, record in
         (("drill", drill), ("quiet", quiet))} for name in ("whole", "layerwise/tcp")
    )  # fmt: skip
    assert f"takes {layers['drill']['median_ratio']:.3f} of the whole" in page
    assert f"the quiet run has {layers['quiet']['median_ratio']:.3f}" in page
    assert f"took {whole['drill']['median_ms']:.1f} ms in that hour and" in page
    assert f"and {whole['quiet']['median_ms']:.1f} ms in the quiet run" in page
