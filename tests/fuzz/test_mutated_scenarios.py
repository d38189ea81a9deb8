"""Mutated scenario files: legal, or exit 2 with the file and the line, never a traceback."""

from __future__ import annotations

import random
import re

import pytest
from budget import rounds
from front_door import call

STUDY = """\
name: mutated
device:
  cores: 4
  compute: {a1: 1.0, a2: 0.2}
  communication: {model: roofline, rate1: 1.0, limit: 2.5, sharpness: 4}
workload:
  cycles: 3
  comm: [1.0, 0.5, 2.0]
  forward: 1.0
  backward: 0.5
link: {rate: 0.7, starved: shared}
extensions: {prefetch: 2, noise: 0.1, release: 0.3, reallocation_cost: 0.01}
policies: [greedy, optimal, "static:2"]
replications: 5
seed: 3
sweep:
  device.cores: [2, 4]
  seed: [0, 1, 2]
"""
VALUES = (
    "0", "-1", "1", "2", "3", "4", "0.25", "0.5", "1.5",
    "1e308", "-1e308", "1e-308", "5e-324", ".nan", ".inf", "-.inf", "x",
    "[]", "{}", "null", "~", "true", "yes", "1:30", "0x10", "010", "1_000", "2020-01-01",
    "9" * 400,
    "18446744073709551616", "9007199254740993", "1e6", "'1'", '"\\ud83d"', '"\\0"', "é", "\u2028",
    "[1, [2, [3]]]", "{a: {b: {c: 1}}}", "[" * 300, "{" * 300, "&a [*a]", "*nobody", "!!int x",
    "!!python/object:os.system x", "!!binary aGFsbG8=", "<<: *x", "static:9", "optimal", "usl",
    "table", "random", "device.cores", "os:system",
)  # fmt: skip
PIECES = (
    "", " ", "\t", ":", ": ", "-", "- ", "? ", "#", ",", "[", "]", "{", "}", '"', "'", "|", ">",
    "%", "@", "`", "&a ", "*a", "!", "\0", "\x07", "\x85", "\ufeff", "---\n", "...\n", "\r", "\n",
)  # fmt: skip
BYTES = (b"\xff", b"\xfe\xff", b"\xc3", b"\x80", b"\xed\xa0\x80", b"\x00")


def mutated(text: str, choose: random.Random) -> bytes:
    """Change a few words, characters, lines or bytes of a file."""
    for _ in range(choose.choice([1, 1, 2, 3])):
        kind, lines = choose.random(), text.split("\n")
        k = choose.randrange(len(lines))
        if kind < 0.5:
            word = choose.choice(list(re.finditer(r"[\w.-]+", text)) or [re.match("", text)])
            text = text[: word.start()] + choose.choice(VALUES) + text[word.end() :]
            continue
        if kind < 0.7:
            at = choose.randrange(len(text) + 1)
            text = text[:at] + choose.choice(PIECES) + text[at + choose.randint(0, 2) :]
            continue
        if kind < 0.8:
            lines[k : k + 1] = [lines[k], lines[k]]
        elif kind < 0.9:
            del lines[k]
        else:
            lines[k] = "  " * choose.randint(0, 3) + lines[k].strip()
        text = "\n".join(lines)
    data = text.encode("utf-8", "surrogatepass")
    if choose.random() < 0.05:
        at = choose.randrange(len(data) + 1)
        data = data[:at] + choose.choice(BYTES) + data[at:]
    return data


@pytest.mark.parametrize("seeds", rounds(150, 10_000))
def test_a_mutated_scenario_is_legal_or_refused_in_words(tmp_path, monkeypatch, seeds):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "s.yaml"
    legal = 0
    for seed in seeds:
        path.write_bytes(mutated(STUDY, random.Random(seed)))
        result = call("check", "s.yaml")
        said = result.out + result.err
        assert result.code in (0, 2), f"seed {seed}: exit {result.code}: {said[-2000:]}"
        assert "Traceback" not in said, f"seed {seed}"
        if result.code:
            assert "s.yaml:" in said, f"seed {seed}: {said}"
            assert len(said) < 20_000, f"seed {seed}: {len(said)} characters"
        legal += result.code == 0
    assert 0 < legal < len(seeds)
