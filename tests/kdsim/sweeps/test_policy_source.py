"""What a policy's hash covers: the code that its class needs, and nothing else."""

from __future__ import annotations

import hashlib
import sys
import textwrap

import pytest

from kdsim.errors import UnknownPolicyError
from kdsim.sweeps.policy_source import is_source, package_digest, policy_source

FILES = {
    "mine.py": """
        '''Two policies of a user.'''
        from kdsim import Decision, Policy
        import numpy as np
        import helper
        from tools.rates import half
        SHARE = 2

        def unused():
            return 1

        def rounded(x):
            return int(x)

        class Base(Policy):
            def limit(self, state):
                return rounded(state.total_cores / SHARE)

        class Mine(Base):
            name = "mine"
            def decide(self, state):
                return Decision(helper.clip(half(self.limit(state))))

        class Other(Policy):
            name = "other"
            def decide(self, state):
                return Decision(0)
    """,
    "helper.py": "import deeper\ndef clip(x):\n    return deeper.same(x)\n",
    "deeper.py": "def same(x):\n    return x\n",
    "tools/__init__.py": "LIMIT = 3\n",
    "tools/rates.py": """
        from . import more
        def half(x):
            return x // 2
        def third(x):
            return x // 3
    """,
    "tools/more.py": "TWO = 2\n",
    "alone.py": "from kdsim import Policy\nclass Alone(Policy):\n    name = 'alone'\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "tools").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(textwrap.dedent(text).lstrip("\n"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def edit(folder, name, old, new):
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("mine.py", "clip(half(self", "clip(half(0 * self"),
        ("mine.py", "total_cores / SHARE", "total_cores * SHARE"),
        ("mine.py", "int(x)", "round(x)"),
        ("mine.py", "SHARE = 2", "SHARE = 3"),
        ("helper.py", "same(x)", "same(-x)"),
        ("deeper.py", "return x", "return -x"),
        ("tools/__init__.py", "LIMIT = 3", "LIMIT = 4"),
        ("tools/rates.py", "x // 2", "x // 4"),
        ("tools/more.py", "TWO = 2", "TWO = 1"),
    ],
)
def test_a_change_of_what_the_class_needs_is_another_policy(folder, name, old, new):
    before = policy_source("mine:Mine").digest
    edit(folder, name, old, new)
    assert policy_source("mine:Mine").digest != before
    assert not is_source("mine:Mine", before)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("mine.py", "Decision(0)", "Decision(1)"),
        ("mine.py", "return 1\n", "return 2\n"),
        ("tools/rates.py", "x // 3", "x // 5"),
        ("alone.py", "'alone'", "'lonely'"),
    ],
)
def test_a_change_of_other_code_is_the_same_policy(folder, name, old, new):
    before = policy_source("mine:Mine").digest
    edit(folder, name, old, new)
    assert policy_source("mine:Mine").digest == before


@pytest.mark.parametrize(
    "reach", ["globals()['un' + 'used']()", "getattr(__import__('mine'), 'un' + 'used')()"]
)
def test_code_that_looks_up_names_needs_all_of_its_module(folder, reach):
    edit(folder, "mine.py", "return int(x)", f"return {reach}")
    before = policy_source("mine:Mine").digest
    edit(folder, "mine.py", "return 1\n", "return 2\n")
    assert policy_source("mine:Mine").digest != before


def test_a_name_in_a_string_counts_as_used(folder):
    edit(folder, "mine.py", "return int(x)", "return getattr(self, 'unused')")
    before = policy_source("mine:Mine").digest
    edit(folder, "mine.py", "return 1\n", "return 2\n")
    assert policy_source("mine:Mine").digest != before


def test_own_files_are_followed_and_installed_ones_are_not(folder):
    files = [
        path.rpartition(str(folder))[2].lstrip("/") for path in policy_source("mine:Mine").files
    ]
    assert files == ["mine.py", "deeper.py", "helper.py", "tools/__init__.py", "tools/more.py",
                     "tools/rates.py"]  # fmt: skip
    assert "mine" not in sys.modules
    assert "tools" not in sys.modules


def test_a_hash_of_kdsim_0_1_is_that_of_the_file(folder):
    old = hashlib.sha256((folder / "mine.py").read_bytes()).hexdigest()
    assert is_source("mine:Mine", old)
    edit(folder, "mine.py", "Decision(0)", "Decision(1)")
    assert not is_source("mine:Mine", old)


def test_a_file_that_python_cannot_read_is_hashed_whole(folder):
    (folder / "broken.py").write_text("class Mine(:\n")
    before = policy_source("broken:Mine").digest
    (folder / "broken.py").write_text("class Mine(:\n#")
    assert policy_source("broken:Mine").digest != before


def test_built_in_policies_have_no_source_and_unknown_modules_are_refused(folder):
    assert policy_source("greedy").digest == ""
    assert policy_source("static:2").files == ()
    assert is_source("greedy", "")
    with pytest.raises(UnknownPolicyError, match="no module named 'absent'"):
        policy_source("absent:Mine")


def test_the_hash_of_kdsim_covers_its_source():
    assert len(package_digest()) == 64
