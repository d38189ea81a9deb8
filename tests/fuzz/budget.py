"""How much a generator of attacks may try: a little in every run, a lot under ``make fuzz``."""

from __future__ import annotations

import pytest


def rounds(few: int, many: int) -> list:
    """Return the seeds of a test as parameters: few by default, all others with ``-m fuzz``."""
    return [
        pytest.param(range(few), id=f"{few}"),
        pytest.param(range(few, many), id=f"{many}", marks=[pytest.mark.fuzz, pytest.mark.slow]),
    ]
