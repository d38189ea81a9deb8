"""Machine code that is cached on disk must not outlive a source that it was made from."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.errors import NumbaError

from kdsim.model.jit import compiled

ROOT = Path(__file__).resolve().parents[3]
OUTER = """
from kdsim.model.jit import compiled
from kdsim.model import inner_rule
inner = compiled(inner_rule.inner)


@compiled
def outer(x):
    return inner(x)
"""


def outer_of_one(folder):
    """Call the compiled `outer` in a fresh process that sees the copied package."""
    result = subprocess.run(
        [sys.executable, "-c", "from kdsim.engines.outer_loop import outer; print(outer(1.0))"],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    return float(result.stdout)


def test_a_change_in_a_called_rule_of_another_file_reaches_the_cached_loop(tmp_path):
    shutil.copytree(ROOT / "kdsim", tmp_path / "kdsim", ignore=shutil.ignore_patterns("__pyc*"))
    rule = tmp_path / "kdsim" / "model" / "inner_rule.py"
    rule.write_text("def inner(x):\n    return x + 1.0\n")
    (tmp_path / "kdsim" / "engines" / "outer_loop.py").write_text(OUTER)
    assert outer_of_one(tmp_path) == 2.0
    assert list((tmp_path / "kdsim" / "engines" / "__pycache__").glob("outer_loop*.nbi"))
    rule.write_text("def inner(x):\n    return x + 2.0\n")
    assert outer_of_one(tmp_path) == 3.0


def _allocates(n):
    return np.zeros(n).sum()


def test_a_compiled_function_that_allocates_is_refused_when_it_is_compiled():
    # References to arrays are not counted there, so nothing would free what it makes.
    with pytest.raises(NumbaError, match="No implementation"):
        compiled(_allocates)(3)
