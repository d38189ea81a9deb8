"""Ways to call the command line from a test: in this process, or in a fresh one."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import kdsim
from kdsim.cli.group import main

ROOT = Path(kdsim.__file__).resolve().parents[1]


class Answer(NamedTuple):
    """What a call gave."""

    code: int
    out: str
    err: str


def call(*arguments: object) -> Answer:
    """Run the command line in this process; anything but a clean exit is raised."""
    out, err = io.StringIO(), io.StringIO()
    code = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(a) for a in arguments])
        except SystemExit as error:
            code = error.code
    return Answer(code, out.getvalue(), err.getvalue())


def environment(**extra: str) -> dict[str, str]:
    """Return an environment in which a fresh process finds this checkout first."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **extra}


def spawn(*arguments: object, cwd: Path | None = None, **extra: str) -> Answer:
    """Run the command line in a fresh process."""
    command = [sys.executable, "-W", "error", "-m", "kdsim", *map(str, arguments)]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        cwd=cwd,
        env=environment(**extra),
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def python(code: str, cwd: Path | None = None) -> Answer:
    """Run Python code in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False, capture_output=True, text=True, timeout=120, cwd=cwd, env=environment(),
    )  # fmt: skip
    return Answer(done.returncode, done.stdout, done.stderr)
