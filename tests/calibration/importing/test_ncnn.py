from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from calibration.importing.ncnn import NETWORKS, parse_ncnn, read_ncnn
from kdsim.errors import TraceError

SOME = NETWORKS[:6]


def run_text(threads, *, scale=1.0, networks=SOME, powersave=0, gpu=-1, command=True):
    """Write a run as benchncnn prints it: the time of a network is known from its place."""
    lines = [f"me@board:~$ ./benchncnn 8 {threads} {powersave} {gpu} 0"] if command else []
    lines += ["loop_count = 8", f"num_threads = {threads}", f"powersave = {powersave}"]
    lines += [f"gpu_device = {gpu}", "cooling_down = 0"]
    for i, name in enumerate(networks):
        ms = scale * (10 + i)
        lines.append(f"{name:>20}  min = {0.9 * ms:7.2f}  max = {1.2 * ms:7.2f}  avg = {ms:7.2f}")
    return "\n".join(lines) + "\n"


def device_text(name, *runs):
    return f"### {name}\n```\n{''.join(runs)}```\n\n"


TWO = device_text("Board A", run_text(1, scale=4), run_text(4)) + device_text(
    "Board B (with GPU)", run_text(2, scale=2), run_text(2, gpu=0, scale=0.1)
)


def test_runs_are_read_with_their_settings_and_times():
    log = parse_ncnn("Introduction, num threads and all.\n" + TWO, "README.md")
    assert log.faults == ()
    assert [d.name for d in log.devices] == ["Board A", "Board B (with GPU)"]
    one, four = log.devices[0].runs
    assert (one.threads, four.threads, one.loops, one.powersave) == (1, 4, 8, 0)
    assert [t.avg_ms for t in one.timings] == [40 + 4 * i for i in range(6)]
    assert four.times()["squeezenet"].min_ms == 9.0
    assert [run.gpu_device for run in log.devices[1].runs] == [-1, 0]
    assert len(log.devices[1].cpu_runs) == 1


def test_a_log_without_a_heading_and_of_an_old_version_is_a_device_without_a_name():
    old = "loop_count = 8\nnum_threads = 1\npowersave = 0\n" + "\n".join(
        f"{name} min = 1.00 max = 3.00 avg = 2.00" for name in ("squeezenet", "squeezenet-int8")
    )
    (device,) = parse_ncnn(old, "log").devices
    assert device.name == ""
    assert device.runs[0].gpu_device is None
    assert device.runs[0].on_cpu


