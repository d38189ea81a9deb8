"""The tutorial, typed: its files written, its commands run in order, its outputs compared.

With ``KDSIM_REWRITE=1`` the outputs shown on the page are replaced by those of this run.
"""

import os
import re
import shlex
from pathlib import Path

import pytest
from front_door import call

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
#: A file to write, or commands to type with what they print, if the page shows it.
STEP = re.compile(
    r"<!-- file: (?P<file>\S+) -->\n```\w+\n(?P<text>.*?)```"
    r"|(?P<output><!-- output -->\n)?```sh\n(?P<lines>.*?)```(?P<shown>\n\n```text\n.*?```)?",
    re.S,
)
#: Measuring takes a minute, and what it finds is another machine's.
NOT_TYPED = ("kdsim calibrate collect",)


def typed(line):
    """Run one line of the page; return what it printed, without spaces at the ends of lines."""
    answer = call(*shlex.split(line)[1:])
    assert answer.code == 0, f"{line}\n{answer.err}"
    return "\n".join(row.rstrip() for row in answer.out.rstrip().splitlines())


@pytest.mark.slow
def test_every_step_runs_and_prints_what_the_page_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    text = PAGE.read_text(encoding="utf-8")
    compared, written = 0, text
    for step in STEP.finditer(text):
        if step["file"]:
            Path(step["file"]).write_text(step["text"], encoding="utf-8")
            continue
        for line in step["lines"].splitlines():
            if not line.startswith("kdsim ") or line.startswith(NOT_TYPED):
                continue
            printed = typed(line)
        if step["output"]:
            compared += 1
            assert step["shown"], f"no output is shown for {step['lines']}"
            now = f"\n\n```text\n{printed}\n```"
            if os.environ.get("KDSIM_REWRITE"):
                written = written.replace(step[0], step[0].removesuffix(step["shown"]) + now)
            else:
                assert step["shown"] == now
    assert compared >= 5
    for name in ("timeline.png", "data.png", "advice.png", "fit.png"):
        assert (tmp_path / name).stat().st_size > 0
    if os.environ.get("KDSIM_REWRITE"):
        PAGE.write_text(written, encoding="utf-8")
