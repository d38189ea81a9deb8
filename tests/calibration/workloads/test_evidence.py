"""What the documentation says of the studies stands in their records."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results"

_NUMBER = r"[+-]?(\d+\.\d+)"
#: A number, or one with its interval, as prose and tables write it.
FIGURE = re.compile(rf"{_NUMBER}(?: \[{_NUMBER}, {_NUMBER}\])?")


def figures(text):
    """Return the figures of a text without signs: prose turns a difference round where it reads."""
    plain = " ".join(text.replace("−", "-").split())
    return {frozenset(n for n in found if n) for found in FIGURE.findall(plain)}


@pytest.mark.parametrize(
    ("begins", "folder", "settings"),
    [
        ("- **AFLKD**", "aflkd", []),
        ("- **Decentralised distillation**", "dissimilarity", ["0.5", "0.2"]),  # alphas
    ],
)
def test_each_figure_of_the_evidence_page_is_on_a_page_made_from_records(begins, folder, settings):
    page = (ROOT / "docs" / "evidence" / "workloads.md").read_text(encoding="utf-8")
    (bullet,) = [part for part in re.split(r"\n(?=- \*\*|\n)", page) if part.startswith(begins)]
    pages = (path.read_text(encoding="utf-8") for path in (RESULTS / folder).rglob("*.md"))
    said = figures(bullet) - {frozenset([setting]) for setting in settings}
    assert len(said) > 5
    assert said - figures(" ".join(pages)) == set()
