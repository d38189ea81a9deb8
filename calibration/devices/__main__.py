"""``python -m calibration.devices``: rebuild the device library."""

from __future__ import annotations

import sys
from pathlib import Path

import click

import calibration
from calibration.devices.make import make_library
from calibration.devices.page import devices_markdown, update_page
from kdsim.errors import KdsimError
from kdsim.scenario.files.library import library_device, library_names


def main() -> int:
    """Make the library in ``scenarios/devices`` and the table in ``docs/devices.md``.

    With a folder as argument, only the files, there.
    """
    there = Path(calibration.__file__).parents[1] / "scenarios" / "devices"
    page = there.parents[1] / "docs" / "devices.md"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else there
    try:
        paths = make_library(folder, progress=lambda name: click.echo(name, err=True))
    except KdsimError as error:
        click.echo(f"calibration.devices: {error}", err=True)
        return error.exit_code
    if folder == there and page.is_file():
        entries = ((name, library_device(name)) for name in library_names())
        update_page(page, devices_markdown(entries))
    click.echo(f"{len(paths)} devices written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
