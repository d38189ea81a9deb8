"""Everything that the README tells a newcomer to type, typed; its output is the output."""

import contextlib
import io
import re
from pathlib import Path

import pytest
from front_door import call

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """Return the fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


def test_it_is_a_page():
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.S)
    assert len(prose.split()) <= 800


def test_the_table_is_what_the_command_prints(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    (shown,) = re.findall(r"<!-- output: kdsim (.*?) -->\n```\n(.*?)```", TEXT, re.S)
    answer = call(*shown[0].split())
    assert answer.code == 0
    printed = [line.rstrip() for line in answer.out.rstrip().splitlines()]
    assert shown[1].rstrip().splitlines() == printed


def test_the_python_lines_run():
    (code,) = blocks("python")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    assert "state-based" in out.getvalue()


def test_the_scenario_is_legal_and_can_be_compared(tmp_path):
    (text,) = blocks("yaml")
    (tmp_path / "board.yaml").write_text(text)
    assert len(text.splitlines()) == 8
    assert call("check", tmp_path / "board.yaml").code == 0
    answer = call("compare", tmp_path / "board.yaml", "-n", 3)
    assert answer.code == 0
    assert "proxy" in answer.out  # the curves are stand-ins, and the table says so


@pytest.mark.parametrize("complete", [True, False])
def test_own_timings_are_imported_in_one_command(tmp_path, complete):
    (line,) = re.findall(r"^    kdsim (calibrate import .*)$", TEXT, re.M)
    rows = ["kind,cores,amount,dur_ms" if complete else "kind,amount,dur_ms"]
    for task, ideal, first in (("compute", 100.0, 0), ("comm", 50.0, 1)):
        for c in range(first, first + 8):
            own = c if task == "comm" else 8 - c
            for k in range(3):
                place = f"{c}," if complete else ""
                rows.append(f"{task},{place}1,{ideal / own * (1 + 0.01 * k):.3f}")
    (tmp_path / "own.csv").write_text("\n".join(rows) + "\n")
    files = {name: str(tmp_path / name) for name in ("own.csv", "trace.csv")}
    answer = call(*(files.get(word, word) for word in line.split()))
    if complete:
        assert answer.code == 0, answer.err
        assert (tmp_path / "trace.csv").exists()
    else:  # what the file does not say is asked for
        assert answer.code == 2
        assert "cores" in answer.err
