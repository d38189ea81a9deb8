"""``python -m calibration.devices``: make the device library anew."""

from __future__ import annotations

import sys
from pathlib import Path

import click

import calibration
from calibration.devices.make import make_library
from kdsim.errors import KdsimError


def main() -> int:
    """Make the library in ``scenarios/devices`` of this checkout, or in the folder given."""
    there = Path(calibration.__file__).parents[1] / "scenarios" / "devices"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else there
    try:
        paths = make_library(folder, progress=lambda name: click.echo(name, err=True))
    except KdsimError as error:
        click.echo(f"calibration.devices: {error}", err=True)
        return error.exit_code
    click.echo(f"{len(paths)} devices written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
