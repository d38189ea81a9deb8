"""What holds for every test: Hypothesis's profile, Ctrl-C, and modules that a test has imported.

Hypothesis explores anew in every local run; under CI every run tries the same examples.
"""

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault of the code: no example has a deadline.
_PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("local", **_PATIENT)
settings.register_profile("ci", derandomize=True, print_blob=True, **_PATIENT)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# A shell starts what runs in the background with Ctrl-C ignored, and every process that a test
# starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_modules_end_with_their_test(tmp_path_factory):
    """Forget modules that were imported from a test's folder: the next test may have its own."""
    yield
    root = tmp_path_factory.getbasetemp()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and root in Path(file).parents:
            del sys.modules[name]
