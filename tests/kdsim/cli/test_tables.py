"""What people read in the terminal."""

import io
import json

import pytest
from broken_scenarios import BASE
from front_door import call

from kdsim.cli import tables
from kdsim.scenario.load import load_scenario


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.0, "1.0000"), (123.456789, "123.46"), (99999.6, "100000"),
        (0.00012345678, "0.00012346"), (1e-9, "1.0000e-09"), (1.5e9, "1.5000e+09"),
        (-2.0, "-2.0000"), (float("nan"), "-"), (float("inf"), "-"),
    ],
)  # fmt: skip
def test_seconds_have_five_digits(value, text):
    assert tables.seconds(value) == text


def test_a_gap_that_is_rounding_shows_as_zero():
    assert tables.percent(3e-16) == "0.00 %"
    assert tables.percent(-3e-16) == "0.00 %"
    assert tables.percent(0.0123) == "1.23 %"


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """A legal scenario whose name looks like markup and emoji."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(BASE.replace("name: broken", 'name: "[/b] [red] :smile:"'))
    return "a.yaml"


@pytest.mark.parametrize("command", ["compare", "run", "optimum"])
def test_a_name_is_printed_as_it_is(command, odd):
    answer = call(command, odd)
    assert answer.code == 0
    assert "[/b] [red] :smile:" in answer.out


def test_the_comparison_holds_every_policy_at_every_point():
    out = call("compare", "paper-1to1", "-n", 3).out
    for name in load_scenario("paper-1to1").policies:
        assert out.count(f" {name} ") == 4
    for cores in ("6", "8", "10", "12"):
        assert f" {cores} " in out
    assert "Gap = makespan / bound - 1" in out
    assert "exact" in out
    assert all(len(line) <= 120 for line in out.splitlines())


def test_one_replication_has_no_interval():
    out = call("compare", "paper-1to1", "-n", 1, "-p", "random", "--set", "device.cores=8").out
    assert " one run " in out


def test_a_lower_bound_is_never_called_optimum(tmp_path):
    (tmp_path / "a.yaml").write_text(BASE + "extensions: {reallocation_cost: 0.05}\n")
    for command in ("compare", "run", "optimum"):
        out = call(command, tmp_path / "a.yaml").out
        assert "lower bound" in out
        assert "optimum " not in out


def test_noise_speaks_of_regret(tmp_path):
    (tmp_path / "a.yaml").write_text(BASE + "extensions: {noise: 0.2}\n")
    out = call("compare", tmp_path / "a.yaml").out
    assert " regret " in out
    assert "it knows the noise" in " ".join(out.split())


def test_swept_values_are_short():
    assert tables.swept(0.16407769776739656) == "0.16408"
    assert tables.swept(8) == "8"
    assert tables.swept("2:1") == "2:1"


def test_long_runs_show_their_first_and_last_segments():
    out = call("run", "paper-1to1", "-p", "greedy").out
    assert " t1 " in out
    assert " t51 " in out
    assert "40 more" in out
    assert "makespan" in out
    assert "gap" in out


def test_short_runs_show_all_of_them(tmp_path):
    (tmp_path / "a.yaml").write_text(BASE)
    out = call("run", tmp_path / "a.yaml").out
    assert [f" t{i} " in out for i in range(1, 6)] == [True, True, True, True, False]


def test_differences_say_whether_they_are_told_apart():
    answer = call("compare", "paper-1to1", "-n", 50, "--against", "optimal", "-p", "optimal",
                  "-p", "random", "-p", "comm-priority", "--set", "device.cores=8")  # fmt: skip
    assert answer.code == 0
    assert answer.out.count("slower") == 2
    assert "difference to optimal" in answer.out


def test_one_pair_is_not_called_no_difference():
    answer = call("compare", "paper-1to1", "-n", 1, "--against", "optimal", "-p", "optimal",
                  "-p", "random", "--set", "device.cores=8")  # fmt: skip
    assert answer.code == 0
    assert "inconclusive, one pair is not enough" in answer.out
    assert "no difference" not in answer.out


def test_equal_policies_are_equal():
    answer = call("compare", "paper-1to1", "--against", "comm-priority", "-p", "comm-priority",
                  "-p", "comp-priority", "--set", "device.cores=8")  # fmt: skip
    assert answer.code == 0
    assert "equal" in answer.out


def test_a_comparison_of_one_policy_against_itself_is_told():
    answer = call("compare", "paper-1to1", "-p", "greedy", "--against", "greedy")
    assert answer.code == 2
    assert "--against needs a second policy" in answer.err


def test_the_interval_is_told_by_its_half_width():
    arguments = ["compare", "paper-1to1", "-n", 9, "-p", "random", "--set", "device.cores=8"]
    row = json.loads(call(*arguments, "--json").out)["rows"][0]
    assert (
        f" \N{PLUS-MINUS SIGN} {(row['ci_high'] - row['ci_low']) / 2:.2g} " in call(*arguments).out
    )


def test_names_are_whole_on_a_narrow_terminal():
    from rich.console import Console

    import kdsim

    result = kdsim.compare("paper-1to1", replications=3)
    console = Console(width=80, file=io.StringIO(), markup=False)
    console.print(tables.comparison_table(result))
    shown = console.file.getvalue()
    assert shown.count(" comm-priority ") == 4
    assert " cores " in shown
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
