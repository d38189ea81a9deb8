"""The committed pages of advice say what their numbers say."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from kdsim.answers.sentences import sentences

ROOT = Path(__file__).resolve().parents[3]
PAGES, DOCS = ROOT / "benchmarks" / "results" / "answers", ROOT / "docs"
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


def test_the_transcript_in_the_docs_is_the_committed_page_of_its_device():
    """Heading by heading and sentence by sentence, as `kdsim advise` wraps them."""
    text = (DOCS / "howto" / "questions.md").read_text()
    (transcript,) = re.findall(r"```\n\$ kdsim advise .*?\n(.*?)```", text, re.S)
    made = (PAGES / "jetson-agx-orin.md").read_text()
    expected = [line.removeprefix("## ") for line in made.splitlines()[4:-1] if line]
    lines = re.sub(r"\n {4}", " ", transcript).splitlines()[2:]
    assert [re.sub(r"^  - ", "- ", line) for line in lines] == expected
