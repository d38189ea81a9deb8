"""What the site and the README tell a reader to type is what the command line takes."""

import re
import shlex
from pathlib import Path

import click
import pytest

from kdsim.cli.group import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def commands(page):
    """Yield the kdsim commands of a page's shell blocks and of its inline code."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", text, re.S):
        yield from re.findall(r"^\s*(kdsim .*?)(?:\s+#.*|\s*&)?$", block.replace("\\\n", " "), re.M)
    inline = re.findall(r"(?<!`)`(kdsim [^`]+)`(?!`)", text.replace("\n", " "))
    yield from (one for one in inline if not re.search(r"[|\[]|\.\.|[A-Z]{3,}", one))


EVERY = [(page, line) for page in PAGES for line in commands(page)]


def test_the_pages_are_found():
    assert len(PAGES) > 20
    assert len(EVERY) > 40


@pytest.mark.parametrize(
    ("page", "line"), EVERY, ids=[f"{p.relative_to(ROOT)}:{t[:60]}" for p, t in EVERY]
)
def test_a_documented_command_has_a_legal_form(page, line):
    words = shlex.split(line)[1:]
    if words[:1] in (["--help"], ["--version"]):
        return
    command, context = cli, click.Context(cli, info_name="kdsim")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        following = command.get_command(context, words[0])
        assert following is not None, f"{page}: no command {words[0]!r} in {line!r}"
        command, words = following, words[1:]
        context = click.Context(command, parent=context, info_name=command.name)
    parser = command.make_parser(context)
    try:
        parser.parse_args(list(words))
    except click.UsageError as error:
        pytest.fail(f"{page}: {line}: {error.format_message()}")


def test_a_test_that_a_page_names_exists():
    named = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 15
    source = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"^\s*(?:async )?def (test_\w+)", source, re.M))
    assert {(page, name) for page, name in named if name not in defined} == set()
