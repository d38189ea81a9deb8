"""The command line as a whole: help, JSON, exit codes, what it loads, how it ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from broken_scenarios import BASE
from front_door import call, environment, python, spawn

from kdsim.cli.group import _COMMANDS, _WORKLOADS

MINE = ["compare", "run", "optimum", "check", "curves"]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A quick scenario in the present folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(BASE.replace("[greedy", "[random, greedy"))
    return "small.yaml"


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


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("comprae x", "No such command 'comprae'. Did you mean 'compare'?"),
        ("workload afkd", "No such command 'afkd'. Did you mean 'aflkd'?"),
        ("zzz", "No such command 'zzz'."),
        ("compare small.yaml --polcy x", "'--policy'"),
        ("run", "Missing argument 'SCENARIO'"),
        ("run small.yaml more.yaml", "unexpected extra argument"),
        ("compare small.yaml -n 0", "0 is not in the range"),
        ("compare small.yaml -n many", "not a valid integer"),
        ("compare small.yaml --seed -1", "not in the range"),
        ("run small.yaml --replication -1", "not in the range"),
        ("run small.yaml -p gredy", "did you mean 'greedy'?"),
        ("run small.yaml -p static:-1", "static:c takes a whole number"),
        ("compare small.yaml -p optmal", "did you mean 'optimal'?"),
        ("compare small.yaml --against optmal", "did you mean 'optimal'?"),
        ("run smal", "scenarios that ship: "),
        ("run paper1to1", "did you mean 'paper-1to1'?"),
        ("run small.yaml --set device.core=2", "did you mean 'device.cores'?"),
        ("run small.yaml --set device.cores", "takes FIELD=VALUE"),
        ("run small.yaml --set =2", "takes FIELD=VALUE"),
        ("run small.yaml --set device.cores=two", "device.cores: must be a number (got 'two')"),
        ("run small.yaml --set device.cores=", "whole number"),
        ("run small.yaml --set device.cores=nan", "must be finite"),
        ("run small.yaml --set device.cores=0", "at least 1 (got 0)"),
        ("run small.yaml --set workload.ratio=1:x", "ratio such as '2:1'"),
        ("run small.yaml --set device.compute.a2=1", "must stay positive"),
        ("run small.yaml --timeline-out nowhere/t.csv", "no folder nowhere"),
        ("run small.yaml --timeline-out .", "is a directory"),
        ("run small.yaml -o nowhere/t.png", "no folder nowhere"),
        ("compare small.yaml -o nowhere/t.png", "no folder nowhere"),
        ("curves small.yaml -o nowhere/t.png", "no folder nowhere"),
        ("compare small.yaml -o fig.txt", "figures are written as .png, .svg, .pdf"),
        ("run small.yaml -o fig", "figures are written as .png, .svg, .pdf"),
        ("curves small.yaml", "Missing option"),
        ("check", "give a scenario, --policy or --schema"),
    ],
)
def test_bad_input_is_told_with_a_hint(arguments, words, small):
    answer = call(*arguments.split())
    assert answer.code == 2, answer
    assert words in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""


def test_a_place_that_cannot_be_written_is_told(small, tmp_path):
    (tmp_path / "file").write_text("")
    answer = call("run", small, "--timeline-out", "file/t.csv")
    assert answer.code == 2
    assert "cannot be written" in answer.err
    answer = spawn("run", small, "--timeline-out", "/proc/t.csv", cwd=tmp_path)
    assert answer.code == 2
    assert "cannot be written" in answer.err
    assert "Traceback" not in answer.err


def test_a_name_too_long_for_the_system_is_told_with_the_name(small):
    long, store = "x" * 300, "s.sqlite"
    assert call("sweep", small, "-s", store).code == 0
    for arguments in (
        ("compare", small, "-o", f"{long}.png"),
        ("run", small, "--trace-out", f"{long}.json"),
        ("run", small, "--timeline-out", f"{long}.csv"),
        ("sweep", small, "-s", long),
        ("export", long),
        ("export", store, "-o", f"{long}.csv"),
        ("report", store, "-o", f"{long}.html"),
        ("compare", small, "-o", f"{long}/fig.png"),
    ):
        answer = call(*arguments)
        assert answer.code == 2, answer
        assert answer.err.splitlines()[-1].startswith(f"kdsim: {long}")
        assert answer.err.endswith(": File name too long\n")


def test_what_stood_in_a_table_stays_until_the_new_one_is_whole(small, tmp_path, monkeypatch):
    assert call("sweep", small, "-s", "s.sqlite").code == 0
    (tmp_path / "t.csv").write_text("old")

    def disk_is_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", disk_is_full)
    for arguments in (("export", "s.sqlite"), ("export", "s.sqlite", "--against", "greedy")):
        answer = call(*arguments, "-o", "t.csv")
        assert answer.code == 2, answer
        assert answer.err == "kdsim: t.csv: cannot be written: No space left on device\n"
    assert call("run", small, "--timeline-out", "t.csv").code == 2
    assert (tmp_path / "t.csv").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir() if "t.csv" in path.name) == ["t.csv"]


def test_without_a_command_the_help_is_shown():
    answer = call()
    assert answer.code == 2
    assert "Usage: kdsim" in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("-p greedy -p optmal", "of policy 'optmal' - did you mean 'optimal'?; there are random"),
        ("--at device.cores=5", "no finished run of the store is at device.cores=5"),
        ("--at workload.ratio=1:1", "swept: device.cores"),
    ],
)
def test_a_figure_of_what_the_store_lacks_is_refused(arguments, words, small, tmp_path):
    (tmp_path / "swept.yaml").write_text(
        (tmp_path / small).read_text() + "sweep: {device.cores: [2, 4]}\n"
    )
    assert call("sweep", "swept.yaml", "-s", "s.sqlite", "-n", 2).code == 0
    answer = call("plot", "s.sqlite", *arguments.split(), "-o", "fig.png")
    assert answer.code == 2
    assert words in answer.err
    assert not (tmp_path / "fig.png").exists()


def test_a_sweep_whose_runs_all_fail_says_why_though_a_figure_was_asked_for(small, tmp_path):
    answer = call("sweep", small, "-p", "static:9", "-o", "fig.png", "-o", "t.csv")
    assert answer.code == 1
    assert "policy static:9 asks for 9 communication cores" in answer.err
    assert "failed" in (tmp_path / "t.csv").read_text()
    assert not (tmp_path / "fig.png").exists()


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


# --- what is loaded -------------------------------------------------------------------------------

HEAVY = ["torch", "pandas", "scipy", "matplotlib", "numba", "dask", "distributed", "sklearn"]
LIGHT = ["numpy", "pydantic", "simpy", "rich", "click"]
LOADED = """
import sys
from pathlib import Path
sys.argv = ["kdsim", *{arguments!r}]
from kdsim.cli.group import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("\\nloaded:", *sorted(set({heavy!r}) & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], set()),
        (["compare", "--help"], set()),
        (["--version"], set()),
        (["check", "paper-1to1"], {"scipy"}),
        (["optimum", "paper-1to1", "--json"], {"scipy"}),
        (["run", "paper-1to1", "--json"], {"scipy"}),
        (["check", "paper-1to1", "--policy", "greedy"], {"scipy"}),
        (["compare", "paper-1to1", "-n", "2", "--json"], {"scipy"}),
    ],
    ids=" ".join,
)
def test_a_command_loads_what_it_needs_and_no_more(arguments, allowed):
    answer = python(LOADED.format(arguments=arguments, heavy=HEAVY))
    assert answer.code == 0, answer.err
    loaded = answer.out.rpartition("loaded:")[2].split()
    assert set(loaded) <= allowed


