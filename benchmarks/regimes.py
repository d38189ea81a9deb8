"""Where the choice of an allocation policy matters, on the real devices of the library.

    python benchmarks/regimes.py [DEVICE ...]     # about half an hour on one core; resumable
    python benchmarks/regimes.py page             # tables, figures and the page over the records

Writes one record per device to ``benchmarks/results/regimes/records`` and leaves out a device whose
record is of the same design.
"""

from __future__ import annotations

import json
import sys
import time

from regimes_study.page import write_pages
from regimes_study.study import RECORDS, design, devices, record, workloads


def main(names: list[str]) -> None:
    """Compute the records that are missing, or are of another design; or write the page."""
    if names == ["page"]:
        write_pages()
        return
    RECORDS.mkdir(parents=True, exist_ok=True)
    marked = workloads()
    for name in names or devices():
        path = RECORDS / f"{name}.json"
        if path.exists() and json.loads(path.read_text())["design"] == design(name, marked):
            print(f"{name}: there already", file=sys.stderr)
            continue
        begin = time.monotonic()
        text = json.dumps(record(name, marked), allow_nan=False)
        path.write_text(text.replace('], "', '],\n "') + "\n")
        print(f"{name}: {time.monotonic() - begin:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
