"""What holds for every test: Hypothesis's profile, Ctrl-C, and modules that a test has imported.

Every run tries the same examples, so that a change is judged by what it changes; with
``KDSIM_EXPLORE=1`` Hypothesis looks for new ones (``make fuzz`` does).
"""

import os
import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault of the code: no example has a deadline.
_PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeat", derandomize=True, **_PATIENT)
settings.register_profile("explore", print_blob=True, **_PATIENT)
settings.load_profile("explore" if os.environ.get("KDSIM_EXPLORE") else "repeat")

# A shell that starts the tests in the background ignores Ctrl-C in them, and so in every command
# that they start; some tests are about Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Run the notebooks first: last, one worker would play them while the others are idle."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture(autouse=True)
def _own_modules_end_with_their_test(tmp_path_factory):
    """Forget modules that were imported from a test's folder: the next test may have its own."""
    yield
    root = f"{tmp_path_factory.getbasetemp()}{os.sep}"
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.startswith(root):
            del sys.modules[name]