def test_importing_kdsim_loads_nothing_heavy():
    code = f"import sys, kdsim; dir(kdsim); print(*(set({HEAVY + LIGHT!r}) & set(sys.modules)))"
    answer = python(code)
    assert answer.code == 0
    assert answer.out.split() == []


WITHOUT = """
import sys
from pathlib import Path
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
import kdsim.cli.group as cli
cli._COMMANDS["needs"] = ("needs:command", "")
import types
sys.path.insert(0, ".")
cli.main(["needs"])
"""


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("torch", "pip install 'kdsim[torch]'"),
        ("sklearn", "pip install 'kdsim[torch]'"),
        ("pooch", "pip install 'kdsim[torch]'"),
        ("distributed", "pip install 'kdsim[cluster]'"),
        ("matplotlib", "pip install matplotlib"),
    ],
)
def test_a_missing_extra_is_told_with_the_line_that_installs_it(missing, words, tmp_path):
    (tmp_path / "needs.py").write_text(f"import {missing}\n")
    answer = python(WITHOUT.format(missing=missing), cwd=tmp_path)
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert f"needs {missing}, which is not installed" in answer.err
    assert words in answer.err


def test_an_extra_that_is_missed_only_later_is_told_as_well(small, tmp_path):
    code = WITHOUT.format(missing="pandas").replace('["needs"]', repr(["sweep", small]))
    answer = python(code, cwd=tmp_path)
    assert answer.code == 2
    assert "pip install pandas" in answer.err
    assert "Traceback" not in answer.err


