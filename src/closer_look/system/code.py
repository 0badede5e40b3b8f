"""Fingerprints of code: they change when a function may give another result, and else do not.

A function's code is itself and everything of its package that it reaches: functions, classes,
constants, and the statements that a module runs when it is imported. It is read from the source
files and hashed name by name. These are no code:

* docstrings, comments, annotations, log lines and the texts of errors: they change no result;
* the place of a function: it may move to another module, and be imported from there;
* what the modules in ``NOT_FOLLOWED`` hold, whose effect is recorded elsewhere or changes nothing;
* the tables in ``OPEN_TABLES``, which grow: a new loss changes nothing of what others have made;
* the fields of parameters, whose values are recorded wherever they come from;
* the previews of datasets, which only kedro-viz shows.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from closer_look.system.fingerprints import file_sha256

PACKAGE = __name__.partition(".")[0]

NOT_FOLLOWED = (
    f"{PACKAGE}.errors",
    f"{PACKAGE}.system.code",
    f"{PACKAGE}.system.fingerprints",
    f"{PACKAGE}.system.progress",
)
PARAMETERS = f"{PACKAGE}.parameters."
OPEN_TABLES = (
    (f"{PACKAGE}.losses", "FORGET"),
    (f"{PACKAGE}.losses", "RETAIN"),
    (f"{PACKAGE}.evaluation.attacks", "ATTACKS"),
)

STATEMENTS = "<statements>"  # what a module runs on import, beside its definitions
DATA_BESIDE_CODE = ".html.jinja"

Place = tuple[str, str]
"""Module and name of a definition."""


def code_fingerprint(function: Callable) -> dict[str, str]:
    """Hash a function and what it reaches, however far, in its own package and in this one.

    Args:
        function: of a module with a source file; wrapped or partly applied, it is the same code.

    Returns:
        Name of a function, class or constant -> hash. Where several have one name, their hashes
        stand beside each other.

    Raises:
        ValueError: its source is not at hand.
    """
    return dict(_reached_from(function))


def code_hash(named: Callable | str) -> str:
    """Hash to one word what parameters name, and all that it reaches.

    Args:
        named: a function, or the dotted path (``package.module:name``) of any definition.
    """
    if isinstance(named, str):
        module, _, name = named.partition(":")
        return _hash(str(_reached(module, name)))
    return _hash(str(_reached_from(named)))


def _reached_from(function: Callable) -> tuple[tuple[str, str], ...]:
    function = inspect.unwrap(getattr(function, "func", function))  # of a partial
    module, name = function.__module__, function.__qualname__.partition(".")[0]
    if (module, name) in _definitions(module):
        return _reached(module, name)
    try:  # of a notebook: there is no module whose source could be followed
        return ((name, _hash(inspect.getsource(function))),)
    except OSError:
        raise ValueError(f"{module}.{name}: its source is not at hand") from None


@cache
def _reached(module: str, name: str) -> tuple[tuple[str, str], ...]:
    packages = frozenset({module.partition(".")[0], PACKAGE})
    if (module, name) not in _definitions(module):
        raise ValueError(f"{module}.{name}: its source is not at hand")
    found: dict[str, set[str]] = {}
    seen: set[Place] = set()
    waiting = [(module, name)]
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        definition = _definitions(place[0])[place]
        found.setdefault(place[1], set()).add(definition.sha256)
        for reference in definition.references:
            waiting += _resolve(reference, packages)
        waiting += [other for other in _definitions(place[0]) if other[1] == STATEMENTS]
    return tuple((name, " ".join(sorted(found[name]))) for name in sorted(found))


class _Definition(NamedTuple):
    sha256: str
    references: tuple[tuple[str, ...], ...]
    """Dotted names, each behind the name of a module in which it holds: ("a.b", "c", "d") is c.d
    as a.b understands it."""


@cache
def _definitions(module: str) -> dict[Place, _Definition]:
    """What a module defines; nothing of what is no module, or has no source."""
    path = _source(module)
    if path is None:
        return {}
    nodes: dict[str, list[ast.stmt]] = {}
    for statement in _statements(ast.parse(path.read_bytes())):
        for name in _names_bound(statement):
            prose = _WithoutProse(are_fields_recorded=module.startswith(PARAMETERS))
            nodes.setdefault(name, []).append(prose.visit(statement))
    found = {}
    for name, own in nodes.items():
        references = _references(module, own)
        code = "".join(ast.dump(_WithoutPlace().visit(statement)) for statement in own)
        found[module, name] = _Definition(_hash(code), references)
    data = path.with_suffix(DATA_BESIDE_CODE)
    if data.is_file():
        key = (module, STATEMENTS)
        code, references = found.get(key, _Definition("", ()))
        found[key] = _Definition(_hash(code + file_sha256(data)), references)
    return found


def _statements(module: ast.Module) -> Iterator[ast.stmt]:
    """The statements of a module, without imports and texts."""
    for statement in module.body:
        is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not (is_text or isinstance(statement, ast.Import | ast.ImportFrom)):
            yield statement


def _names_bound(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [node.id for t in targets for node in ast.walk(t) if isinstance(node, ast.Name)]
    if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
        return []
    return [STATEMENTS]


class _WithoutProse(ast.NodeTransformer):
    """Takes out what only speaks to a reader: texts, log lines, messages of errors, previews.

    The fields of parameters go as well.
    """

    def __init__(self, *, are_fields_recorded: bool) -> None:
        self.are_fields_recorded = are_fields_recorded

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [one for one in node.body if not self._is_left_out(one)]
        return self.generic_visit(node)

    def _is_left_out(self, statement: ast.stmt) -> bool:
        if isinstance(statement, ast.AnnAssign):
            return self.are_fields_recorded
        return isinstance(statement, ast.FunctionDef) and statement.name == "preview"

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        is_text = isinstance(node.value, ast.Constant)
        is_logged = isinstance(node.value, ast.Call) and ast.unparse(node.value.func).startswith(
            ("log.", "logger.", "logging.")
        )
        return None if is_text or is_logged else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(exc=raised, cause=None)


class _WithoutPlace(ast.NodeTransformer):
    """Takes out annotations, and imports that say where a name comes from."""

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        return None

    visit_ImportFrom = visit_Import

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(arg=node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def _references(module: str, statements: list[ast.stmt]) -> tuple[tuple[str, ...], ...]:
    """Names that stand in the statements, those of annotations and local imports among them."""
    found: dict[tuple[str, ...], None] = {}
    local: dict[str, tuple[str, ...]] = {}
    nodes = [node for statement in statements for node in ast.walk(statement)]
    for node in nodes:
        local |= _imported(node, _package(module))
    for node in nodes:
        dotted = _dotted(node)
        if dotted and dotted[0] in local:
            found[*local[dotted[0]], *dotted[1:]] = None
        elif dotted:
            found[module, *dotted] = None
    return tuple(found)


def _dotted(node: ast.AST) -> tuple[str, ...]:
    """The parts of ``a.b.c``; none of anything else."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return (*before, node.attr) if before else ()
    return ()


