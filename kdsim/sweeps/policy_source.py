"""What decides a run besides its scenario: a hash of the code of a policy, and of kdsim itself.

A store must not mix the results of two versions of a policy. The hash therefore covers what the
policy's class needs: its own source, every definition of its module that this source names, all
that runs when the module is imported, and the same of each module that it imports. Editing
another class of the same file changes nothing. Installed packages are left out. What cannot be
seen in the source is not covered: modules imported under a computed name, and data files that
the policy reads.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from kdsim.errors import UnknownPolicyError
from kdsim.policies.resolve import is_built_in

#: Marks a hash of code; the stores of kdsim 0.1 hold the hash of the module's file instead.
_BY_CODE = "code:"
#: Packages whose own version is part of a run's identity already.
_OURS = frozenset({"kdsim", "calibration"})
#: Names with which code reaches definitions that it does not name: then all of a module counts.
_DYNAMIC = frozenset(
    {"eval", "exec", "globals", "locals", "vars", "__import__", "import_module", "modules"}
)


@dataclass(frozen=True, slots=True)
class PolicySource:
    """The code that a policy needs.

    Attributes
    ----------
    digest : str
        Hash of it; empty for a built-in policy.
    files : tuple of str
        Where it was found, the policy's own module first.
    """

    digest: str
    files: tuple[str, ...]


def policy_source(policy: str) -> PolicySource:
    """Hash the code that a policy needs, as it is on disk now.

    Parameters
    ----------
    policy : str
        A built-in name, or ``"module:Class"``.

    Raises
    ------
    UnknownPolicyError
        If its module cannot be found.
    """
    if is_built_in(policy):
        return PolicySource("", ())
    module, _, name = policy.partition(":")
    root = _policy_module(policy, module)
    if root is None:  # built into Python, or without a file
        return PolicySource(_BY_CODE + hashlib.sha256(module.encode()).hexdigest(), (module,))
    needed = _collect(root, name)
    digest = hashlib.sha256()
    for source, statements in needed:
        for part in (source.name, *source.texts(statements)):
            digest.update(f"{len(part)}:{part}".encode(errors="surrogateescape"))
    return PolicySource(
        _BY_CODE + digest.hexdigest(), tuple(str(source.path) for source, _ in needed)
    )


def is_source(policy: str, digest: str) -> bool:
    """Whether a hash that a store holds is that of the code on disk now."""
    if not digest or digest.startswith(_BY_CODE):
        return policy_source(policy).digest == digest
    # Written by kdsim 0.1, which hashed the file of the policy's module and nothing else.
    module = policy.partition(":")[0]
    root = _policy_module(policy, module)
    content = module.encode() if root is None else root.path.read_bytes()
    return hashlib.sha256(content).hexdigest() == digest


@functools.lru_cache(maxsize=1)
def package_digest() -> str:
    """Hash the source of the kdsim that runs here, to compare a worker's with the driver's."""
    folder = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}:{len(content)}:".encode() + content)
    return digest.hexdigest()


# --- which code a class needs ---------------------------------------------------------------------

_DEFINITION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
#: Names wanted of a module; None for all of it.
_Names = frozenset[str] | None


class _Module:
    """A module's source, in its top-level statements."""

    def __init__(self, name: str, path: Path, *, is_package: bool) -> None:
        self.name = name
        self.path = path
        self._package = name if is_package else name.rpartition(".")[0]
        content = path.read_bytes()
        self._text = content.decode(errors="surrogateescape")
        # As ast counts lines, which knows no form feeds or Unicode separators.
        self._lines = self._text.replace("\r\n", "\n").split("\n")
        self._statements: list[ast.stmt] | None
        try:
            self._statements = ast.parse(content).body
        except (SyntaxError, ValueError, RecursionError):
            self._statements = None  # not Python source: all of it counts
        self._defined = {s.name: s for s in self._statements or [] if isinstance(s, _DEFINITION)}

    def needed(self, names: _Names) -> list[ast.stmt] | None:
        """Return the statements that `names` need, in order; None for the whole module."""
        if self._statements is None or names is None or not names <= self._defined.keys():
            return None
        todo = [s for s in self._statements if not isinstance(s, _DEFINITION)]
        todo += [self._defined[name] for name in names]
        chosen = {id(statement) for statement in todo}
        while todo:
            for name in _mentioned(todo.pop()):
                if name in _DYNAMIC:
                    return None
                found = self._defined.get(name)
                if found is not None and id(found) not in chosen:
                    chosen.add(id(found))
                    todo.append(found)
        return [s for s in self._statements if id(s) in chosen]

    def texts(self, statements: list[ast.stmt] | None) -> list[str]:
        """Return the source of statements, or of the whole module."""
        if statements is None:
            return [self._text]
        return ["\n".join(self._lines[_first_line(s) - 1 : s.end_lineno]) for s in statements]

    def imports(self, statements: list[ast.stmt] | None) -> Iterator[tuple[str, str | None]]:
        """Yield (module, name or None for all of it) of each import in the statements."""
        for statement in (self._statements or []) if statements is None else statements:
            for node in ast.walk(statement):
                if isinstance(node, ast.Import):
                    yield from ((alias.name, None) for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    origin = self._origin(node)
                    for alias in node.names:
                        yield origin, None if alias.name == "*" else alias.name

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parents = self._package.split(".")
        parents = parents[: len(parents) - node.level + 1]
        return ".".join(filter(None, [*parents, node.module]))


def _first_line(statement: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


def _mentioned(statement: ast.stmt) -> Iterator[str]:
    """Yield every name, attribute and string in a statement: whatever may name a definition."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _collect(root: _Module, name: str) -> list[tuple[_Module, list[ast.stmt] | None]]:
    """Follow a class through the modules that it needs."""
    own = root.name.partition(".")[0]
    modules: dict[str, _Module | None] = {root.name: root}
    wanted: dict[str, _Names] = {root.name: frozenset({name})}
    todo = [root.name]
    while todo:
        module = modules[todo.pop()]
        if module is None:
            continue
        for origin, attribute in module.imports(module.needed(wanted[module.name])):
            for found, names in _imported(origin, attribute):
                if found not in modules:
                    modules[found] = _own_module(found, own)
                if _widen(wanted, found, names):
                    todo.append(found)
    others = [m for m in modules.values() if m is not None and m is not root]
    chosen = [root, *sorted(others, key=lambda module: module.name)]
    return [(module, module.needed(wanted[module.name])) for module in chosen]


def _imported(origin: str, attribute: str | None) -> Iterator[tuple[str, _Names]]:
    """Yield the modules that one import runs: parents, the module, and a submodule if it is one."""
    parts = origin.split(".")
    for end in range(1, len(parts)):
        yield ".".join(parts[:end]), frozenset()
    yield origin, None if attribute is None else frozenset({attribute})
    if attribute is not None:
        yield f"{origin}.{attribute}", None


def _widen(wanted: dict[str, _Names], module: str, names: _Names) -> bool:
    """Want more of a module; return whether that is new."""
    if module not in wanted:
        wanted[module] = names
        return True
    old = wanted[module]
    wanted[module] = None if old is None or names is None else old | names
    return wanted[module] != old


# --- finding modules without importing them -------------------------------------------------------


def _policy_module(policy: str, module: str) -> _Module | None:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `make_policy` looks for it
    spec = _find(module)
    if spec is None:
        raise UnknownPolicyError(
            f"policy {policy!r}: no module named {module!r} (looked in {here})"
        )
    return _module_of(spec)


def _own_module(name: str, own: str) -> _Module | None:
    """Return a module that is the user's own; None if it is installed, or no module at all."""
    top = name.partition(".")[0]
    if top in _OURS or top in sys.stdlib_module_names:
        return None
    spec = _find(name)
    module = None if spec is None else _module_of(spec)
    if module is None or (top != own and _is_installed(module.path)):
        return None
    return module


def _find(name: str) -> ModuleSpec | None:
    """Find a module; `importlib.util.find_spec` alone would import its parents."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for part in rest:
            if spec is None or spec.submodule_search_locations is None:
                return None
            places = list(spec.submodule_search_locations)
            spec = PathFinder.find_spec(f"{spec.name}.{part}", places)
    except (ImportError, ValueError, AttributeError):
        return None
    return spec


def _module_of(spec: ModuleSpec) -> _Module | None:
    if not spec.has_location or spec.origin is None or not Path(spec.origin).is_file():
        return None
    is_package = spec.submodule_search_locations is not None
    return _Module(spec.name, Path(spec.origin), is_package=is_package)


def _is_installed(path: Path) -> bool:
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    return any(path.is_relative_to(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib"))
