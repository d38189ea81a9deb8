"""A newcomer's first hour: check, compare, the optimum, one run, a policy of their own."""

import json

import pytest
from front_door import call, python, spawn

SCENARIO = """\
name: my-device
device:
  cores: 4
  compute: {model: amdahl, rate1: 10.0, serial: 0.05}
  communication: {model: table, cores: [1, 2, 4], rates: [4.0, 7.0, 9.0]}
workload:
  cycles: 6
  comm: [2.0, 2.0, 2.0, 1.0, 1.0, 1.0]
  forward: 4.0
  backward: 8.0
policies: [random, comm-priority, greedy, optimal]
replications: 20
sweep:
  device.cores: [2, 4]
"""
POLICY = """\
from kdsim import Decision, Policy


class Half(Policy):
    name = "half"

    def decide(self, state):
        return Decision(state.total_cores // 2)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my.yaml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_first_session_from_a_shell(folder):
    # A misspelt key first, as it happens; the message leads to the line.
    (folder / "my.yaml").write_text(SCENARIO.replace("forward:", "foward:"))
    answer = call("check", "my.yaml")
    assert answer.code == 2
    assert "my.yaml:9:3: workload.foward: unknown field - did you mean 'forward'?" in answer.err
    (folder / "my.yaml").write_text(SCENARIO)
    answer = call("check", "my.yaml")
    assert answer.code == 0
    assert answer.out == "my.yaml: ok (4 cores, 6 cycles, 4 policies, 2 points)\n"

    # The main job: every policy beside the bound, at every point.
    answer = call("compare", "my.yaml", "--json")
    rows = json.loads(answer.out)["rows"]
    assert len(rows) == 8
    for row in rows:
        assert row["min"] >= row["bound"] * (1 - 1e-12)
    optimal = {r["device.cores"]: r["mean"] for r in rows if r["policy"] == "optimal"}
    assert optimal[4] < optimal[2]

    # What the bound is, and the schedule that attains it.
    answer = call("optimum", "my.yaml", "--json")
    bound = json.loads(answer.out)["makespan"]
    assert bound == pytest.approx(optimal[4])
    assert "minimal makespan" in call("optimum", "my.yaml").out

    # One run in detail.
    found = json.loads(call("run", "my.yaml", "-p", "optimal", "--json").out)
    assert found["makespan"] == pytest.approx(bound, rel=1e-9)
    assert len(found["segments"]) == 7

    # And a policy of their own, checked before it is compared.
    (folder / "mine.py").write_text(POLICY)
    answer = spawn("check", "my.yaml", "--policy", "mine:Half", cwd=folder)
    assert answer.code == 0, answer.err
    assert "policy mine:Half: ok (87 runs)" in answer.out
    answer = spawn("compare", "my.yaml", "-p", "mine:Half", "-p", "optimal", "--json", cwd=folder)
    rows = json.loads(answer.out)["rows"]
    half = {r["device.cores"]: r for r in rows if r["policy"] == "mine:Half"}
    assert half[4]["mean"] >= bound
    assert half[4]["gap_mean"] >= 0


def test_the_same_session_from_python(folder):
    code = f"""
import kdsim
{POLICY.partition(chr(10))[2]}
from kdsim import Decision, Policy

scenario = kdsim.load_scenario("my.yaml")
best = kdsim.minimal_makespan(scenario)
run = kdsim.simulate(scenario, policy="optimal")
assert abs(run.makespan / best.makespan - 1) < 1e-9
times = kdsim.simulate_many(scenario, policy="random", replications=5, seed=1)
assert times.shape == (5,)
assert times.min() >= best.makespan
assert kdsim.check_policy(Half).ok
result = kdsim.compare(scenario, policies=[Half, "optimal"])
print(result.frame.to_string())
try:
    kdsim.with_fields(scenario, {{"device.core": 2}})
except kdsim.ScenarioError as error:
    print(error)
""".replace("\nclass Half", "\nfrom kdsim import Decision, Policy\nclass Half", 1)
    answer = python(code, cwd=folder)
    assert answer.code == 0, answer.err
    assert "half" in answer.out
    assert "did you mean 'device.cores'?" in answer.out
