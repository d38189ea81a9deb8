"""The device-trace format: read, validate, write.

A trace is a CSV file with one row per measurement, where it is ours under a comment header. The
header's first line is ``# kdsim-trace: 1``; every further header line is ``# key: <JSON value>``
(fingerprint, settings, origin). Reading is strict: every fault of the file is reported at once,
each with its line, and what is legal but unlikely to be meant is asked.

``columns`` says what a row holds, ``reading`` and ``header`` read a file, ``meaning`` checks what
its rows mean together, ``trials`` reduces them to one number per trial, ``writing`` writes. What
is not here: taking the measurements (``collect``), other tools' files (``importing``), curves
(``fit``). This package needs no torch.
"""

from calibration.trace.columns import COLUMNS, FORMAT_VERSION, TASKS
from calibration.trace.reading import Trace, read_trace
from calibration.trace.trials import measurements, noisy_points, trial_times
from calibration.trace.writing import check_place, write_trace

__all__ = [
    "COLUMNS", "FORMAT_VERSION", "TASKS", "Trace", "check_place", "measurements", "noisy_points",
    "read_trace", "trial_times", "write_trace",
]  # fmt: skip
