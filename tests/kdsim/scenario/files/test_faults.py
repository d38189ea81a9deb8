"""All faults of a file at once, each on its line, in words that help."""

import pytest
from broken_scenarios import BASE
from front_door import call

from kdsim.messages import did_you_mean, shorten
from kdsim.scenario.files.faults import MAX_SHOWN, Fault, FaultyFileError, dotted
from kdsim.scenario.load import load_scenario

MANY = """\
nam: everything
device:
  cores: 0
  reference_cores: yes
  compute: {a1: -1, a2: .nan, a4: 0}
  communication: {model: ulu, rate1: 1}
workload:
  cycles: 3
  comm: [1, 2]
  forward: [1, 2, 3, 4]
  backward: -1
  backward: 2
policies: [gredy, 7, optimal, 'static:']
replications: 1.5
seed: '0'
extensions: {prefetch: 0, nois: 0.1, release: .inf}
sweep:
  seed: [1, -1, x]
  workload.comm: [3]
  extension.noise: [1]
design: {method: zip}
"""


def test_all_faults_of_a_file_come_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "many.yaml").write_text(MANY)
    with pytest.raises(FaultyFileError) as caught:
        load_scenario("many.yaml")
    found = [(fault.line, fault.field) for fault in caught.value.faults]
    assert found == [
        (1, "name"),
        (1, "nam"),
        (3, "device.cores"),
        (4, "device.reference_cores"),
        (5, "device.compute.a1"),
        (5, "device.compute.a2"),
        (5, "device.compute.a4"),
        (6, "device.communication.model"),
        (9, "workload.comm"),
        (10, "workload.forward"),
        (11, "workload.backward"),
        (12, "workload.backward"),
        (13, "policies[0]"),
        (13, "policies[1]"),
        (13, "policies[3]"),
        (14, "replications"),
        (15, "seed"),
        (16, "extensions.prefetch"),
        (16, "extensions.nois"),
        (16, "extensions.release"),
        (17, "sweep"),
        (18, "sweep.seed[1]"),
        (18, "sweep.seed[2]"),
        (20, "sweep.extension.noise"),
    ]
    for command in ("check", "compare"):
        answer = call(command, "many.yaml")
        assert answer.code == 2
        assert len(answer.err.splitlines()) == len(found)


def test_each_illegal_swept_value_has_its_line(tmp_path):
    sweep = "sweep:\n  device.cores:\n    - 1\n    - -1\n    - 2.5\n    - 2\n    - many\n"
    (tmp_path / "a.yaml").write_text(BASE + sweep)
    with pytest.raises(FaultyFileError) as caught:
        load_scenario(tmp_path / "a.yaml")
    assert [(f.line, f.field) for f in caught.value.faults] == [
        (17, "sweep.device.cores[1]"),
        (18, "sweep.device.cores[2]"),
        (20, "sweep.device.cores[4]"),
    ]


@pytest.mark.parametrize("samples", ["0", "1e3", "many"])
def test_of_a_faulty_design_nothing_is_said_of_its_sweep(samples, tmp_path):
    sweep = "sweep: {device.cores: {low: 2, high: 8}}\n"
    design = f"design: {{method: sobol, samples: {samples}}}\n"
    (tmp_path / "a.yaml").write_text(BASE + sweep + design)
    with pytest.raises(FaultyFileError) as caught:
        load_scenario(tmp_path / "a.yaml")
    assert [fault.field for fault in caught.value.faults] == ["design.samples"]


def test_both_curves_are_told_when_both_are_wrong(tmp_path):
    text = BASE.replace("a2: 0.2", "a2: 0.9").replace("b3: 2.0", "b3: 0.01")
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(FaultyFileError) as caught:
        load_scenario(tmp_path / "a.yaml")
    fields = [(f.line, f.field) for f in caught.value.faults]
    assert fields == [(4, "device.compute.a2"), (5, "device.communication")]


def test_faults_of_several_files_all_come(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("a: [")
    (tmp_path / "good.yaml").write_text(BASE)
    (tmp_path / "b.yaml").write_text("[]")
    answer = call("check", "a.yaml", "good.yaml", "nowhere.yaml", "b.yaml")
    assert answer.code == 2
    assert answer.out.startswith("good.yaml: ok")
    assert [line.split(":")[1].strip() for line in answer.err.splitlines()] == [
        "a.yaml", "nowhere.yaml", "b.yaml",
    ]  # fmt: skip


def test_a_thousand_faults_are_not_all_printed(tmp_path):
    amounts = ", ".join(["x"] * 1000)
    text = BASE.replace("comm: 1.0", f"comm: [{amounts}]").replace("cycles: 3", "cycles: 1000")
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(FaultyFileError) as caught:
        load_scenario(tmp_path / "a.yaml")
    lines = str(caught.value).splitlines()
    assert len(caught.value.faults) == 1000
    assert len(lines) == MAX_SHOWN + 1
    assert lines[-1] == "... and 950 more faults"


def test_an_endless_key_or_value_is_cut_in_messages(tmp_path):
    (tmp_path / "a.yaml").write_text(BASE + f"{'k' * 900}: 1\n")
    with pytest.raises(FaultyFileError) as caught:
        load_scenario(tmp_path / "a.yaml")
    assert len(str(caught.value)) < 400
    (tmp_path / "a.yaml").write_text(BASE.replace("seed: 0", f"seed: {'v' * 900}"))
    with pytest.raises(FaultyFileError) as caught:
        load_scenario(tmp_path / "a.yaml")
    assert len(str(caught.value)) < 400


def test_faults_are_sorted_by_place():
    faults = [Fault("b", 1, 1, "", "y"), Fault("a", 2, 1, "", "x"), Fault("a", 1, 9, "f", "z")]
    assert str(FaultyFileError(faults)) == "a:1:9: f: z\na:2:1: x\nb:1:1: y"


def test_a_fault_without_line_names_the_file_alone():
    assert str(Fault("a.yaml", 0, 0, "", "no such file")) == "a.yaml: no such file"


def test_values_are_shown_as_a_file_holds_them():
    assert shorten(None) == "nothing"
    assert shorten(True) == "true"
    assert shorten("a") == "'a'"
    assert shorten([0] * 9) == "a list of 9 entries"
    assert shorten(dict.fromkeys(range(9), 0)) == "a mapping of 9 entries"
    assert len(shorten("x" * 1000)) == 60


def test_locations_read_like_code():
    assert dotted(("workload", "comm", 3)) == "workload.comm[3]"
    assert dotted(()) == ""


def test_did_you_mean_stays_silent_when_nothing_is_near():
    assert did_you_mean("gredy", ["greedy", "random"]) == " - did you mean 'greedy'?"
    assert did_you_mean("zzz", ["greedy", "random"]) == ""
