"""Policies of a user's own: the bad ones are found out and named, and never hang."""

import re
import textwrap
import threading

import pytest
from front_door import call, spawn

import kdsim
from kdsim import Decision, Policy, check_policy
from kdsim.scenario.load import load_scenario

#: Class -> what its decide returns, and words of the message beside the policy's name.
ANSWERS = {
    "Raises": ("1 / 0", "raised ZeroDivisionError: division by zero (state: i=0, j=0, k=0"),
    "Nothing": ("None", "answered None, not a Decision (state:"),
    "Number": ("3", "answered 3, not a Decision (state:"),
    "TooMany": (
        "Decision(state.total_cores + 1)",
        "answered comm_cores = 9; legal are whole numbers 0..8 (state:",
    ),
    "Negative": ("Decision(-1)", "answered comm_cores = -1; legal"),
    "Fraction": ("Decision(0.5)", "answered comm_cores = 0.5; legal"),
    "TooManyThen": ("Decision(1, hold=0.1, then=99)", "answered then = 99; legal"),
    "NanHold": ("Decision(1, hold=float('nan'))", "answered hold = nan; legal"),
    "ZeroHold": ("Decision(1, hold=0.0)", "answered hold = 0.0; legal"),
    "NegativeHold": ("Decision(1, hold=-1.0)", "answered hold = -1.0; legal"),
    "InfiniteHold": ("Decision(1, hold=float('inf'), then=0)", "answered hold = inf; legal"),
    "WordHold": ("Decision(1, hold='soon')", "answered hold = 'soon'; legal"),
    "ThenWithoutHold": ("Decision(1, then=0)", "answered then = 0 without hold (state:"),
    "TinyHolds": ("Decision(1, hold=1e-13)", "without any task completing (state:"),
}
MODULE = """
from kdsim import Decision, Policy

class Base(Policy):
    name = "mine"

class Sound(Base):
    def decide(self, state):
        return Decision(state.total_cores // 2)

class BadConstructor(Sound):
    def __init__(self):
        raise ValueError("not today")

class Arguments(Sound):
    def __init__(self, needed):
        pass

class BadStart(Sound):
    def start(self, plan):
        raise ValueError("not today")

class NoName(Policy):
    def decide(self, state):
        return Decision(0)

class NoDecide:
    name = "mine"

class InheritsDecide(Base):
    pass

def function(state):
    return Decision(0)

class Brackets(Sound):
    name = "[/b][red]"
""" + "".join(
    f"""
class {name}(Base):
    def decide(self, state):
        return {answer}
"""
    for name, (answer, _) in ANSWERS.items()
)
#: Class -> words of the message beside the policy's name.
BAD = {
    **{name: words for name, (_, words) in ANSWERS.items()},
    "BadConstructor": "cannot be made: ValueError: not today",
    "Arguments": "cannot be made: TypeError",
    "BadStart": "raised ValueError in start: not today",
    "NoName": "needs a name",
    "NoDecide": "without a method decide",
    "InheritsDecide": "answered None",
    "function": "function is a function without a method decide",
}
#: What is no policy at all is bad input, not a run that failed.
NO_POLICY = ("NoName", "NoDecide", "function")
UNKNOWN = {
    "mine:Sond": "mine has no 'Sond' - did you mean 'Sound'?",
    "mein:Sound": "no module named 'mein'",
    "broken:Sound": "importing broken raised SyntaxError",
    "failing:Sound": "importing failing raised RuntimeError: no luck",
    "lacking:Sound": "no module named 'surely_not_installed'",
    "gredy": "unknown policy 'gredy' - did you mean 'greedy'?",
    "static:99": "asks for 99 communication cores, the device has 8",
    "": "unknown policy ''",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("class Sound(:\n")
    (tmp_path / "failing.py").write_text("raise RuntimeError('no luck')\n")
    (tmp_path / "lacking.py").write_text("import surely_not_installed\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(0)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "mine", raising=False)
    return tmp_path


def assert_clear(answer, code, words):
    assert answer.code == code, answer
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert words in answer.err


@pytest.mark.parametrize("name", BAD)
def test_a_bad_policy_ends_the_run_by_name_and_state(name, folder):
    answer = call("run", "paper-1to1", "--policy", f"mine:{name}")
    assert_clear(answer, 2 if name in NO_POLICY else 1, BAD[name])
    assert any(known in answer.err for known in ("policy mine ", name))


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_policy_is_bad_input(name, folder):
    assert_clear(call("run", "paper-1to1", "--policy", name), 2, UNKNOWN[name])


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [("mine:Raises", 1, "ZeroDivisionError"), ("mine:NoName", 2, BAD["NoName"]),
     ("gredy", 2, UNKNOWN["gredy"])],
)  # fmt: skip
def test_a_comparison_says_the_same_of_one_of_its_policies(name, code, words, folder):
    assert_clear(call("compare", "paper-1to1", "-n", 2, "-p", "random", "-p", name), code, words)


def test_a_policy_that_leaves_python_is_told(folder):
    answer = spawn("run", "paper-1to1", "--policy", "leaving:Sound", cwd=folder)
    assert_clear(answer, 2, "importing leaving raised SystemExit: 0")


def test_a_fresh_process_finds_the_policy_beside_the_scenario(folder):
    answer = spawn("run", "paper-1to1", "--policy", "mine:Sound", "--json", cwd=folder)
    assert answer.code == 0
    assert '"policy": "mine:Sound"' in answer.out
    answer = spawn("run", "paper-1to1", "--policy", "mine:Raises", cwd=folder)
    assert_clear(answer, 1, BAD["Raises"])


def test_names_with_brackets_are_no_markup(folder):
    for command in (["run", "-p"], ["compare", "-n", 2, "-p"]):
        answer = call(command[0], "paper-1to1", *command[1:], "mine:Brackets")
        assert answer.code == 0
        assert "mine:Brackets" in answer.out or "[/b][red]" in answer.out


# --- check_policy ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BAD)
def test_check_policy_lists_what_is_wrong(name, folder):
    report = check_policy(f"mine:{name}")
    assert not report.ok
    text = BAD[name].partition("(state")[0].replace("9; legal are whole numbers 0..8 ", "2; legal")
    assert text.strip() in str(report)
    # The same fault in several cases is reported once.
    assert len(report.problems) <= 2


def test_the_command_lists_what_is_wrong_as_well(folder):
    answer = call("check", "--policy", "mine:TooMany")
    assert answer.code == 2
    assert "answered comm_cores = 2; legal" in answer.out + answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("name", ["mine:Sound", "greedy", "optimal", "random", "static:1"])
def test_a_sound_policy_passes(name, folder):
    report = check_policy(name)
    assert report.ok, str(report)
    assert report.runs == 84
    assert any("gap to the optimum" in remark for remark in report.remarks)
    assert call("check", "--policy", name).out.startswith(f"policy {name}: ok")


@pytest.mark.parametrize("name", [*UNKNOWN])
def test_check_refuses_an_unknown_policy_once(name, folder):
    answer = call("check", "--policy", name)
    assert answer.code == 2
    if name != "static:99":
        assert answer.err.count(UNKNOWN[name]) == 1


def test_state_kept_between_runs_is_found():
    seen = []

    class Keeps(Policy):
        name = "keeps"

        def decide(self, state):
            seen.append(state.now)
            return Decision(len(seen) % (state.total_cores + 1))

    report = check_policy(Keeps)
    assert "keeps state between runs or draws from a generator of its own" in report.problems[0]


def test_own_randomness_is_found_and_the_runs_own_is_fine():
    import numpy as np

    generator = np.random.default_rng(5)

    class Own(Policy):
        name = "own"

        def decide(self, state):
            return Decision(int(generator.integers(0, state.total_cores + 1)))

    class Right(Policy):
        name = "right"

        def decide(self, state):
            return Decision(int(state.rng_draw() * (state.total_cores + 1)))

    assert "generator of its own" in check_policy(Own).problems[0]
    assert check_policy(Right).ok


def test_state_set_in_start_is_fine():
    class Counts(Policy):
        name = "counts"

        def start(self, plan):
            self.asked = 0

        def decide(self, state):
            self.asked += 1
            return Decision(self.asked % (state.total_cores + 1))

    assert check_policy(Counts).ok


def test_writing_to_the_plan_is_found():
    class Cheats(Policy):
        name = "cheats"

        def decide(self, state):
            state.plan.comm[-1] = 0.0
            return Decision(0)

    report = check_policy(Cheats)
    assert not report.ok
    assert "wrote to the plan" in str(report) or "read-only" in str(report)


def test_one_core_is_among_the_cases():
    class NeedsTwo(Policy):
        name = "two"

        def decide(self, state):
            return Decision(2)

    assert "comm_cores = 2; legal are whole numbers 0..1" in check_policy(NeedsTwo).problems[0]


def test_the_users_scenario_is_one_more_case():
    class OnlySmall(Policy):
        name = "small"

        def decide(self, state):
            if state.total_cores == 8 and state.plan.cycles == 50:
                raise RuntimeError("too many cycles")
            return Decision(0)

    assert check_policy(OnlySmall).ok
    report = check_policy(OnlySmall, load_scenario("paper-1to1"))
    assert "scenario paper-1to1" in report.problems[0]
    assert report.runs == 85


def test_an_instance_and_a_class_can_be_checked():
    class Fine(Policy):
        name = "fine"

        def decide(self, state):
            return Decision(0)

    assert check_policy(Fine).ok
    assert check_policy(Fine()).policy == "fine"
    assert kdsim.simulate("paper-1to1", policy=Fine()).policy == "fine"


def test_a_report_reads_well(folder):
    text = str(check_policy("mine:TooMany"))
    assert text == textwrap.dedent("""\
        policy mine:TooMany: not usable (3 runs)
          problem: policy mine answered comm_cores = 2; legal are whole numbers 0..1 (state: \
i=0, j=0, k=0, remaining comm 1, comp 1, t=0 s, 1 cores) (case: 1 core, 6 cycles); \
2 more of this kind
          problem: stopped after three faulty cases""")


class Hanging(kdsim.Policy):
    """Waits in one place until the test lets it go."""

    name = "hanging"

    def __init__(self, where, released):
        self._where, self._released = where, released

    def start(self, plan):
        if self._where == "start":
            self._released.wait(60)

    def decide(self, state):
        if self._where == "decide" and state.comm_done == 1:
            self._released.wait(60)
        return kdsim.Decision(1)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("start", r"did not return within 0\.2 s while starting a run"),
        ("decide", r"did not answer within 0\.2 s \(state: i=1, j=\d+, k=\d+, .* cores\)"),
    ],
)
def test_a_policy_that_never_returns_is_reported_with_its_state(where, words):
    released = threading.Event()
    try:
        report = check_policy(Hanging(where, released), limit_s=0.2)
    finally:
        released.set()
    assert not report.ok
    assert re.search(rf"policy hanging {words}", report.problems[0])


def test_a_class_that_never_finishes_its_constructor_is_reported():
    released = threading.Event()

    class Slow(kdsim.Policy):
        name = "slow"

        def __init__(self):
            released.wait(60)

        def decide(self, state):
            return kdsim.Decision(1)

    try:
        report = check_policy(Slow, limit_s=0.2)
    finally:
        released.set()
    assert "did not return within 0.2 s while being made" in report.problems[0]
