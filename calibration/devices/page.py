"""The table of devices in the documentation, made from the library's files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kdsim._types import RecordView
from kdsim.errors import PlotError
from kdsim.output_file import write_output

BEGIN, END = "<!-- table of devices: begin -->", "<!-- table of devices: end -->"


def devices_markdown(entries: Iterable[tuple[str, RecordView]]) -> str:
    """Return the table: one row per device.

    Parameters
    ----------
    entries : iterable of (str, mapping)
        Names and entries; see `kdsim.scenario.files.library.library_device`.
    """
    lines = [
        "| name | as its source calls it | cores measured | form | networks | passes per second "
        "(95 %) | speed-up | communication |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in entries:
        facts = entry["provenance"]
        points = facts["points"]
        cores, measured = points["own_cores"], points["measured"]
        ends = [f"{measured[i]:.3g} ({points['low'][i]:.3g} to {points['high'][i]:.3g})" for i in
                ((0, -1) if len(cores) > 1 else (0,))]  # fmt: skip
        gain = f"{measured[-1] / measured[0]:.2f}" if len(cores) > 1 else "-"
        side = "proxy" if "communication" in entry else "none"
        heading = facts["device"].replace("|", "\\|")
        lines.append(
            f"| `{name}` | {heading} | {', '.join(map(str, cores))} | {facts['model']} | "
            f"{len(facts['networks'])} | {', '.join(ends)} | {gain} | {side} |"
        )
    return "\n".join(lines) + "\n"


def update_page(path: Path, table: str) -> None:
    """Put the table between the two marks of a page.

    Raises
    ------
    PlotError
        If the page lacks the marks or cannot be written.
    """
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise PlotError(f"{path}: has no place for the table ({BEGIN} .. {END})")
    write_output(path, f"{before}{BEGIN}\n{table}{END}{after}".encode())
