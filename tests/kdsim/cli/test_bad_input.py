"""Bad input on the command line: exit status 2, one clear message, no traceback."""

from pathlib import Path

import pytest
from front_door import call, spawn


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
        (
            "compare small.yaml -o fig.txt",
            "tables are written as .csv, .parquet, .tex, .md (got .txt)",
        ),
        ("sweep small.yaml -o fig.txt", "figures are written as .png, .svg, .pdf"),
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
