"""The device library's measurements, against an independent reading of the raw text."""

from __future__ import annotations

import re

import numpy as np
import pytest

from calibration.devices.measurements import (
    NCNN_LOG,
    Entry,
    MeasuredDevice,
    measured_devices,
    network_sizes,
    read_catalogue,
    scaling_networks,
)
from calibration.importing.ncnn import read_ncnn
from kdsim.errors import FitError

LINES = NCNN_LOG.read_text(encoding="utf-8").split("\n")


@pytest.fixture(scope="module")
def log():
    return read_ncnn(NCNN_LOG)


@pytest.fixture(scope="module")
def devices(log):
    return measured_devices(log, read_catalogue())


def times_below(line):
    """Read the times (ms) of the run that begins on a line, without the parser."""
    found = {}
    for text in LINES[line - 1 :]:
        words = text.replace("=", " ").split()
        if len(words) == 7 and words[1] == "min":
            found[words[0]] = float(words[6])
        elif found:
            return found
    return found


def setting_below(line, key):
    text = "\n".join(LINES[line - 1 : line + 6])
    return int(re.search(rf"{key} = (-?\d+)", text)[1])


def heading_above(line):
    return next(t[4:].strip() for t in reversed(LINES[:line]) if t.startswith("### "))


def test_every_time_of_every_device_is_the_one_in_the_raw_text(devices):
    for device in devices:
        for column, (cores, line) in enumerate(zip(device.counts, device.lines, strict=True)):
            raw = times_below(line)
            assert setting_below(line, "num_threads") == cores
            assert setting_below(line, "powersave") in device.entry.powersave
            assert heading_above(line) == device.heading
            for row, name in enumerate(device.networks):
                assert device.seconds[row, column] == pytest.approx(raw[name] / 1000), name


def test_no_run_of_a_device_is_overlooked(devices):
    for device in devices:
        entry = device.entry
        begun = [i + 1 for i, t in enumerate(LINES) if t.strip().startswith("loop_count")]
        mine = [
            line
            for line in begun
            if heading_above(line) == device.heading
            and setting_below(line, "powersave") in entry.powersave
            and "gpu_device = -1" in "\n".join(LINES[line - 1 : line + 4] + ["gpu_device = -1"] * (
                "gpu_device" not in "\n".join(LINES[line - 1 : line + 4]))
            )
        ]  # fmt: skip
        if entry.variant:
            bold = {
                line: next(t for t in reversed(LINES[:line]) if t.startswith("**")) for line in mine
            }
            mine = [line for line in mine if f"({entry.variant})" in bold[line]]
        threads = sorted(setting_below(line, "num_threads") for line in mine)
        assert threads == sorted([*device.counts, *device.oversubscribed]), entry.name


def test_the_library_has_enough_devices_and_enough_core_counts(devices):
    assert len(devices) >= 50
    assert len({d.heading for d in devices}) >= 50
    several = {d.heading for d in devices if len(d.counts) >= 3}
    assert len(several) >= 10, several


def test_counts_beyond_the_cores_are_no_cores(devices):
    by_name = {d.entry.name: d for d in devices}
    assert by_name["ryzen-5700g"].counts == (1,)
    assert by_name["ryzen-5700g"].oversubscribed == (16,)
    assert by_name["xeon-phi-3120a"].oversubscribed == (112, 224)
    assert all(d.counts[-1] <= d.entry.cores for d in devices)


def test_core_counts_of_the_catalogue_stand_in_the_headings_that_have_them(devices):
    # E.g. "2.4GHz x 4", "x64 cores", "Quad Core", "16-Core", "57-core", "4 x 1.536GHz".
    words = {"quad": 4, "dual": 2}
    said = 0
    for device in devices:
        heading = re.sub(r"\d+(\.\d+)?\s*[GM]Hz", "", device.heading, flags=re.I)
        numbers = [int(n) for n in re.findall(r"(?<![\w.])[x*]?\s?(\d+)(?![\w.]*\d)", heading)]
        numbers += [n for word, n in words.items() if word in heading.lower()]
        if device.entry.cores in numbers:
            said += 1
    assert said >= 0.6 * len(devices)


def test_networks_that_say_nothing_of_float_training_are_left_out(log):
    names = scaling_networks(log)
    assert len(names) >= 20
    assert not {n for n in names if "int8" in n}
    assert not names & {"blazeface", "FastestDet", "yolo-fastestv2"}
    for name in names:  # no device in the raw text runs one of them in under 2 ms on one thread
        for i, text in enumerate(LINES):
            if text.split("min")[0].strip() == name and text.count("=") == 3:
                begun = next(j for j in range(i, 0, -1) if "num_threads" in LINES[j])
                gpu = "\n".join(LINES[begun : begun + 3])
                if LINES[begun].strip() == "num_threads = 1" and "gpu_device = 0" not in gpu:
                    if re.search(r"gpu_device = [1-9]", gpu):
                        continue
                    assert float(text.rsplit("=", 1)[1]) >= 2.0, (name, i + 1)


def test_sizes_and_paces_are_taken_apart():
    rng = np.random.default_rng(3)
    sizes = {"a": 0.5, "b": 1.0, "c": 2.0}
    devices = []
    for number, kept in enumerate((("a", "b", "c"), ("a", "c"), ("b", "c"), ("a", "b"))):
        pace = rng.uniform(0.01, 10, size=2)
        seconds = np.array([[sizes[n] * p for p in pace] for n in kept])
        entry = Entry(f"d{number}", "", (0,), 2)
        devices.append(MeasuredDevice(entry, "", (1, 2), kept, seconds, (1, 2), ()))
    found = network_sizes(devices)
    assert found == pytest.approx(sizes)
    assert np.prod(list(found.values())) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (Entry("x", "No such device", (0,), 4), "0 devices with runs on the CPU"),
        (Entry("x", "Rockchip RK3588", (0,), 4), "2 devices with runs on the CPU"),
        (Entry("x", "Raspberry Pi 4", (2,), 4), "no run of"),
    ],
)
def test_an_entry_that_fits_no_device_is_refused(log, entry, said):
    with pytest.raises(FitError, match=said):
        measured_devices(log, [entry])


def test_a_name_given_twice_is_refused(tmp_path):
    line = "- {name: a, heading: H, powersave: [0], cores: 1}\n"
    (tmp_path / "c.yaml").write_text("devices:\n" + line + line)
    with pytest.raises(FitError, match="listed twice: a"):
        read_catalogue(tmp_path / "c.yaml")
