import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["networks", "training", "temperature", "aflkd_paper"])
def test_the_examples_in_docstrings_are_true(module):
    outcome = doctest.testmod(importlib.import_module(f"calibration.workloads.{module}"))
    assert outcome.failed == 0
    assert outcome.attempted > 0
