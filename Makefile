# Two commands, each complete on a fresh machine with Python >= 3.11: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# How tests are run, and how many side by side; "coverage run -m" measures them.
RUNNER ?= python -m
WORKERS ?= 2
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test wheel docs endurance fuzz lint types coverage clean

# The core without torch, then the main job on a really measured device.
demo: $(VENV)/.core
	mkdir -p out
	$(BIN)/kdsim compare measured -o out/measured.png
	@echo "The figure is out/measured.png; next: kdsim --help"

# Everything the tests need, torch included, then the tests.
test: $(VENV)/.dev
	$(BIN)/$(RUNNER) pytest -n $(WORKERS)

# The wheel, installed into an empty environment and run outside the checkout.
wheel: $(VENV)/.dev
	rm -rf out/wheel && mkdir -p out/wheel
	$(BIN)/python -m build --wheel --outdir out/wheel . >out/wheel/build.log
	$(PYTHON) -m venv out/wheel/venv
	out/wheel/venv/bin/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt out/wheel/*.whl
	cd out/wheel && venv/bin/kdsim compare measured -o measured.png

# Twenty killed sweeps, twenty killed teams of workers: about ten minutes.
endurance: $(VENV)/.dev
	$(BIN)/python -m pytest -m endurance

# The generators of attacks (damaged stores, killed sweeps, ...) with their large budgets.
fuzz: $(VENV)/.dev
	KDSIM_EXPLORE=1 $(BIN)/python -m pytest -m fuzz tests/fuzz

# The site, in out/site; every warning is an error, and so is a link that leads nowhere.
docs: $(VENV)/.dev
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs out/site
	$(BIN)/python -m sphinx --quiet -b linkcheck docs out/links
	@echo "The site is out/site/index.html"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

# Line and branch coverage of all tests; tracing makes them about three times slower. The floors are
# what part of the fast tests alone reach (2026-11-21); they are raised, never lowered.
coverage: $(VENV)/.dev
	$(MAKE) test RUNNER="coverage run -m" WORKERS=0
	$(BIN)/coverage report
	$(BIN)/coverage report --include="kdsim/*" --fail-under=84 >/dev/null
	$(BIN)/coverage report --include="calibration/*" --fail-under=86 >/dev/null

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(BIN)/python setup.cfg constraints.txt
	$(PIP) -e .
	touch $@

# torch first and alone: its pinned version may come from another place than the rest.
$(VENV)/.dev: $(BIN)/python setup.cfg constraints.txt
	$(PIP) "torch==2.13.0"
	$(PIP) -e ".[dev]"
	touch $@ $(VENV)/.core

clean:
	rm -rf build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
