"""What the tests of sweeps share."""

import sys
from pathlib import Path

import pytest
from swept import POLICIES

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def own_policies(tmp_path, monkeypatch):
    """Put a module of user policies where a user would have it: the working folder."""
    name = f"own_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(POLICIES)
    monkeypatch.chdir(tmp_path)
    # Workers import kdsim from the tests' own tree.
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    yield name
    sys.modules.pop(name, None)
