"""The whole job for a machine with more cores, in calls of under nine minutes.

    python benchmarks/many_cores.py                 # with 16 cores: again until it says "done"
    python benchmarks/many_cores.py --counts 2      # the small form, on any machine with two

Traces at 4, 8 and 16 cores, then the validation (`benchmarks/validation.py`) at 8 and 16: one
folder per core count in `benchmarks/results/validation/`. Each call resumes where the one before
stopped. Let the machine do nothing else. When it is done, the traces can ship
(`calibration/traces/`) and `kdsim compare` can read the curves in each folder.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = Path(__file__).with_name("validation.py")
#: Core counts whose trace is enough; the others are validated, too.
TRACE_ONLY = {4}
#: Under this much time left no further piece begins.
_LEAST_MINUTES = 2.0
_GOES_ON = 3


def main() -> int:
    """Do one call's worth; status 0 when all is done, 3 when there is more to do."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[4, 8, 16], help="core counts")
    parser.add_argument("--minutes", type=float, default=8.5, help="of this call at most")
    parser.add_argument("--out", type=Path, help="instead of benchmarks/results/validation")
    options = parser.parse_args()
    here = len(os.sched_getaffinity(0))
    if max(options.counts) > here:
        parser.error(f"this machine has {here} cores, asked for are {max(options.counts)}; give "
                     f"--counts of at most {here}")  # fmt: skip
    ends = time.monotonic() + 60 * options.minutes
    for count in options.counts:
        left = (ends - time.monotonic()) / 60
        if left < _LEAST_MINUTES:
            print("time is up; call again")
            return _GOES_ON
        print(f"{count} cores", flush=True)
        command = [sys.executable, str(SCRIPT), "--cores", str(count), "--minutes", f"{left:.2f}"]
        command += ["--trace-only"] * (count in TRACE_ONLY)
        command += ["--out", str(options.out / f"{count}core")] if options.out else []
        status = subprocess.run(command, check=False, timeout=60 * left + 120).returncode
        if status not in (0, 1):  # 1: all was judged, and the predictions do not hold
            print("call again" if status == _GOES_ON else f"failed with status {status}")
            return status
    print("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
