"""The command line as a whole: help, JSON, changes, outputs."""

import json

import pytest
from broken_scenarios import BASE
from front_door import call, spawn

from kdsim.cli.group import _COMMANDS, _WORKLOADS

MINE = ["compare", "run", "optimum", "check", "curves"]


# --- help -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", MINE)
def test_every_command_explains_itself_with_an_example(command):
    for flag in ("--help", "-h"):
        answer = call(command, flag)
        assert answer.code == 0
        assert answer.out.startswith(f"Usage: kdsim {command}")
        # Examples stand on lines of their own, ready to be copied.
        assert any(line.startswith(f"    kdsim {command} ") for line in answer.out.splitlines())
        assert "\\b" not in answer.out


@pytest.mark.parametrize("command", MINE)
def test_every_option_is_explained(command):
    lines = call(command, "--help").out.partition("Options:")[2].splitlines()[1:]
    for here, below in zip(lines, [*lines[1:], ""], strict=True):
        if here.startswith("  -"):
            told = "  " in here.strip() or below.startswith(" " * 10)
            assert told, here


def test_the_commands_stand_in_the_order_of_a_session():
    answer = call("--help")
    assert answer.code == 0
    listed = answer.out.partition("Commands:")[2].split("\n")
    assert [line.split()[0] for line in listed if line.strip()] == list(_COMMANDS)
    assert "\n    kdsim compare measured" in answer.out
    listed = call("workload", "--help").out.partition("Commands:")[2].split("\n")
    assert [line.split()[0] for line in listed if line.strip()] == list(_WORKLOADS)


def test_the_version_is_told():
    answer = call("--version")
    assert answer.code == 0
    assert answer.out.startswith("kdsim, version ")


# --- JSON -----------------------------------------------------------------------------------------


def keys_of(found, *names):
    return set(names) - set(found)


def test_compare_prints_documented_json(small):
    answer = call("compare", small, "--json")
    found = json.loads(answer.out)
    assert not keys_of(found, "scenario", "seed", "rows")
    assert [row["policy"] for row in found["rows"]] == ["random", "greedy", "optimal"]
    for row in found["rows"]:
        names = ("policy", "mean", "ci_low", "ci_high", "min", "max", "n", "gap_mean")
        assert not keys_of(row, *names)
        assert row["n"] == (5 if row["policy"] == "random" else 1)
    assert answer.err == ""
    found = json.loads(call("compare", small, "--json", "--against", "optimal").out)
    assert [row["policy"] for row in found["differences"]] == ["random", "greedy"]


def test_run_prints_documented_json(small):
    found = json.loads(call("run", small, "--json", "-p", "greedy", "--seed", 3).out)
    assert list(found)[:4] == ["scenario", "policy", "seed", "replication"]
    assert not keys_of(found, "makespan", "minimal_makespan", "gap", "segments", "counters")
    assert found["seed"] == 3
    assert [s["index"] for s in found["segments"]] == [1, 2, 3, 4]
    assert set(found["segments"][0]) == {"index", "duration", "scenario", "comm_cores"}
    total = sum(segment["duration"] for segment in found["segments"])
    assert total == pytest.approx(found["makespan"])


def test_optimum_prints_documented_json(small):
    found = json.loads(call("optimum", small, "--json").out)
    assert not keys_of(found, "makespan", "path", "schedule")
    assert found["path"][0] == [0.0, 0.0]
    assert found["path"][-1] == [3.0, 6.0]
    assert set(found["schedule"][0]) == {"start", "duration", "comm_cores", "comp_cores"}
    total = sum(piece["duration"] for piece in found["schedule"])
    assert total == pytest.approx(found["makespan"])


def test_check_prints_documented_json(small, tmp_path):
    (tmp_path / "bad.yaml").write_text(BASE.replace("cores: 4", "cores: 0"))
    answer = call("check", small, "bad.yaml", "--json", "--policy", "greedy")
    found = json.loads(answer.out)
    assert answer.code == 2
    assert found["ok"] is False
    assert [item["ok"] for item in found["findings"]] == [True, False, True]
    assert found["findings"][1]["faults"][0].startswith("bad.yaml:3:")


