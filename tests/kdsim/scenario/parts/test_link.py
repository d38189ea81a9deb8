"""The link field of a scenario: constant rates, traces, what is refused and where."""

import json

import numpy as np
import pytest
from broken_scenarios import BASE
from front_door import call

import kdsim
from kdsim.errors import ScenarioError
from kdsim.scenario.changes import with_fields
from kdsim.scenario.files.faults import FaultyFileError
from kdsim.scenario.load import load_scenario


def written(tmp_path, text, **files):
    for name, content in files.items():
        (tmp_path / name.replace("_", ".")).write_text(content)
    path = tmp_path / "scenario.yaml"
    path.write_text(BASE + text)
    return path


def faults(path):
    with pytest.raises(FaultyFileError) as error:
        load_scenario(path)
    return error.value.faults


def test_without_a_link_all_data_are_there_from_the_beginning(tmp_path):
    assert load_scenario(written(tmp_path, "")).plan().link is None
    assert load_scenario(written(tmp_path, "link: {rate: null, trace: null}\n")).plan().link is None


def test_a_constant_rate_reaches_the_plan(tmp_path):
    link = load_scenario(written(tmp_path, "link: {rate: 0.5, starved: shared}\n")).plan().link
    assert link.arrival_time(3.0) == 6.0
    assert link.starved == "shared"


def test_a_trace_reaches_the_plan_and_repeats(tmp_path):
    trace = "# a train\ntime_s,rate\n0,1.0\n2,0\n3,0.5\n"
    path = written(tmp_path, "link: {trace: t.csv}\n", t_csv=trace)
    link = load_scenario(path).plan().link
    np.testing.assert_array_equal(link.times, [0, 2, 3])
    np.testing.assert_array_equal(link.rates, [1, 0, 0.5])
    assert link.period == 4.0  # the last row lasts as long as the one before it
    path = written(tmp_path, "link: {trace: t.csv, repeat: false}\n", t_csv=trace)
    assert load_scenario(path).plan().link.period == np.inf


def test_a_link_can_be_set_and_swept():
    scenario = with_fields(kdsim.load_scenario("paper-1to1"), {"link.rate": 0.5})
    assert scenario.plan().link.rates.tolist() == [0.5]
    assert with_fields(scenario, {"link.starved": "shared"}).plan().link.starved == "shared"
    assert with_fields(scenario, {"link.rate": None}).plan().link is None


def test_a_rate_takes_the_place_of_a_trace():
    scenario = kdsim.load_scenario("measured-4g")
    assert scenario.plan().link.rates.size > 100
    changed = with_fields(scenario, {"link.rate": 2.0})
    assert changed.plan().link.rates.tolist() == [2.0]
    assert changed.link.trace is None


def test_a_link_counts_in_the_digest_and_its_file_name_does_not(tmp_path):
    trace = "time_s,rate\n0,1.0\n2,0.5\n"
    first = load_scenario(written(tmp_path, "link: {trace: a.csv}\n", a_csv=trace))
    other = load_scenario(written(tmp_path, "link: {trace: b.csv}\n", b_csv=trace))
    slower = load_scenario(written(tmp_path, "link: {trace: c.csv}\n", c_csv=trace + "4,0.1\n"))
    assert first.digest() == other.digest()
    digests = {s.digest() for s in (first, slower, with_fields(first, {"link.rate": 1.0}))}
    digests.add(with_fields(first, {"link.starved": "shared"}).digest())
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        ("link: {rate: 0}\n", "link.rate", "at least"),
        ("link: {rate: .nan}\n", "link.rate", "finite"),
        ("link: {rates: 1}\n", "link.rates", "list"),
        ("link: {raet: 1}\n", "link.raet", "did you mean 'rate'"),
        ("link: {rate: 1, starved: wait}\n", "link.starved", "'idle' or 'shared'"),
        ("link: {rate: 1, trace: t.csv}\n", "link.trace", "cannot stand beside rate"),
        ("link: {trace: none.csv}\n", "link.trace", "cannot be used"),
        ("link: {times: [0, 1]}\n", "link.times", "together"),
        ("link: {times: [0, 1], rates: [1]}\n", "link.times", "as many times as rates"),
        ("link: {times: [0, 0], rates: [1, 1]}\n", "link.times", "increase"),
        ("link: {times: [0], rates: [0]}\n", "link.times", "all 0"),
        ("link: {period: 3}\n", "link.period", "needs times"),
        ("link: {times: [0, 2], rates: [1, 0]}\n", "link.trace", "ends with rate 0 after 2 data"),
        ("link: {times: [0], rates: [1.0e-7], period: 1}\n", "link.trace", "repetitions"),
        ("extensions: {link_rate: 0.5}\n", "extensions.link_rate", "is replaced by link.rate"),
        ("sweep: {extensions.link_rate: [1]}\n", "sweep.extensions.link_rate", "link.rate"),
        ("sweep: {link.rate: [1, 0]}\n", "sweep.link.rate[1]", "at least"),
        ("sweep: {link.starved: [idle, busy]}\n", "sweep.link.starved[1]", "'idle' or 'shared'"),
    ],
)
def test_a_wrong_link_is_refused_on_its_line(text, field, said, tmp_path):
    found = faults(written(tmp_path, text))
    fault = next(f for f in found if f.field == field)
    assert said in fault.reason
    assert fault.line == 14


def test_the_former_link_rate_says_what_has_replaced_it():
    with pytest.raises(ScenarioError, match=r"link_rate: is replaced by link\.rate"):
        with_fields(kdsim.load_scenario("paper-1to1"), {"extensions.link_rate": 1.0})


def test_the_command_line_sets_a_link():
    answer = call("compare", "paper-1to1", "-p", "greedy", "--set", "link.rate=0.5",
                  "--set", "device.cores=8", "--set", "link.starved=shared", "--json")  # fmt: skip
    assert answer.code == 0
    row = json.loads(answer.out)["rows"][0]
    expected = kdsim.with_fields(
        kdsim.load_scenario("paper-1to1"), {"link.rate": 0.5, "link.starved": "shared"}
    )
    assert row["mean"] == kdsim.simulate(expected, "greedy").makespan


def test_a_swept_link_has_a_point_per_rate(tmp_path):
    path = written(tmp_path, "sweep: {link.rate: [0.5, 2], link.starved: [idle, shared]}\n")
    rows = kdsim.compare(path, ["comm-priority"]).rows
    assert [(row["link.rate"], row["link.starved"]) for row in rows] == [
        (0.5, "idle"), (0.5, "shared"), (2, "idle"), (2, "shared"),
    ]  # fmt: skip
    assert rows[0]["mean"] > rows[1]["mean"]


def test_a_trace_that_ends_before_the_data_is_named_without_the_whole_scenario(tmp_path):
    trace = "time_s,rate\n0,1\n2,0\n"
    path = written(tmp_path, "link: {trace: t.csv, repeat: false}\n", t_csv=trace)
    (fault,) = faults(path)
    assert fault.reason == "t.csv: ends with rate 0 after 2 data units; 3 have to arrive"
