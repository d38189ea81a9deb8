"""Advice is a sweep made by hand: its numbers are recomputed, its sentences follow from them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from front_door import call

import kdsim
from kdsim.answers.advice import advise
from kdsim.answers.cores import core_counts, core_rows, cores_worth
from kdsim.answers.sentences import Sentence, advice_data, sentences
from kdsim.answers.thresholds import EQUAL
from kdsim.scenario.changes import with_fields
from kdsim.scenario.drawn import drawn_scenario

SCENARIO = {
    "name": "four-cores",
    "device": {
        "cores": 4,
        "compute": {"a1": 0.1, "a2": 0.2},
        "communication": {"b1": 2.0, "b2": 1.0, "b3": 1.5},
    },
    "workload": {"cycles": 6, "comm": 1.0, "forward": 1.0, "backward": 1.5},
    "replications": 20,
}


@pytest.fixture(scope="module")
def made():
    return advise(kdsim.Scenario.model_validate(SCENARIO), noise=(0.0, 0.3), replications=20)


def test_every_sentence_follows_from_the_numbers_beside_it(made):
    found = json.loads(json.dumps(advice_data(made)))["sentences"]
    assert {one["topic"] for one in found} >= {"stakes", "cores", "link", "policy", "sensitivity"}
    for one in found:
        assert Sentence(one["topic"], one["form"], one["numbers"]).text == one["text"]


def test_cores_and_what_each_saves_are_the_optimum_at_each_count(made):
    assert [row["cores"] for row in made.cores] == core_counts(made.scenario)
    times = [
        kdsim.minimal_makespan(with_fields(made.scenario, {"device.cores": row["cores"]})).makespan
        for row in made.cores
    ]
    assert [row["makespan"] for row in made.cores] == pytest.approx(times, rel=1e-12)
    saved = [row["saved_s"] for row in made.cores[1:]]
    assert saved == pytest.approx(-np.diff(times), rel=1e-9)


def test_at_every_rate_of_the_link_best_and_worst_are_those_of_single_runs(made):
    for row in made.link[::8]:
        changed = with_fields(made.scenario, {"link.rate": row["rate"]})
        for kind in ("best", "worst"):
            run = kdsim.simulate(changed, row[f"{kind}_policy"])
            assert run.makespan == pytest.approx(row[kind], rel=1e-9)
        assert row["bound"] <= row["best"] * (1 + 1e-9) <= row["worst"] * (1 + 2e-9)


def test_the_advised_policy_is_within_one_percent_of_the_best_of_all(made):
    worst = {}
    for row in made.policies:
        worst[row["policy"]] = max(worst.get(row["policy"], 0.0), row["gap"])
    assert worst[made.against["policy"]] <= min(worst.values()) + EQUAL


def test_gaps_under_noise_are_those_of_a_comparison(made):
    noisy = with_fields(made.scenario, {"extensions.noise": 0.3})
    names = ["greedy", "static:2"]
    rows = {row["policy"]: row for row in kdsim.compare(noisy, names, replications=20).rows}
    for row in made.policies:
        if row["noise"] == 0.3 and row["policy"] in rows:
            assert row["gap"] == rows[row["policy"]]["gap_mean"]
            assert row["n"] == 20


def test_the_first_field_of_the_sensitivity_moves_the_makespan_most(made):
    moves = [max(abs(row["down"]), abs(row["up"])) for row in made.sensitivity]
    assert moves == sorted(moves, reverse=True)
    fields = {row["field"] for row in made.sensitivity}
    assert {"device.compute.a1", "device.communication.b1", "the amount of communication"} <= fields


def test_a_measured_device_is_not_asked_about_cores_that_nobody_measured():
    assert core_counts(kdsim.load_scenario("measured")) == [1, 2]


def test_what_the_answers_rest_on_is_said():
    made = advise("measured", noise=(0.0,))
    texts = " ".join(sentence.text for sentence in sentences(made))
    assert "No link is given" in texts
    assert "Moving cores is taken to be free" in texts


def test_a_linked_scenario_is_asked_about_its_link():
    linked = with_fields(kdsim.Scenario.model_validate(SCENARIO), {"link.rate": 2.0})
    made = advise(linked, noise=(0.0,))
    assert "link.rate" in {row["field"] for row in made.sensitivity}
    assert not any("no link" in what for what in made.unknown)


def test_the_command_answers_in_words_as_json_and_as_a_figure(tmp_path):
    file = tmp_path / "four.yaml"
    file.write_text(json.dumps(SCENARIO))
    result = call("advise", file, "-n", 5, "-o", tmp_path / "advice.png")
    assert result.code == 0, result.err
    for heading in ("How many cores", "Which link", "Which policy", "What is not known"):
        assert heading in result.out
    assert (tmp_path / "advice.png").stat().st_size > 10_000
    data = json.loads(call("advise", file, "-n", 5, "--json").out)
    assert data["scenario"] == "four-cores"


def test_a_policy_that_does_not_exist_is_bad_input(tmp_path):
    file = tmp_path / "four.yaml"
    file.write_text(json.dumps(SCENARIO))
    result = call("advise", file, "-p", "gredy")
    assert result.code == 2
    assert "did you mean 'greedy'" in result.out + result.err


def test_draws_of_the_curves_repeat_the_answers_on_cores_and_policy():
    drawn = advise("measured", noise=(0.0,), policies=["greedy", "comm-priority"], curve_draws=20)
    made = drawn.curves
    devices = [drawn_scenario(drawn.scenario, k) for k in range(20)]
    least = [kdsim.minimal_makespan(device).makespan for device in devices]
    assert [made["low_s"], made["high_s"]] == pytest.approx(np.quantile(least, [0.025, 0.975]))
    counts = [cores_worth(list(core_rows(device))) for device in devices]
    assert made["cores"]["same"] == np.mean(np.array(counts) == made["cores"]["cores"])
    times = np.array(
        [[kdsim.simulate(one, made["policy"][name]).makespan for name in ("policy", "next")]
         for one in devices]
    )  # fmt: skip
    assert made["policy"]["faster"] == np.mean(times[:, 0] < times[:, 1])
    texts = [sentence.text for sentence in sentences(drawn)]
    assert any("of 20 draws of the curves" in text for text in texts)
    assert any("The curves are uncertain by" in text for text in texts)


def test_draws_that_were_not_asked_for_or_do_not_exist_are_named_as_not_known(made):
    assert any("no bootstrap draws" in what for what in made.unknown)
    assert any("--curve-draws" in what for what in advise("measured", noise=(0.0,)).unknown)
    result = call("advise", "paper-1to1", "--curve-draws", 50)
    assert result.code == 2
    assert "no bootstrap draws" in result.err


def said(made, difference, low, high):
    """Return the sentence on the next policy, whose makespan differs by so much."""
    against = {**made.against, "policy": "greedy", "next": "optimal", "noise": 0.3, "n": 20,
               "difference_s": difference, "low_s": low, "high_s": high, "method": "t"}  # fmt: skip
    texts = [one.text for one in sentences(replace(made, against=against))]
    (text,) = [text for text in texts if "optimal" in text and "noise" in text]
    return text


def test_a_next_policy_that_is_faster_is_not_said_to_take_longer(made):
    mean = next(r["mean"] for r in made.policies if (r["policy"], r["noise"]) == ("greedy", 0.3))
    share = f"{100 * 0.04 / mean:.2f} % of the makespan"
    assert said(made, -0.04, -0.05, -0.03) == (
        "optimal is faster by 0.04 s at noise of 30 % (95 % interval 0.03 to 0.05 s, 20 paired "
        f"runs), {share}, but greedy is simpler."
    )
    assert said(made, 0.04, -0.01, 0.09) == (
        "The next one, optimal, takes 0.04 s longer at noise of 30 % (95 % interval -0.01 to 0.09 "
        f"s, 20 paired runs), {share}."
    )
    assert said(made, 0.0, 0.0, 0.0) == (
        "The next one, optimal, takes the same time at every noise tried."
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"same": 1.0, "low": 4.0, "high": 4.0},
         "All 50 draws of the curves give the same answer, 4 cores."),
        ({"same": 0.98, "low": 4.0, "high": 4.0},
         "The same answer, 4 cores, comes out in 98.0 % of 50 draws of the curves."),
        ({"same": 0.6, "low": 3.0, "high": 4.0},
         "The same answer, 4 cores, comes out in 60.0 % of 50 draws of the curves; 95 % of the "
         "draws say 3 to 4 cores."),
    ],
)  # fmt: skip
def test_no_range_is_said_where_all_draws_agree(made, found, words):
    curves = {"draws": 50, "sides": ["compute"], "low_s": 1.0, "high_s": 2.0, "policy": {},
              "cores": {"cores": 4, **found}}  # fmt: skip
    assert words in [one.text for one in sentences(replace(made, curves=curves))]


def test_the_four_questions_are_answered_by_a_sweep_made_by_hand(made):
    """Cores, link, policy under noise, how sure: from `kdsim.compare` and arithmetic alone."""
    base = made.scenario
    counts = kdsim.compare(base.model_copy(update={"sweep": {"device.cores": [1, 2, 3, 4, 5]}}))
    bounds = [counts.rows[k * len(counts.policies)]["bound"] for k in range(5)]
    assert [row["makespan"] for row in made.cores[:5]] == pytest.approx(bounds, rel=1e-12)
    rates = [row["rate"] for row in made.link]
    splits = [f"static:{c}" for c in (1, 2, 3)]
    names = [*splits, "comm-priority", "comp-priority", "greedy", "greedy-full", "state-based",
             "optimal"]  # fmt: skip
    linked = kdsim.compare(base.model_copy(update={"sweep": {"link.rate": rates}}), names).rows
    for rate, row in zip(rates, made.link, strict=True):
        means = [one["mean"] for one in linked if one["link.rate"] == rate]
        assert (row["best"], row["worst"]) == pytest.approx((min(means), max(means)), rel=1e-9)
    for level in (0.0, 0.3):
        noisy = kdsim.compare(
            with_fields(base, {"extensions.noise": level}), names, replications=20
        )
        rows = {row["policy"]: row["gap_mean"] for row in noisy.rows}
        own = {row["policy"]: row["gap"] for row in made.policies if row["noise"] == level}
        assert own == pytest.approx(rows)
    least = minimal(base)
    for row in made.sensitivity:
        if row["field"] == "device.compute.a1":
            moved = [minimal(with_fields(base, {row["field"]: f * row["value"]})) / least - 1
                     for f in (0.9, 1.1)]  # fmt: skip
            assert [row["down"], row["up"]] == pytest.approx(moved)


def minimal(scenario):
    return kdsim.minimal_makespan(scenario).makespan


def test_noise_of_the_scenario_is_not_in_the_answers_that_are_about_something_else(made):
    noisy = advise(
        with_fields(made.scenario, {"extensions.noise": 0.3}), noise=(0.0,), replications=20
    )
    for study in ("cores", "link", "sensitivity"):
        assert list(getattr(noisy, study)) == list(getattr(made, study))
