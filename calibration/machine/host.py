"""What the host is: its processor, system and the versions of what numbers depend on.

A trace, a result file and a cost profile each record a part of it; all read it here.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from kdsim._types import Record


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def cpu_model() -> str:
    """Return the processor's name as the system reports it."""
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def device_name(cores: int) -> str:
    """Return a neutral name for this device: processor and core count.

    Examples
    --------
    >>> device_name(2).endswith("-2core")
    True
    """
    model = re.sub(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*", " ", cpu_model().lower())
    words = [w for w in re.findall(r"[a-z0-9.]+", model) if w not in {"amd", "intel", "with"}]
    return "-".join([*words[:3], f"{cores}core"]) if words else f"device-{cores}core"


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of packages, without importing them."""
    versions = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def hardware() -> Record:
    """Return the processor's name, the number of cores and the architecture; JSON values only."""
    return {"cpu": cpu_model(), "cores": os.cpu_count(), "machine": platform.machine()}


def fingerprint() -> Record:
    """Describe the host: hardware, governor, kernel and versions; JSON values only."""
    governor = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    memory = re.search(r"MemTotal:\s+(\d+)", _read("/proc/meminfo"))
    return {
        **hardware(),
        "memory_gib": round(int(memory.group(1)) / 2**20, 1) if memory else None,
        "governor": governor or "not reported",
        "hypervisor": "hypervisor" in _read("/proc/cpuinfo"),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": package_versions(["kdsim", "torch", "numpy", "scipy"]),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