@cache
def _imports(module: str) -> dict[str, tuple[str, ...]]:
    """Name in the module -> what it imports under it, also what only annotations need."""
    path = _source(module)
    found: dict[str, tuple[str, ...]] = {}
    if path is not None:
        for statement in ast.parse(path.read_bytes()).body:
            inside = statement.body if isinstance(statement, ast.If) else [statement]
            for node in inside:
                found |= _imported(node, _package(module))
    return found


def _imported(node: ast.AST, package: str) -> dict[str, tuple[str, ...]]:
    """Name -> module, or module and name, of an import statement."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: (
                (alias.name,) if alias.asname else (alias.name.partition(".")[0],)
            )
            for alias in node.names
        }
    if isinstance(node, ast.ImportFrom):
        base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
        return {alias.asname or alias.name: (base, alias.name) for alias in node.names}
    return {}


@cache
def _resolve(reference: tuple[str, ...], packages: frozenset[str]) -> list[Place]:
    """Where a name is defined, through any number of imports.

    A module that is used as a whole is all that it defines.
    """
    module, *names = reference
    while True:
        if module.partition(".")[0] not in packages or _is_left_out(module):
            return []
        if not names:
            return [*_definitions(module)]
        name, *rest = names
        if (module, name) in OPEN_TABLES:
            return []
        if (module, name) in _definitions(module):
            return [(module, name)]
        if name in _imports(module):
            module, *names = (*_imports(module)[name], *rest)
        elif _source(f"{module}.{name}"):
            module, names = f"{module}.{name}", rest
        else:
            return []


def _is_left_out(module: str) -> bool:
    return any(f"{module}.".startswith(f"{other}.") for other in NOT_FOLLOWED)


def _package(module: str) -> str:
    path = _source(module)
    return module if path is not None and path.stem == "__init__" else module.rpartition(".")[0]


@cache
def _source(module: str) -> Path | None:
    """Where a module lies, without importing it or its parents."""
    package, *inside = module.split(".")
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # __main__
        return None
    if spec is None:
        return None
    if not spec.submodule_search_locations:
        is_source = spec.has_location and str(spec.origin).endswith(".py") and not inside
        return Path(spec.origin) if is_source else None
    for folder in spec.submodule_search_locations:  # several, of a package without __init__.py
        path = Path(folder).joinpath(*inside)
        for candidate in (path / "__init__.py", path.with_suffix(".py")):
            if candidate.is_file():
                return candidate
    return None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