def test_json_knows_no_nan(small):
    # One replication has no interval: its ends are null.
    answer = call("compare", small, "--json", "-n", 1, "-p", "random")
    row = json.loads(answer.out, parse_constant=pytest.fail)["rows"][0]
    assert row["ci_low"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "paper-1to1", "-n", 5, "--json", "--seed", 11),
        ("run", "paper-1to1", "-p", "random", "--json", "--replication", 4),
        ("optimum", "paper-2to1", "--json"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_same_seed_gives_the_same_bytes_in_any_process(arguments):
    first, second = (spawn(*arguments, PYTHONHASHSEED=str(n)) for n in (1, 4242))
    assert first.code == 0
    assert first.out == second.out
    assert first.out == call(*arguments).out


def test_another_seed_gives_other_numbers(small):
    runs = [call("run", small, "-p", "random", "--json", "--seed", n).out for n in range(5)]
    assert len({json.loads(run)["makespan"] for run in runs}) > 1


# --- changes --------------------------------------------------------------------------------------


def test_a_ratio_multiplies_the_swept_amounts_too(tmp_path):
    text = BASE + "sweep: {workload.comm: [3.0, 5.0]}\n"
    (tmp_path / "a.yaml").write_text(text.replace("forward: 1.0", "forward: 4.0"))
    (tmp_path / "b.yaml").write_text(
        text.replace("[3.0, 5.0]", "[6.0, 10.0]")
        .replace("forward: 1.0", "forward: 12.0")
        .replace("backward: 1.0", "backward: 3.0")
    )
    set_ratio = ("--set", "workload.ratio=3:2")
    by_ratio = call("compare", tmp_path / "a.yaml", "-p", "greedy", "--json", *set_ratio).out
    assert by_ratio == call("compare", tmp_path / "b.yaml", "-p", "greedy", "--json").out


def test_set_changes_fields_and_takes_them_out_of_the_sweep():
    found = json.loads(call("compare", "paper-1to1", "-p", "greedy", "--json").out)
    assert [row["device.cores"] for row in found["rows"]] == [6, 8, 10, 12]
    changed = call("compare", "paper-1to1", "-p", "greedy", "--json", "--set", "device.cores=6").out
    (row,) = json.loads(changed)["rows"]
    assert "device.cores" not in row
    assert row["mean"] == found["rows"][0]["mean"]


def test_an_amount_that_is_set_is_not_undone_by_a_swept_ratio(small, tmp_path):
    (tmp_path / "ratios.yaml").write_text(
        (tmp_path / small).read_text() + 'sweep: {workload.ratio: ["1:1", "2:1"]}\n'
    )
    for change in ("workload.comm=50", "workload.forward=50", "workload.backward=50"):
        arguments = ("-p", "greedy", "--json", "--set", change)
        rows = json.loads(call("compare", "ratios.yaml", *arguments).out)["rows"]
        (alone,) = json.loads(call("compare", small, *arguments).out)["rows"]
        assert rows[0] == {"workload.ratio": "1:1", **alone}
        assert rows[1]["mean"] > alone["mean"]


def test_set_takes_null_ratios_and_exponents(small):
    plain = call("run", small, "--json").out
    assert call("run", small, "--json", "--set", "extensions.prefetch=null").out == plain
    assert call("run", small, "--json", "--set", "workload.ratio=1:1").out == plain
    assert call("run", small, "--json", "--set", "workload.comm=1e0").out == plain
    assert call("run", small, "--json", "--set", "device.cores=2", "--set", "device.cores=4").out \
        == plain  # fmt: skip


def test_a_policy_named_twice_is_compared_once(small):
    found = json.loads(call("compare", small, "-p", "greedy", "-p", "greedy", "--json").out)
    assert len(found["rows"]) == 1


def test_the_timeline_is_written_as_csv(small, tmp_path):
    answer = call("run", small, "--timeline-out", "t.csv")
    assert answer.code == 0
    assert "timeline written to t.csv" in answer.err
    header, *rows = (tmp_path / "t.csv").read_text().splitlines()
    assert header == "start,end,comm_cores,comp_cores,comm,comp,stage,stalled,starved"
    assert rows


def test_a_static_policy_needs_its_cores(small):
    answer = call("run", small, "-p", "static:5")
    assert answer.code == 2
    assert "asks for 5 communication cores, the device has 4" in answer.err


def test_a_suffix_in_capitals_is_the_same_kind_of_output_everywhere(small, tmp_path):
    assert call("compare", small, "-o", "a.PNG").code == 0
    assert call("sweep", small, "-s", "s.sqlite", "-o", "b.PNG", "-o", "b.CSV").code == 0
    assert call("export", "s.sqlite", "-o", "c.Csv").code == 0
    assert call("plot", "s.sqlite", "-o", "d.Svg").code == 0
    for name in ("a.PNG", "b.PNG", "b.CSV", "c.Csv", "d.Svg"):
        assert (tmp_path / name).stat().st_size > 0
