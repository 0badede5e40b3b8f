"""Fingerprints of what lies on the disk and of the code that made it."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import fsspec

DATA_BESIDE_CODE = ".html.jinja"
NO_CODE = ("parameters", "errors")  # values of parameters are fingerprinted, messages are not
LOSSES = "closer_look.losses"  # of which a method takes two: each counts for itself

_known: dict[str, str] = {}  # state -> SHA-256


class Fingerprint(NamedTuple):
    """What files hold, and by what it is seen without reading that they have not been written."""

    sha256: str
    state: str
    """Hash of path, size and time of the last change of each file."""


def fingerprint(sources: Sequence[str]) -> Fingerprint:
    """Hash files, of folders all that is in them; those that this process knows are not read again.

    Args:
        sources: files and folders, or URLs that fsspec understands.
    """
    files = [file for source in sources for file in _files(source)]
    state = _hash([[str(path), *stamp] for _, path, stamp in files])
    is_remote = any("://" in source for source in sources)  # says nothing of its last change
    if is_remote or state not in _known:
        _known[state] = _hash([[name, file_sha256(path)] for name, path, _ in files])
    return Fingerprint(_known[state], state)


def remember(known: Fingerprint) -> None:
    """Take a fingerprint of an earlier process as known."""
    _known.setdefault(known.state, known.sha256)


def _files(source: str) -> Iterator[tuple[str, str | Path, tuple[int, ...]]]:
    """Name inside the source, path, and size and time of the last change (ns)."""
    if "://" in source:
        yield "", source, ()
        return
    root = Path(source)
    inside = sorted(root.rglob("*")) if root.is_dir() else [root]
    for path in filter(Path.is_file, inside):
        stat = path.stat()
        name = path.relative_to(root).as_posix()
        yield name, path.absolute(), (stat.st_size, stat.st_mtime_ns)


def file_sha256(path: str | Path) -> str:
    """Hash a file, or what is at a URL, in hexadecimal digits."""
    if isinstance(path, Path):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    with fsspec.open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def code_fingerprint(function: Callable) -> dict[str, str]:
    """Hash a function, the functions of its module that it uses, and the modules behind them.

    Those are the modules of the package that the functions use or import, and what these import,
    however far. Comments do not count. Of the losses, those count that are imported by name, and no
    others: a new one changes nothing of what others have made.

    Returns:
        Function, module or loss -> hash.
    """
    function = inspect.unwrap(getattr(function, "func", function))  # of a partial
    package = function.__module__.partition(".")[0]
    reached, modules = {}, []
    for name, code, used in _functions(function, function.__module__):
        reached[name] = code
        modules += used
    while modules:
        name = modules.pop()
        parts = name.split(".")
        if name in reached or parts[0] != package or parts[-1] in NO_CODE:
            continue
        if name.startswith(LOSSES):
            loss = getattr(importlib.import_module(LOSSES), parts[-1], None)
            if inspect.isfunction(loss):
                reached[name] = loss_fingerprint(loss)
            continue
        code, imported = _module(name)
        if code:
            reached[name] = code
            modules += imported
    return dict(sorted(reached.items()))


def loss_fingerprint(loss: Callable) -> str:
    """Hash a loss, and the functions of its package that it uses, however far."""
    package = loss.__module__.partition(".")[0]
    return _hash(sorted((name, code) for name, code, _ in _functions(loss, package)))[:12]


def _functions(function: Callable, inside: str) -> Iterator[tuple[str, str, list[str]]]:
    """A function and those that it uses inside a module or package, however far.

    Yields:
        Name, hash of source and of the numbers used, and names of modules that are used.
    """
    seen, waiting = set(), [function]
    while waiting:
        function = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        code, names, imported = _parsed(function)
        there = vars(inspect.getmodule(function))
        used = {name: there[name] for name in names if name in there}
        numbers = {name: value for name, value in used.items() if isinstance(value, int | float)}
        modules = [*imported]
        for value in used.values():
            module = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", "")
            is_inside = f"{module}.".startswith(f"{inside}.")
            if is_inside and (inspect.isfunction(value) or inspect.isclass(value)):
                waiting.append(value)
            if not (is_inside and inspect.isfunction(value)):
                modules.append(module or "")
        name = f"{function.__module__}.{function.__qualname__}"
        yield name, _hash([code, numbers])[:12], modules


@cache
def _parsed(function: Callable) -> tuple[str, list[str], list[str]]:
    """A function's or class's code without comments, names in it, and what it imports."""
    tree = ast.parse(dedent(inspect.getsource(function)))
    names = sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)})
    return ast.dump(tree), names, [*_imports(tree, function.__module__.rpartition(".")[0])]


@cache
def _module(name: str) -> tuple[str | None, tuple[str, ...]]:
    """Hash of a module and what it imports; None for what is no module, such as a function."""
    path = _source(name)
    if path is None:
        return None, ()
    tree = ast.parse(path.read_bytes())
    beside = path.with_suffix(DATA_BESIDE_CODE)
    data = file_sha256(beside) if beside.is_file() else None
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    return _hash([ast.dump(tree), data])[:12], tuple(_imports(tree, package))


def _source(name: str) -> Path | None:
    """Where a module lies, without importing it or its parents."""
    package, *inside = name.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.has_location:
        return None
    if not spec.submodule_search_locations:
        return Path(spec.origin)
    path = Path(spec.origin).parent.joinpath(*inside)
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
