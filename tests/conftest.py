"""What holds for every test: Hypothesis's profile, and modules that a test has imported.

Hypothesis explores anew in every local run; under CI every run tries the same examples.
"""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(autouse=True)
def _own_modules_end_with_their_test(tmp_path_factory):
    """Forget modules that were imported from a test's folder: the next test may have its own."""
    yield
    root = tmp_path_factory.getbasetemp()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and root in Path(file).parents:
            del sys.modules[name]
