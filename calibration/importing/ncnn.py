"""Logs of ncnn's benchmark program: a run's settings and each network's inference times.

``benchncnn`` prints its settings, one per line (``num_threads = 4``), then one line per network
with the least, largest and mean time of an inference in milliseconds. People paste such logs
into Markdown files under a heading per device, as ncnn's own ``benchmark/README.md`` does; a log
on its own is a device without a name.

What a log does not say is asked of its structure instead of guessed: a device whose part of the
file is damaged (settings missing or out of order, a line cut off, a network twice) is left out,
with the reason and the line. What is not here: which devices and networks make a curve.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from calibration.trace.text import read_text_file
from kdsim.errors import TraceError

#: Settings in the order in which benchncnn prints them; the last two came with later versions.
SETTINGS = ("loop_count", "num_threads", "powersave", "gpu_device", "cooling_down")
_REQUIRED = SETTINGS[:3]

#: benchncnn's own networks in the order in which it runs them. All 263 runs in ncnn's README,
#: of eight years, keep to it (with `-` for `_` in the oldest); a network of the user's own
#: (``param=``) may stand anywhere.
NETWORKS = (
    "squeezenet", "squeezenet_int8", "mobilenet", "mobilenet_int8", "mobilenet_v2", "mobilenet_v3",
    "shufflenet", "shufflenet_v2", "mnasnet", "proxylessnasnet", "efficientnet_b0",
    "efficientnetv2_b0", "regnety_400m", "blazeface", "googlenet", "googlenet_int8", "resnet18",
    "resnet18_int8", "alexnet", "vgg16", "vgg16_int8", "resnet50", "resnet50_int8",
    "squeezenet_ssd", "squeezenet_ssd_int8", "mobilenet_ssd", "mobilenet_ssd_int8",
    "mobilenet_yolo", "mobilenetv2_yolov3", "mobilenet_yolov3", "yolov4-tiny", "nanodet_m",
    "yolo-fastest-1.1", "yolo-fastestv2", "vision_transformer", "FastestDet",
)  # fmt: skip
_RANK = {name: rank for rank, name in enumerate(NETWORKS)}

_SETTING = re.compile(r"\s*({})\s*=\s*(-?\d{{1,9}})\s*".format("|".join(SETTINGS)))
_SETTING_LIKE = re.compile(r"\s*({})\s*=".format("|".join(SETTINGS)))
# benchncnn prints "%20s  min = %7.2f  max = %7.2f  avg = %7.2f": two decimals always, so that a
# line cut within its last number is not taken for a shorter one.
_TIMES = re.compile(
    r"\s*(\S+)\s+min =\s*(\d+\.\d\d)\s+max =\s*(\d+\.\d\d)\s+avg =\s*(\d+\.\d\d)\s*"
)
_TIMES_LIKE = re.compile(r"\b(min|max|avg)\s*=\s*[\d.]*")
_COMMAND = re.compile(r"benchncnn(?:\.exe)?((?:\s+-?\d+)+)")
_HEADING = re.compile(r"###\s+(.*\S)\s*")
_VARIANT = re.compile(r"\*\*(.+)\*\*\s*")


def _rank(network: str) -> int | None:
    return _RANK.get(network, _RANK.get(network.replace("-", "_")))


@dataclass(frozen=True, slots=True)
class Timing:
    """Inference times of one network in one run, in milliseconds, over the run's loops."""

    network: str
    min_ms: float
    max_ms: float
    avg_ms: float
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of benchncnn.

    Attributes
    ----------
    loops, threads : int
        Inferences timed per network, and threads that ran them.
    powersave : int
        Which cores: 0 all, 1 the little ones, 2 the big ones.
    gpu_device : int or None
        -1 for the CPU; None in logs of versions without GPU support.
    cooling_down : int or None
    variant : str
        The bold line above the run, where the file has one (e.g. the build options).
    timings : tuple of Timing
    line : int
        Where the run begins in the file.
    """

    loops: int
    threads: int
    powersave: int
    gpu_device: int | None
    cooling_down: int | None
    variant: str
    timings: tuple[Timing, ...]
    line: int = field(default=0, compare=False)

    @property
    def on_cpu(self) -> bool:
        """Whether the networks ran on the CPU alone."""
        return self.gpu_device in (None, -1)

    def times(self) -> dict[str, Timing]:
        """Return the timings by network."""
        return {timing.network: timing for timing in self.timings}


@dataclass(frozen=True, slots=True)
class NcnnDevice:
    """The runs under one heading; `name` is empty for a log without one."""

    name: str
    runs: tuple[Run, ...]
    line: int = field(default=0, compare=False)

    @property
    def cpu_runs(self) -> tuple[Run, ...]:
        """The runs on the CPU alone."""
        return tuple(run for run in self.runs if run.on_cpu)


@dataclass(frozen=True, slots=True)
class NcnnLog:
    """A file's devices, in its order, and the faults of those that were left out.

    Attributes
    ----------
    devices : tuple of NcnnDevice
        Undamaged devices with at least one run. Two headings of one name are two devices.
    faults : tuple of str
        ``file:line: device: reason``, one or more for each device left out.
    """

    devices: tuple[NcnnDevice, ...]
    faults: tuple[str, ...]
    sha256: str = ""


def read_ncnn(path: str | os.PathLike[str]) -> NcnnLog:
    """Read a benchncnn log, or a Markdown file with logs under a ``###`` heading per device.

    Raises
    ------
    TraceError
        If the file cannot be read, holds no run, or every device in it is damaged.

    Examples
    --------
    ``[d.name for d in read_ncnn("README.md").devices if len(d.cpu_runs) > 2]`` lists the
    devices with three or more runs on the CPU.
    """
    source = read_text_file(path, "a benchncnn log")
    log = parse_ncnn(source.text, str(source.path))
    if not log.devices:
        shown = list(log.faults[:10]) or [
            f"{source.path}: not a benchncnn log: no run in it (a run begins with the line "
            "'loop_count = 4')"
        ]
        if len(log.faults) > len(shown):
            shown.append(f"... and {len(log.faults) - len(shown)} more faults")
        raise TraceError("\n".join(shown))
    return NcnnLog(log.devices, log.faults, source.sha256)


def parse_ncnn(text: str, where: str) -> NcnnLog:
    r"""Parse the text of a log; see :func:`read_ncnn`.

    Parameters
    ----------
    text : str
        Lines ended by ``\\n``.
    where : str
        How messages name the file.
    """
    devices, faults = [], []
    sections = list(_sections(text))
    for name, first, lines in sections:
        section = _Section(where, name, first)
        for number, line in enumerate(lines, start=first):
            section.take(number, line)
        found = section.finish()
        if found and not name and len(sections) > 1:
            section.fault(found.runs[0].line, "a run above the first heading: of which device?")
        if section.faults:
            faults.extend(section.faults)
        elif found is not None:
            devices.append(found)
    return NcnnLog(tuple(devices), tuple(faults))


def _sections(text: str) -> Iterator[tuple[str, int, list[str]]]:
    """Cut a text at its headings: name, first line number, lines."""
    name, first, lines = "", 1, []
    for number, line in enumerate(text.split("\n"), start=1):
        heading = _HEADING.fullmatch(line)
        if heading is None:
            lines.append(line)
            continue
        yield name, first, lines
        name, first, lines = heading[1], number + 1, []
    yield name, first, lines


class _Section:
    """Collects one device's runs and the faults of its part of the file."""

    def __init__(self, where: str, name: str, first: int) -> None:
        self.where, self.name, self.first = where, name, first
        self.faults: list[str] = []
        self.runs: list[Run] = []
        self._settings: dict[str, int] = {}
        self._timings: list[Timing] = []
        self._begun = first
        self._variant = ""
        self._run_variant = ""
        self._command: list[int] | None = None
        self._run_command: list[int] | None = None
        self._fence_open_at: int | None = None

    def take(self, number: int, line: str) -> None:
        if line.startswith("```"):
            self._fence_open_at = number if self._fence_open_at is None else None
        elif setting := _SETTING.fullmatch(line):
            self._setting(number, setting[1], int(setting[2]))
        elif times := _TIMES.fullmatch(line):
            self._times(number, times[1], *(float(times[i]) for i in (2, 3, 4)))
        elif _SETTING_LIKE.match(line) or _TIMES_LIKE.search(line):
            self.fault(number, f"a damaged line (got {line.strip()[:60]!r})")
        elif command := _COMMAND.search(line):
            self._command = [int(value[:9]) for value in command[1].split()]
        elif variant := _VARIANT.fullmatch(line):
            self._variant = variant[1]

    def finish(self) -> NcnnDevice | None:
        self._close_run()
        if self._fence_open_at is not None and (self.runs or self.faults):
            self.fault(
                self._fence_open_at, "a code block begins here and never ends: is the file cut off?"
            )
        seen: dict[tuple[int, int, str], int] = {}
        for run in (run for run in self.runs if run.on_cpu):
            key = (run.threads, run.powersave, run.variant)
            if key in seen:
                self.fault(
                    run.line,
                    f"a second run with {run.threads} threads, powersave {run.powersave} (first "
                    f"on line {seen[key]}); which of them counts?",
                )
            seen.setdefault(key, run.line)
        return NcnnDevice(self.name, tuple(self.runs), self.first - 1) if self.runs else None

    def _setting(self, number: int, key: str, value: int) -> None:
        if self._timings or key == SETTINGS[0]:
            self._close_run()
        if not self._settings:
            self._begun = number
            self._run_variant, self._run_command = self._variant, self._command
            self._command = None
        expected = SETTINGS[len(self._settings)] if len(self._settings) < len(SETTINGS) else None
        if key != expected:
            self.fault(
                number,
                f"{key}: settings out of order; benchncnn prints {', '.join(SETTINGS)} "
                f"(expected {expected or 'times'} here)",
            )
        self._settings[key] = value

    def _times(self, number: int, network: str, low: float, high: float, mean: float) -> None:
        missing = [key for key in _REQUIRED if key not in self._settings]
        if missing and not self._timings:
            self.fault(number, f"times of {network} without the setting {missing[0]} above them")
        if not 0 < low <= mean <= high:
            self.fault(
                number,
                f"{network}: must have 0 < min <= avg <= max (got min {low:g}, avg {mean:g}, max "
                f"{high:g})",
            )
        self._timings.append(Timing(network, low, high, mean, number))

    def _close_run(self) -> None:
        settings, timings = self._settings, self._timings
        self._settings, self._timings = {}, []
        if not settings and not timings:
            return
        if not timings:
            self.fault(self._begun, "a run without times: is the file cut off?")
            return
        if any(key not in settings for key in _REQUIRED):
            return  # said at its first line of times
        self._check_run(settings, timings)
        self.runs.append(
            Run(
                settings["loop_count"], settings["num_threads"], settings["powersave"],
                settings.get("gpu_device"), settings.get("cooling_down"), self._run_variant,
                tuple(timings), self._begun,
            )
        )  # fmt: skip

    def _check_run(self, settings: dict[str, int], timings: list[Timing]) -> None:
        for key, low, high in (("loop_count", 1, 10**9), ("num_threads", 1, 4096),
                               ("powersave", 0, 2)):  # fmt: skip
            if not low <= settings[key] <= high:
                self.fault(self._begun, f"{key}: must lie in {low}..{high} (got {settings[key]})")
        # Positions in the command: loops, threads, powersave, GPU, cooling.
        for key, asked in zip(SETTINGS[:3], self._run_command or (), strict=False):
            if key != "loop_count" and asked != settings[key]:
                self.fault(
                    self._begun,
                    f"{key}: the command above asks for {asked}, the log says {settings[key]}",
                )
        names: set[str] = set()
        before, latest = "", -1
        for timing in timings:
            if timing.network in names:
                self.fault(timing.line, f"{timing.network}: twice in one run")
            names.add(timing.network)
            rank = _rank(timing.network)
            if rank is None:
                continue
            if rank < latest:
                self.fault(
                    timing.line,
                    f"{timing.network} after {before}: benchncnn runs them the other way round; "
                    "lines have been moved",
                )
            before, latest = timing.network, rank

    def fault(self, number: int, reason: str) -> None:
        name = f"{self.name[:50]}: " if self.name else ""
        self.faults.append(f"{self.where}:{number}: {name}{reason}")
