"""The command line as a process: what it loads, what it does without extras, how it ends."""

import os
import signal
import subprocess
import sys

import pytest
from broken_scenarios import BASE
from front_door import call, environment, python, spawn

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
        (["optimum", "paper-1to1", "--json"], {"scipy"}),
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


@pytest.mark.parametrize(
    "arguments",
    [["compare", "paper-1to1", "-n", "3"], ["run", "paper-1to1", "--json"], ["--help"]],
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


@pytest.mark.parametrize("command", ["compare", "run", "optimum", "check"])
def test_a_name_that_the_terminal_lacks_is_no_failure(command, tmp_path):
    text = BASE.replace("name: broken", 'name: "caf\xe9 \u2713"')
    (tmp_path / "caf\xe9.yaml").write_text(text, encoding="utf-8")
    answer = spawn(command, "caf\xe9.yaml", cwd=tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert answer.code == 0, answer.err
    assert "caf" in answer.out


def test_a_closed_standard_output_is_no_failure(small, tmp_path):
    line = f'"$0" -m kdsim run {small} >&-'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable],
        check=False, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environment(),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("arguments", [["run"], ["run", "--json"]])
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
        process.kill()
    assert process.returncode == 130
    assert err.strip() == "kdsim: interrupted"


def test_python_dash_m_and_the_function_agree(small, tmp_path):
    assert spawn("run", small, cwd=tmp_path).out == call("run", small).out
