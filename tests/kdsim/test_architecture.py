"""The house rules: imports point one way, and what is not needed is not loaded."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "kdsim"

#: From the ground up: a module imports only modules of lower floors.
FLOORS = [
    {"_version", "errors", "compiled", "progress"},
    {"output_file"},
    {"statistics", "curves", "rules", "faults"},
    {"plan", "device", "reading", "randomness"},
    {"workload"},
    {"extensions", "profiles"},
    {"scenario"},
    {"loading", "optimum", "design", "schema"},
    {"policies"},
    {"registry"},
    {"results", "learning_results"},
    {"pool"},
    {"engine"},
    {"checking", "kernels", "chrome_trace", "plot_style"},
    {"batch"},
    {"comparison", "learning", "tasks", "executors", "store_file"},
    {"store", "chunks", "cluster", "processes"},
    {"planning", "exporting"},
    {"sweeps"},
    {"plot_curves", "plot_lines", "plot_timeline", "report_page"},
    {"plot_comparison", "plot_learning"},
    {"plot_gaps"},
    {"plots"},
    {"report"},
    {"tables"},
    {"cli_runs"},
    {"cli_check", "cli_learning", "cli_sweep"},
    {"cli"},
    {"__init__", "__main__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
#: Conveniences that reach up, lazily and in one place each: a result draws itself, an optimum
#: accepts a scenario's name, a store gives its table.
LAZY = {
    ("results", "plots"),
    ("learning_results", "plots"),
    ("optimum", "loading"),
    ("store", "exporting"),
}


def imports_of(path):
    """Yield (module of kdsim or calibration, whether at the top level)."""
    tree = ast.parse(path.read_text())
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(id(child) for child in ast.walk(node))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "kdsim":
                names = [f"kdsim.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from names


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_imports_point_one_way(path):
    assert path.stem in FLOOR, f"{path.stem} has no floor in this test"
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        if top == "calibration":
            assert path.stem == "cli", f"{path.stem} reaches calibration"
        if top == "kdsim" and rest:
            module = rest.split(".")[0]
            if (path.stem, module) in LAZY or path.stem in ("__init__", "__main__"):
                continue
            assert FLOOR[module] < FLOOR[path.stem], f"{path.stem} imports {module}"


def test_the_simulator_never_imports_torch():
    for path in PACKAGE.rglob("*.py"):
        assert "torch" not in {name.split(".")[0] for name in imports_of(path)}


HEAVY = ("torch", "pandas", "scipy", "matplotlib", "numba", "dask", "distributed", "sklearn")


@pytest.mark.parametrize(
    "code",
    ["import kdsim", "import sys; sys.argv = ['kdsim', '--help']; import kdsim.cli as c; c.main()"],
    ids=["import", "help"],
)
def test_starting_loads_nothing_heavy(code):
    check = (
        "import sys, atexit\natexit.register(lambda: print([m for m in %r if m in sys.modules]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", f"{check % (HEAVY,)}\n{code}"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"


def test_public_names_are_importable_and_documented():
    import kdsim

    for name in kdsim.__all__:
        value = getattr(kdsim, name)
        assert name == "__version__" or value.__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kdsim.nothing  # noqa: B018


def test_policy_names_of_scenarios_are_the_registry():
    from kdsim import registry, scenario

    assert set(scenario.POLICY_NAMES) == set(registry._BUILT_IN)
