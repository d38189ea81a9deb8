"""Code of a user's own runs when the user asks for it, and only then."""

import json
import sys

import pytest
from broken_scenarios import BASE
from front_door import call, spawn

import kdsim
from kdsim.answers.policy_map import policy_map
from kdsim.errors import UnknownPolicyError
from kdsim.policies.resolve import policy_file

MARKED = """
from pathlib import Path
import kdsim
Path("was-run").touch()
class Mine(kdsim.Policy):
    name = "marked:Mine"
    def decide(self, state):
        return kdsim.Decision(1)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A scenario that names a policy whose module leaves a mark when it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "marked", raising=False)
    (tmp_path / "marked.py").write_text(MARKED)
    (tmp_path / "own.yaml").write_text(BASE.replace("[greedy", '["marked:Mine", greedy'))
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [("compare", "own.yaml"), ("sweep", "own.yaml", "-s", "s.sqlite")],
    ids=" ".join,
)
def test_a_policy_that_stands_only_in_a_file_is_not_run_unless_it_is_allowed(folder, arguments):
    answer = spawn(*arguments, cwd=folder)
    assert answer.code == 2
    assert "'marked:Mine' stands only in own.yaml" in answer.err
    assert f"executes {folder / 'marked.py'}" in answer.err
    assert "-p marked:Mine" in answer.err
    assert "--allow-policies" in answer.err
    assert not (folder / "was-run").exists()
    for allowed in (("--allow-policies",), ("-p", "marked:Mine", "-p", "greedy")):
        assert spawn(*arguments, *allowed, cwd=folder).code == 0
        (folder / "was-run").unlink()


def test_what_an_earlier_sweep_left_is_asked_for_as_well(folder):
    store = ("-s", "s.sqlite")
    assert spawn("sweep", "own.yaml", *store, "--allow-policies", cwd=folder).code == 0
    rows = json.loads(call("export", "s.sqlite", "--json").out)["rows"]
    (mine,) = [row for row in rows if row["policy"] == "marked:Mine"]
    (folder / "was-run").unlink()
    answer = spawn("rerun", "s.sqlite", mine["run_id"], cwd=folder)
    assert answer.code == 2
    assert "stands only in s.sqlite" in answer.err
    assert not (folder / "was-run").exists()
    named = spawn("rerun", "s.sqlite", mine["run_id"], "-p", "marked:Mine", cwd=folder)
    assert named.code == 0, named.err


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [("compare", ()), ("sweep", ()), ("learning_curves", ([],))],
    ids=["compare", "sweep", "learning_curves"],
)
def test_python_runs_no_policy_that_only_a_scenario_names(folder, verb, arguments):
    run = getattr(kdsim, verb)
    for scenario in ("own.yaml", kdsim.load_scenario("own.yaml")):
        with pytest.raises(UnknownPolicyError, match="allow_policies=True") as caught:
            run(scenario, *arguments)
        assert str(folder / "marked.py") in str(caught.value)
    assert "marked" not in sys.modules
    assert not (folder / "was-run").exists()


def test_python_runs_a_policy_that_its_caller_names_or_allows(folder):
    for permission in ({"allow_policies": True}, {"policies": ["marked:Mine", "greedy"]}):
        made = kdsim.compare("own.yaml", replications=1, **permission)
        assert "marked:Mine" in set(made.frame["policy"])
        table = kdsim.sweep("own.yaml", replications=1, **permission)
        assert "marked:Mine" in set(table["policy"])


def test_python_runs_no_policy_that_only_a_store_names(folder):
    table = kdsim.sweep("own.yaml", "s.sqlite", allow_policies=True)
    (run_id,) = table.loc[table["policy"] == "marked:Mine", "run_id"]
    with kdsim.Store.open("s.sqlite") as store:
        with pytest.raises(UnknownPolicyError, match=r"stands only in s\.sqlite"):
            store.rerun(run_id)
        assert store.rerun(run_id, allow_policies=True).identical
    with kdsim.Store.open("begun.sqlite", "w") as store:  # as a sweep that was interrupted
        store.enter(kdsim.load_scenario("own.yaml"))
    (folder / "was-run").unlink()
    del sys.modules["marked"]
    with pytest.raises(UnknownPolicyError, match=r"stands only in begun\.sqlite"):
        kdsim.sweep("own.yaml", "begun.sqlite", policies=["greedy"])
    assert not (folder / "was-run").exists()


def test_a_map_runs_no_policy_that_only_its_scenario_names(folder):
    with pytest.raises(UnknownPolicyError, match="stands only in scenario"):
        policy_map("own.yaml", replications=1)
    assert not (folder / "was-run").exists()


def test_check_says_what_would_be_executed_and_executes_nothing(folder):
    answer = spawn("check", "own.yaml", cwd=folder)
    assert answer.code == 0
    assert f"policy marked:Mine would execute {folder / 'marked.py'}" in answer.out
    found = json.loads(spawn("check", "own.yaml", "--json", cwd=folder).out)
    assert found["findings"][0]["executes"] == {"marked:Mine": str(folder / "marked.py")}
    assert not (folder / "was-run").exists()


def test_the_file_of_a_policy_inside_a_package_is_found_without_running_the_package(folder):
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text(MARKED)
    (folder / "pack" / "deep.py").write_text("")
    assert policy_file("pack.deep:Mine") == str(folder / "pack" / "deep.py")
    assert policy_file("pack.none:Mine") == policy_file("no_such_module_here:Mine")
    assert not (folder / "was-run").exists()


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("os:system", "system is a builtin_function_or_method without a method decide"),
        ("pathlib:Path", "Path is a type without a method decide"),
        ("leaves:Mine", "importing leaves raised SystemExit: 0"),
        ("generates:Mine", "importing generates raised GeneratorExit"),
    ],
)
def test_what_is_no_policy_is_bad_input(folder, reference, words):
    (folder / "leaves.py").write_text("import sys; sys.exit(0)")
    (folder / "generates.py").write_text("raise GeneratorExit")
    for arguments in (("run", "paper-1to1"), ("compare", "paper-1to1")):
        answer = call(*arguments, "-p", reference)
        assert answer.code == 2
        assert words in answer.err


@pytest.mark.parametrize("where", ["start", "decide", "__init__"])
@pytest.mark.parametrize("raised", ["GeneratorExit", "SystemExit", "BaseException"])
def test_whatever_a_policy_raises_is_one_message(folder, where, raised):
    takes = {"start": "self, plan", "decide": "self, state", "__init__": "self"}[where]
    module = f"raises_{where.strip('_')}_{raised}"
    (folder / f"{module}.py").write_text(
        "import kdsim\nclass Mine(kdsim.Policy):\n    name = 'mine'\n"
        "    def decide(self, state): return kdsim.Decision(1)\n"
        f"    def {where}({takes}): raise {raised}('enough')\n"
    )
    answer = call("run", "paper-1to1", "-p", f"{module}:Mine")
    assert answer.code == 1
    assert f"{raised}" in answer.err
    assert "enough" in answer.err


# --- completion -----------------------------------------------------------------------------------


def complete(line):
    words = line.split(" ")
    return spawn(
        COMP_WORDS=line, COMP_CWORD=str(len(words) - 1), _KDSIM_COMPLETE="bash_complete"
    )  # fmt: skip


def test_the_script_for_the_shell_is_printed_and_ends_well():
    for shell in ("bash", "zsh", "fish"):
        answer = spawn(_KDSIM_COMPLETE=f"{shell}_source")
        assert (answer.code, answer.err) == (0, "")
        assert "_KDSIM_COMPLETE" in answer.out


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("kdsim comp", "plain,compare"),
        ("kdsim compare paper-2", "plain,paper-2to1"),
        ("kdsim check measured-8", "plain,measured-8virtual"),
        ("kdsim run paper-1to1 --policy gree", "plain,greedy"),
        ("kdsim run paper-1to1 --set device.co", "plain,device.cores="),
        ("kdsim workload afl", "plain,aflkd"),
    ],
)
def test_commands_scenarios_policies_and_fields_are_completed(line, completed):
    answer = complete(line)
    assert (answer.code, answer.err) == (0, "")
    assert completed in answer.out.splitlines()