# --- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [["compare", "paper-1to1", "-n", "3"], ["run", "paper-1to1"], ["optimum", "paper-1to1"],
     ["run", "paper-1to1", "--json"], ["check", "--schema"], ["--help"], ["compare", "--help"]],
    ids=" ".join,
)  # fmt: skip
def test_a_reader_that_goes_away_leaves_no_noise(arguments):
    read, write = os.pipe()
    os.close(read)  # gone before the first line
    process = subprocess.Popen(
        [sys.executable, "-m", "kdsim", *arguments],
        stdout=write, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    os.close(write)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert err == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("command", ["compare", "run", "optimum", "check"])
def test_a_name_that_the_terminal_lacks_is_no_failure(command, encoding, tmp_path):
    text = BASE.replace("name: broken", 'name: "caf\xe9 \u2713"')
    (tmp_path / "caf\xe9.yaml").write_text(text, encoding="utf-8")
    answer = spawn(command, "caf\xe9.yaml", cwd=tmp_path, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert answer.code == 0, answer.err
    assert "caf" in answer.out


@pytest.mark.parametrize("command", ["check", "run", "optimum"])
def test_a_closed_standard_output_is_no_failure(command, small, tmp_path):
    line = f'"$0" -m kdsim {command} {small} >&-'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable],
        check=False, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environment(),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("arguments", [["check"], ["run"], ["run", "--json"], ["optimum"]])
def test_a_full_disk_is_told(arguments, small, tmp_path):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "kdsim", *arguments, small],
            check=False, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
            cwd=tmp_path, env=environment(),
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "kdsim: the output cannot be written: No space left on device\n"


WAITS = """
import signal
from kdsim import Policy
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
class Mine(Policy):
    name = "mine"
    def decide(self, state):
        print("started", flush=True)
        while True:
            pass
"""


def test_ctrl_c_ends_a_run_with_130(tmp_path):
    (tmp_path / "waits.py").write_text(WAITS)
    process = subprocess.Popen(
        [sys.executable, "-m", "kdsim", "run", "paper-1to1", "-p", "waits:Mine"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment(),
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()  # a policy that never answers would keep a core busy for ever
    assert process.returncode == 130
    assert err.strip() == "kdsim: interrupted"


def test_python_dash_m_and_the_function_agree(small, tmp_path):
    assert spawn("run", small, cwd=tmp_path).out == call("run", small).out


def test_a_suffix_in_capitals_is_the_same_kind_of_output_everywhere(small, tmp_path):
    assert call("compare", small, "-o", "a.PNG").code == 0
    assert call("sweep", small, "-s", "s.sqlite", "-o", "b.PNG", "-o", "b.CSV").code == 0
    assert call("export", "s.sqlite", "-o", "c.Csv").code == 0
    assert call("plot", "s.sqlite", "-o", "d.Svg").code == 0
    for name in ("a.PNG", "b.PNG", "b.CSV", "c.Csv", "d.Svg"):
        assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize("command", ["compare", "sweep", "run"])
def test_an_output_of_unknown_kind_is_refused_before_any_work(command, small):
    answer = call(command, small, "-o", "fig.txt")
    assert answer.code == 2
    assert "figures are written as .png, .svg, .pdf" in answer.err
    assert "(got .txt)" in answer.err
