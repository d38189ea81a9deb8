"""Units in which other tools count time and data, in seconds and MB."""

from __future__ import annotations

#: Seconds per unit of time.
TIME = {
    "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9, "min": 60.0,
}  # fmt: skip

#: MB (1e6 bytes) per unit of data.
DATA = {
    "B": 1e-6, "kB": 1e-3, "KB": 1e-3, "MB": 1.0, "GB": 1e3,
    "KiB": 1.024e-3, "MiB": 1.048576, "GiB": 1.073741824e3,
}  # fmt: skip

#: Amounts of a side's work: what one unit is in the trace's own.
WORK = {"compute": {"batch": 1.0}, "comm": DATA}
