"""What the tests of the command line share."""

import pytest
from broken_scenarios import BASE


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A quick scenario in the present folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(BASE.replace("[greedy", "[random, greedy"))
    return "small.yaml"
