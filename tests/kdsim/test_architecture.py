"""The house rules: imports point one way, floor by floor."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: From the ground up: a module imports only from its own package and from lower floors.
FLOORS = {
    "kdsim": [
        {"_version", "_lazy", "_types", "errors"},
        {"messages", "output_file"},
        {"model"},
        {"policies"},
        {"scenario"},
        {"results"},
        {"engines", "plots"},
        {"answers", "sweeps"},
        {"report"},
        {"api"},
        {"cli"},
        {"__main__"},
    ],
    "kdsim.model": [
        {"jit", "numbers", "tolerances"},
        {"curves", "rules"},
        {"link", "random_streams", "rate_region"},
        {"plan"},
        {"bound"},
        {"lookahead"},
    ],
    "kdsim.scenario": [
        {"files"},
        {"parts"},
        {"study"},
        {"changes", "json_schema"},
        {"points", "validate"},
        {"drawn", "load", "swept_values"},
    ],
    "kdsim.plots": [
        {"labels", "saving", "style"},
        {"curve_band", "lines", "panels"},
        {"figures"},
        {"kinds"},
    ],
    "kdsim.sweeps": [
        {"policy_source", "workers"},
        {"task"},
        {"chunker", "runs"},
        {"ledger"},
        {"driver"},
    ],
    "kdsim.cli": [
        {"group", "options", "progress", "tables"},
        {"curve_tables"},
        {"commands"},
    ],
    "calibration": [
        {"trace", "machine", "traces"},
        {"link", "fit", "importing"},
        {"bench", "devices"},
        {"validation"},
        {"workloads"},
        {"commands"},
    ],
    "calibration.workloads": [
        {"checks"},
        {"losses", "partition", "data"},
        {"training"},
        {"records"},
        {"aflkd", "decentralized", "edge_kd", "split_inference"},
    ],
    "calibration.workloads.split_inference": [
        {"errors"},
        {"planning"},
        {"workers"},
        {"cost", "pipeline"},
        {"runtime"},
        {"study"},
    ],
}
#: Conveniences that reach up, each inside a function: a result draws itself.
LAZY = {
    ("kdsim.results.run", "kdsim.plots"),
    ("kdsim.results.comparison", "kdsim.plots"),
    ("kdsim.results.learning", "kdsim.plots"),
}
#: The only way from the simulator to the harness: the command line, when a command is called.
DOORS = {"kdsim.cli.group"}


def dotted(path):
    """Return a module's dotted name; a package's face goes by the package's name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    dotted(path): path
    for package in ("kdsim", "calibration")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports_of(path):
    """Yield the dotted names that a module imports, at its top or inside its functions."""
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
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            if any(name in MODULES for name in below):
                names = [name if name in MODULES else node.module for name in below]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from names


def floor_of(module):
    """Yield (package, floor) for every package whose floors this module stands on."""
    for package, floors in FLOORS.items():
        if module.startswith(f"{package}."):
            room = module.removeprefix(f"{package}.").split(".")[0]
            number = next((i for i, names in enumerate(floors) if room in names), None)
            yield package, room, number


def test_the_tree_is_found():
    assert len(MODULES) > 100
    assert {"kdsim.model.bound.optimum", "calibration.workloads.losses"} <= set(MODULES)


def test_every_module_has_a_floor():
    assert not [
        f"{module}: {room} has no floor in {package}"
        for module in MODULES
        for package, room, number in floor_of(module)
        if number is None
    ]


def reaching_up(module):
    """Yield each import by which a module reaches up, or the simulator the harness."""
    own = {package: (room, number) for package, room, number in floor_of(module)}
    for name in imports_of(MODULES[module]):
        if name.startswith("calibration") and module.startswith("kdsim") and module not in DOORS:
            yield f"{module} reaches calibration: {name}"
        for package, room, number in floor_of(name):
            mine, floor = own.get(package, (room, None))
            if room == mine or number is None or floor is None:
                continue
            lazy = any((module, up) in LAZY for up in (name, f"{package}.{room}"))
            if number >= floor and not lazy:
                yield f"{module} imports {name}"


def test_imports_point_one_way():
    assert not [fault for module in sorted(MODULES) for fault in reaching_up(module)]


def test_no_two_modules_import_each_other():
    edges = {
        module: {
            target
            for name in imports_of(MODULES[module])
            for target in (name if name in MODULES else name.rpartition(".")[0],)
            if target in MODULES and target != module and (module, target) not in LAZY
        }
        for module in MODULES
    }
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for target in sorted(edges[module]):
            visit(target)
        path.pop()
        done.add(module)

    for module in MODULES:
        visit(module)


def test_the_top_of_the_simulator_is_small():
    top = {path.stem for path in (ROOT / "kdsim").iterdir() if not path.name.startswith("_")}
    assert len(top - {"py"}) <= 14, sorted(top)  # "py" is py.typed


def test_the_simulator_never_imports_torch():
    for module, path in MODULES.items():
        if module.startswith("kdsim"):
            assert "torch" not in {name.split(".")[0] for name in imports_of(path)}


def test_public_names_are_importable_and_documented():
    import kdsim

    for name in kdsim.__all__:
        value = getattr(kdsim, name)
        assert name == "__version__" or value.__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kdsim.nothing  # noqa: B018


def test_policy_names_are_the_registry():
    from kdsim.policies import names, resolve

    assert set(names.POLICY_NAMES) == set(resolve._BUILT_IN)
