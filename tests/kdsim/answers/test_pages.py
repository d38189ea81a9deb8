"""The committed pages of advice say what their numbers say."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from kdsim.answers.sentences import sentences

PAGES = Path(__file__).resolve().parents[3] / "benchmarks" / "results" / "answers"
NAMES = ("measured", "paper-1to1", "raspberry-pi-5", "jetson-agx-orin")


@pytest.mark.parametrize("name", NAMES)
def test_every_sentence_of_a_page_follows_from_the_tables_beside_it(name):
    data = json.loads((PAGES / f"{name}.json").read_text())
    found = data.pop("sentences")
    data["stakes"] = SimpleNamespace(**data["stakes"])
    data["curves"] = data.pop("curve_draws") or {}
    again = [sentence.to_dict() for sentence in sentences(SimpleNamespace(**data))]
    assert len(found) >= 8
    assert [one["text"] for one in again] == [one["text"] for one in found]
    assert [one["numbers"] for one in again] == [one["numbers"] for one in found]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_every_sentence_and_its_figure(name):
    data = json.loads((PAGES / f"{name}.json").read_text())
    page = (PAGES / f"{name}.md").read_text()
    for one in data["sentences"]:
        assert f"- {one['text']}\n" in page
    assert f"({name}.png)" in page
    assert (PAGES / f"{name}.png").stat().st_size > 10_000
