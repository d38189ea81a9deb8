"""First steps: a scaffold that works as it stands, and what there is to choose from."""

import json

import pytest
from front_door import call, spawn

import kdsim
from kdsim.policies.names import POLICY_NAMES
from kdsim.scenario.load import bundled_scenarios


def test_the_scaffold_passes_the_check_and_can_be_compared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = call("init")
    assert (answer.code, answer.err) == (0, "")
    assert "next: kdsim check my-device.yaml" in answer.out
    assert call("check", "my-device.yaml").code == 0
    compared = call("compare", "my-device.yaml", "-n", 2, "--json")
    assert len(json.loads(compared.out)["rows"]) == 3 * 5


def test_the_policy_of_the_scaffold_is_sound(tmp_path):
    answer = spawn("init", "--policy", "mine_too.py", cwd=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["mine_too.py"]
    checked = spawn("check", "-p", "mine_too:Mine", cwd=tmp_path)
    assert checked.code == 0, checked.err
    assert "kdsim check -p mine_too:Mine" in (tmp_path / "mine_too.py").read_text()


def test_nothing_is_replaced_unless_it_is_allowed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "board.yaml").write_text("mine")
    answer = call("init", "board.yaml", "--policy", "p.py")
    assert answer.code == 2
    assert answer.err == "kdsim: board.yaml: exists; --force replaces it\n"
    assert not (tmp_path / "p.py").exists()
    assert call("init", "board.yaml", "--force").code == 0
    assert call("check", "board.yaml").code == 0


@pytest.mark.parametrize("name", ["mine.txt", "my-policy.py", "nowhere/mine.py"])
def test_a_policy_that_could_not_be_imported_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    answer = call("init", "--policy", name)
    assert answer.code == 2
    assert name in answer.err


def test_everything_that_ships_is_listed():
    found = json.loads(call("list", "--json").out)
    assert [row["name"] for row in found["scenarios"]] == bundled_scenarios()
    assert [row["name"] for row in found["policies"]] == list(POLICY_NAMES)
    assert {"paper", "amdahl", "usl", "roofline", "table"} <= {r["name"] for r in found["models"]}
    assert "raspberry-pi-5" in {row["name"] for row in found["devices"]}
    assert all(row["about"] for rows in found.values() for row in rows)
    only = call("list", "policies").out
    assert "state-based" in only
    assert "raspberry" not in only


# --- tables and notebooks -------------------------------------------------------------------------


def test_a_comparison_is_written_as_latex_and_markdown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ("paper-1to1", "-p", "random", "-p", "greedy", "-n", 4, "-s", "s.sqlite")
    assert call("sweep", *arguments, "-o", "a.tex", "-o", "a.md").code == 0
    assert call("export", "s.sqlite", "-o", "b.tex").code == 0
    assert (tmp_path / "a.tex").read_bytes() == (tmp_path / "b.tex").read_bytes()
    rows = json.loads(call("export", "s.sqlite", "--json").out)["rows"]
    table = [line for line in (tmp_path / "a.md").read_text().splitlines() if line[:1] == "|"]
    assert table[0] == "| cores | policy | mean (s) | 95 % CI | n | optimum (s) | gap (%) |"
    assert len(table) == 2 + len(rows)
    first = [cell.strip() for cell in table[2].strip("|").split("|")]
    half = (rows[0]["ci_high"] - rows[0]["ci_low"]) / 2
    assert first == [
        "6", "random", f"{rows[0]['mean']:.4g}", f"± {half:.2g}", "4",
        f"{rows[0]['bound']:.4g}", f"{100 * rows[0]['gap_mean']:.2f}",
    ]  # fmt: skip
    latex = (tmp_path / "a.tex").read_text()
    assert latex.count(r" \\") == 1 + len(rows)
    assert r"$\pm$" in latex
    refused = call("export", "s.sqlite", "--expand", "-o", "c.tex")
    assert refused.code == 2
    assert "table of replications" in refused.err


def test_what_means_something_in_latex_or_markdown_is_escaped():
    result = kdsim.compare("paper-1to1", ["greedy"], replications=1)
    (sample, *_) = result.samples
    evil = type(sample)({"a": "1%|2"}, "my_mod:A&B", *(
        getattr(sample, name) for name in ("makespans", "bounds", "bound_kind", "varies")
    ))  # fmt: skip
    odd = type(result)(result.scenario, [evil])
    assert r"1\%|2 & my\_mod:A\&B" in odd.to_latex()
    assert r"| 1%\|2 | my_mod:A&B |" in odd.to_markdown()


def test_a_run_and_an_optimum_show_themselves_in_a_notebook():
    scenario = kdsim.load_scenario("paper-1to1").model_copy(update={"name": "<b>"})
    run = kdsim.simulate(scenario, "greedy")
    page = run._repr_html_()
    assert "&lt;b&gt;, greedy: makespan 130.11 s, 4.69 % above the proven optimum" in page
    assert page.count("<tr>") == 1 + 12
    assert "39 more segments" in page
    optimum = kdsim.minimal_makespan(scenario)
    assert f"minimal makespan {optimum.makespan:.5g} s" in optimum._repr_html_()
    assert optimum._repr_html_().count("<tr>") == 1 + 12