def test_a_bold_line_tells_runs_of_equal_settings_apart():
    text = f"### D\n**AVX512**\n```\n{run_text(1)}```\n**plain**\n```\n{run_text(1, scale=2)}```\n"
    log = parse_ncnn(text, "log")
    assert [run.variant for run in log.devices[0].runs] == ["AVX512", "plain"]
    unlabelled = parse_ncnn(text.replace("**", ""), "log")
    assert unlabelled.devices == ()
    assert "a second run with 1 threads, powersave 0 (first on line" in unlabelled.faults[0]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda t: t.replace("num_threads = 4\n", ""), "powersave: settings out of order"),
        (lambda t: t.replace("num_threads = 4", "num_threads = four"), "a damaged line"),
        (lambda t: t.replace("num_threads = 4", "num_threads = 0"), "num_threads: must lie in"),
        (lambda t: t.replace("powersave = 0", "powersave = 3", 1), "powersave: must lie in 0..2"),
        (lambda t: t.replace("num_threads = 4", "num_threads = 8"), "asks for 4, the log says 8"),
        (lambda t: t.replace("avg =   40.00", "avg =   40.0"), "a damaged line"),
        (lambda t: t.replace("avg =   40.00", "avg =    4.00"), "min <= avg <= max"),
        (lambda t: t.replace("avg =   40.00", "avg =  4O.00"), "a damaged line"),
        (lambda t: t.replace("     squeezenet  ", "     mobilenet  ", 1), "twice in one run"),
        (lambda t: re.sub(r"(.*squeezenet_int8.*\n)(.*mobilenet .*\n)", r"\2\1", t, count=1),
         "the other way round"),
        (lambda t: t.replace("loop_count = 8\n", "", 1), "num_threads: settings out of order"),
    ],
)  # fmt: skip
def test_a_damaged_device_is_left_out_and_the_other_one_kept(damage, said):
    damaged = damage(TWO[: TWO.index("### Board B")]) + TWO[TWO.index("### Board B") :]
    log = parse_ncnn(damaged, "log")
    assert [d.name for d in log.devices] == ["Board B (with GPU)"]
    assert any(said in fault for fault in log.faults)
    assert all(re.match(r"log:\d+: Board A: ", fault) for fault in log.faults)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no run in it"),
        (b"# a recipe\nflour\n", "no run in it"),
        (b"\xff\xd8\xff\xe0JFIF", "not UTF-8 text"),
        (run_text(1).encode("utf-16-le"), "NUL bytes"),
        (run_text(1)[:120].encode(), "without times"),
        (device_text("A", run_text(1)).encode()[:-40], "is the file cut off"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path, content, said):
    path = tmp_path / "log.txt"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=said) as caught:
        read_ncnn(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_with_a_mark_and_all_line_ends_are_read(tmp_path, encoding, end):
    path = tmp_path / "log.txt"
    path.write_bytes(TWO.replace("\n", end).encode(encoding))
    assert read_ncnn(path).devices == parse_ncnn(TWO, "log").devices


# --- ncnn's own README ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def readme():
    path = Path(os.environ.get("KDSIM_DATA", "")) / "devices" / "ncnn" / "README.md"
    if not path.is_file():
        pytest.skip("needs ncnn's benchmark/README.md under KDSIM_DATA")
    return path


@pytest.mark.data
def test_every_device_run_and_time_of_ncnn_s_readme_is_read(readme):
    """Counted twice: by the parser, and by plain searches in the raw text."""
    raw = readme.read_text(encoding="utf-8")
    log = read_ncnn(readme)
    assert log.faults == ()
    assert len(log.devices) == len(re.findall(r"(?m)^### ", raw)) == 103
    assert sum(len(d.runs) for d in log.devices) == raw.count("\nnum_threads = ") == 263
    timings = [t for d in log.devices for run in d.runs for t in run.timings]
    assert len(timings) == raw.count("  min = ") == 8554
    total = sum(float(value) for value in re.findall(r"avg =\s*([\d.]+)", raw))
    assert sum(t.avg_ms for t in timings) == pytest.approx(total, rel=1e-12)

    sections = re.split(r"(?m)^### ", raw)[1:]
    on_cpu = [s for s in sections if "\ngpu_device = -1\n" in s]
    # The oldest log is of a version without GPUs, and one name stands over two devices.
    assert len({s.splitlines()[0] for s in on_cpu}) == 90
    cpu = [d for d in log.devices if d.cpu_runs]
    assert len(cpu) == len(on_cpu) + 1 == 92
    assert sum(len(d.cpu_runs) for d in cpu) == raw.count("\ngpu_device = -1\n") + 1 == 209


def _shuffled_windows(text, size, rng):
    lines = text.split("\n")
    for start in range(0, len(lines), size):
        window = lines[start : start + size]
        rng.shuffle(window)
        lines[start : start + size] = window
    return "\n".join(lines)


def _damaged_copies(text):
    rng = random.Random(20)
    raw = text.encode()
    for share in (0.03, 0.2, 0.37, 0.5, 0.71, 0.9, 0.999):
        yield f"cut at {share}", raw[: int(share * len(raw))]
    for share in (0.1, 0.6):
        yield f"without its first {share}", raw[int(share * len(raw)) :]
    lines = text.split("\n")
    yield "upside down", "\n".join(lines[::-1]).encode()
    for share in (0.3, 0.77):
        cut = int(share * len(lines))
        yield f"turned round at {share}", "\n".join(lines[cut:] + lines[:cut]).encode()
    for size in (2, 10, 400):
        yield f"shuffled within {size} lines", _shuffled_windows(text, size, rng).encode()
    sections = re.split(r"(?m)^(?=### )", text)
    yield "devices shuffled", "".join(rng.sample(sections, len(sections))).encode()
    yield "sorted", "\n".join(sorted(lines)).encode()
    yield "latin-1", text.encode("latin-1", errors="replace")
    yield "utf-16", text.encode("utf-16")
    yield "utf-16 without a mark", text.encode("utf-16-le")
    yield "utf-8 with a mark", text.encode("utf-8-sig")
    yield "old Mac line ends", text.replace("\n", "\r").encode()


@pytest.mark.data
def test_damaged_copies_give_an_error_or_undamaged_devices_and_never_another_number(
    readme, tmp_path
):
    text = readme.read_text(encoding="utf-8")
    true = {(d.name, run) for d in read_ncnn(readme).devices for run in d.runs}
    copies = list(_damaged_copies(text))
    assert len(copies) >= 20
    refused, kept = 0, {}
    for kind, content in copies:
        path = tmp_path / "copy.md"
        path.write_bytes(content)
        try:
            log = read_ncnn(path)
        except TraceError:
            refused += 1
            continue
        found = {(d.name, run) for d in log.devices for run in d.runs}
        assert found <= true, f"{kind}: {len(found - true)} runs that the file does not hold"
        kept[kind] = len(log.devices)
        if kind.startswith(("devices", "utf", "old")):
            assert found == true, kind
        elif not kind.startswith("turned"):
            assert len(log.devices) < 103, kind
    assert refused >= 3
    assert kept["cut at 0.5"] > 20
