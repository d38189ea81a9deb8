"""Damaged traces and curve files: an error of ours or legal curves, never a traceback."""

from __future__ import annotations

import random
import re

import pytest
from budget import rounds
from synthetic_traces import synthetic

from calibration.fit import fit_trace
from calibration.fit.curve_file import write_curves
from calibration.trace import COLUMNS, read_trace, write_trace
from kdsim import load_scenario
from kdsim.errors import KdsimError

PIECES = (
    "", "0", "-1", "9" * 30, "1e308", "1e-308", "nan", '"', ",", "\n", "forward", "backward",
    "step", "noisy", "foreign", "contended", "switching", "shared", "MB", "batch", "comm",
    "compute", ";", "#", "\0", "é", "{", "[", " ", "0.0", "1e5", "5", "\r", "\u2028", "null",
)  # fmt: skip


def damaged_lines(text, rng):
    """Repeat, drop, move or change a line or two."""
    lines = text.split("\n")
    for _ in range(rng.randint(1, 2)):
        k, kind = rng.randrange(len(lines)), rng.random()
        if kind < 0.3:
            lines[k] = rng.choice(lines)
        elif kind < 0.5:
            del lines[k]
        elif kind < 0.6:
            lines.insert(k, rng.choice(lines))
        else:
            fields = lines[k].split(",")
            fields[rng.randrange(len(fields))] = rng.choice(PIECES)
            lines[k] = ",".join(fields)
    return "\n".join(lines)


def damaged_column(text, rng):
    """Change a column in all rows, in some, or in a few."""
    above, names, body = text.partition("device,")
    lines = (names + body).split("\n")
    column, value = rng.randrange(len(COLUMNS)), rng.choice(PIECES)
    share = rng.choice((1.0, 0.3, 0.03))
    for k in range(1, len(lines)):
        fields = lines[k].split(",")
        if column < len(fields) and rng.random() < share:
            fields[column] = value
            lines[k] = ",".join(fields)
    return above + "\n".join(lines)


@pytest.mark.parametrize("damage", [damaged_lines, damaged_column])
@pytest.mark.parametrize("seeds", rounds(40, 2000))
def test_a_damaged_trace_is_refused_or_makes_legal_curves(tmp_path, damage, seeds):
    path, curves = tmp_path / "t.csv", tmp_path / "c.yaml"
    write_trace(path, synthetic(3, trials=3, noise=0.03).rows, {"host": {"cores": 3}})
    text = path.read_text()
    read = 0
    for seed in seeds:
        path.write_bytes(damage(text, random.Random(seed)).encode())
        try:
            trace = read_trace(path)
            read += 1
            if seed % 4 == 0:
                write_curves(fit_trace(trace, bootstrap=2), curves)
        except KdsimError as error:
            str(error).encode()  # what is shown can be printed
    assert 0 < read < len(seeds)


CURVES = """\
kdsim_curves: 1
reference_cores: 2
compute: {a1: 0.0114, a2: 0.37}
communication: {model: roofline, rate1: 1.0, limit: 1.5, sharpness: 4}
draws: {count: 2, compute: {a1: 0.0113 0.0115, a2: 0.36 0.38}}
"""
VALUES = (
    "0", "-1", "1e308", "1e-308", "5e-324", ".nan", ".inf", "x", "[]", "{}", "null", "1:30", "010",
    "9" * 400, '"', "\n", "- 1", "&a [*a]", "!!int x", '"\\ud83d"', "#", "1e-6", "1e9", "64",
    "\t", ": ", "? ", "true", "usl", "table",
)  # fmt: skip


@pytest.mark.parametrize("seeds", rounds(150, 8000))
def test_a_damaged_curve_file_is_refused_or_describes_a_device(tmp_path, seeds):
    (tmp_path / "s.yaml").write_text(
        "name: s\ndevice: {cores: 2, curves: c.yaml}\n"
        "workload: {cycles: 2, comm: 1.0, forward: 1.0, backward: 1.0}\n"
    )
    legal = 0
    for seed in seeds:
        rng, text = random.Random(seed), CURVES
        for _ in range(rng.randint(1, 3)):
            word = rng.choice(list(re.finditer(r"[\w.-]+", text)))
            text = text[: word.start()] + rng.choice(VALUES) + text[word.end() :]
        (tmp_path / "c.yaml").write_text(text)
        try:
            scenario = load_scenario(tmp_path / "s.yaml")
            scenario.plan()
            legal += 1
            if scenario.device.draws is not None:
                scenario.device.drawn(0)
        except KdsimError as error:
            str(error).encode()
    assert 0 < legal < len(seeds)
