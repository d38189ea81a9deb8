"""Every example in a docstring runs and says the truth."""

import doctest
import importlib
import pkgutil

import pytest

import kdsim

MODULES = sorted(m.name for m in pkgutil.iter_modules(kdsim.__path__) if m.name != "__main__")


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name):
    module = importlib.import_module(f"kdsim.{name}")
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
