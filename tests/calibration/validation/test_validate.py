"""From a fit to a verdict: what is refused, what is drawn, what the command prints and returns."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO

import pandas as pd
import pytest
from click.testing import CliRunner
from made_up_runs import CHUNK_MB, SETTINGS, run_as_predicted
from synthetic_traces import synthetic

from calibration.commands.calibrate import command
from calibration.fit import fit_trace
from calibration.machine.cores import take_cores
from calibration.trace import Trace, write_trace
from calibration.validation import validate
from calibration.validation.conditions import parse_condition
from calibration.validation.plots import timeline_figure, validation_figure
from calibration.validation.predict import predict
from kdsim.errors import KdsimError, PolicyError, WorkloadError

TINY = {"batch": 8, "channels": [2, 4], "classes": 100}


@pytest.fixture(scope="module")
def fitted():
    return fit_trace(synthetic(4, noise=0.01), bootstrap=20)


def judged(fit, settings=SETTINGS, **options):
    predictions = predict(fit, settings, CHUNK_MB)
    return validate.judge(
        fit, CHUNK_MB, settings, predictions, run_as_predicted(fit, settings, **options)
    )


def test_a_perfect_prediction_holds(fitted):
    result = judged(fitted)
    assert result.verdict.word == "holds"
    assert result.summary["worst_absolute_error"] < 1e-9
    assert set(result.summary["kendall_tau"].values()) == {1.0}
    assert result.summary["pairs_in_order"] == result.summary["pairs_separated"] > 0
    assert len(result.table) == 8
    assert (result.table["predicted_low"] <= result.table["predicted_high"]).all()
    assert (result.table["worst_task_error"] < 1e-9).all()


def test_a_prediction_that_is_off_does_not_hold_and_is_off_in_its_tasks_too(fitted):
    result = judged(fitted, factor=1.25)
    assert result.verdict.word == "does not hold"
    assert result.table["error"].to_numpy() == pytest.approx(-0.2)
    assert (result.table["worst_task_error"] > 0.1).all()


def test_a_disturbed_machine_says_nothing_even_if_its_figures_look_right(fitted):
    assert judged(fitted, taken=0.2).verdict.word == "too disturbed to say"


def test_a_validation_can_be_drawn(fitted):
    result = judged(fitted)
    (ax,) = validation_figure(result).axes
    assert "measured makespan (s)" in ax.get_xlabel()
    legend = {text.get_text() for text in ax.get_legend().get_texts()}
    assert legend >= {"greedy", "random", "1:1", "2:1 prefetch=1"}
    figure = timeline_figure(result, policies=2)
    assert [ax.get_title(loc="left").split(":")[0] for ax in figure.axes] == [
        "measured", "predicted", "measured", "predicted",
    ]  # fmt: skip


@pytest.mark.parametrize("draw", [validation_figure, timeline_figure])
def test_the_figures_of_a_validation_without_an_undisturbed_run_say_so(fitted, draw):
    figure = draw(judged(fitted, taken=0.2))  # nothing but predictions
    figure.savefig(BytesIO())  # used to fail: an axis without a number, a row of no runs
    assert "every run was disturbed" in figure.axes[0].texts[0].get_text()


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"policies": ("greedy", "greedy")}, WorkloadError, "policies must be given, and each"),
        ({"policies": ()}, WorkloadError, "policies must be given"),
        ({"conditions": (parse_condition("1:1"),) * 2}, WorkloadError, "conditions must be given"),
        ({"policies": ("greedy", "gredy")}, PolicyError, "did you mean 'greedy'"),
        ({"policies": ("greedy", "static:99")}, PolicyError, "asks for 99 communication cores"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is(changes, error, said, monkeypatch):
    monkeypatch.setattr(validate, "measure_cells", lambda *_, **__: pytest.fail("a run was made"))
    total = len(take_cores(None))
    here = fit_trace(synthetic(total, a2=0.3), communication_model="table", bootstrap=0)
    with pytest.raises(error, match=said):
        validate.validate(here, replace(SETTINGS, **changes))


def test_another_device_s_trace_cannot_be_validated_here(fitted):
    header = {"cores": list(range(len(take_cores(None))))}
    other = fit_trace(Trace(synthetic(11, a2=0.05).rows, header), bootstrap=0)
    with pytest.raises(WorkloadError, match="validate on the device that was measured"):
        validate.validate(other, SETTINGS)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "t.csv"
    write_trace(path, synthetic(4, trials=2).rows, {})
    return path


def invoke(monkeypatch, trace, fit, *arguments, **options):
    """Call the command on runs that are made up."""
    monkeypatch.setattr(
        validate, "validate", lambda _, settings, progress: judged(fit, settings, **options)
    )
    return CliRunner().invoke(command, ["validate", str(trace), "--cycles", "4", *arguments])


@pytest.mark.parametrize(
    ("options", "word", "status"),
    [
        ({}, "holds", 0),
        ({"factor": 1.25}, "does not hold", 1),
        ({"taken": 0.2}, "too disturbed to say", 1),
    ],
)
def test_the_verdict_is_the_last_line_and_the_exit_status(
    monkeypatch, trace, fitted, options, word, status
):
    result = invoke(monkeypatch, trace, fitted, "--policies", "greedy,optimal", **options)
    assert result.exit_code == status, result.output
    assert f"verdict: {word} (" in " ".join(result.stdout.split())
    assert "nan" not in result.stdout  # what nobody knows is a dash


def test_the_command_tells_a_machine_every_run_and_its_disturbance(monkeypatch, trace, fitted):
    result = invoke(monkeypatch, trace, fitted, "--policies", "greedy", "--json", taken=0.2)
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["verdict"]["word"] == "too disturbed to say"
    assert len(found["runs"]) == 12
    assert all(run["disturbed"] and run["foreign_s"] == 0.2 for run in found["runs"])
    assert "order statistics" in found["manifest"]["estimate"]


def test_results_are_written_where_they_were_asked_for(monkeypatch, trace, fitted, tmp_path):
    places = [tmp_path / name for name in ("v.csv", "v.png", "lines.png")]
    options = zip(("-o", "--plot", "--timelines"), map(str, places), strict=True)
    arguments = [part for option in options for part in option]
    result = invoke(monkeypatch, trace, fitted, "--policies", "greedy,optimal", *arguments)
    assert result.exit_code == 0, result.output
    assert all(place.stat().st_size > 100 for place in places)
    assert len(pd.read_csv(places[0])) == 4


@pytest.mark.parametrize("option", ["-o", "--plot", "--timelines"])
def test_results_are_given_a_place_before_anything_is_run(option, trace, tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "validate", lambda *_, **__: pytest.fail("a run was made"))
    before = trace.read_bytes()
    places = [tmp_path / "no" / "x.png", trace] + [tmp_path / "x.xyz"] * (option != "-o")
    for place in places:
        result = CliRunner().invoke(command, ["validate", str(trace), option, str(place)])
        assert isinstance(result.exception, KdsimError)
        assert str(place) in str(result.exception)
    assert trace.read_bytes() == before


@pytest.mark.parametrize("ratio", ["1", "a:b", "0:1", "1:-1", "1:1:1", "nan:1"])
def test_a_ratio_of_times_must_be_one(ratio, trace):
    result = CliRunner().invoke(command, ["validate", str(trace), "--time-ratios", ratio])
    assert isinstance(result.exception, WorkloadError)
    assert "ratio of times like 2:1" in str(result.exception)


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
        "validate", str(path), "--policies", "greedy,comm-priority", "--cycles", "2",
        "--batches", "1", "--guard", "100", "--budget", "1", "--json",
        "--condition", "1:1 link=0.5x starved=shared prefetch=1 release=0.5x",
    ]  # fmt: skip
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    found = json.loads(result.stdout)
    assert {row["policy"] for row in found["rows"]} == {"greedy", "comm-priority"}
    assert all(run["makespan"] > 0 and run["elapsed_s"] > 0 for run in found["runs"])
    assert result.exit_code == (0 if found["verdict"]["word"] == "holds" else 1)
