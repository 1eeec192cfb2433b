"""Finds variants and metrics by file name: a plug-in is one file in variants/ or metrics/ that defines one class."""

import ast
import difflib
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeAlias, TypeVar

from sae_bench_htopk.contract import Column, Metric, Variant
from sae_bench_htopk.errors import InputError

Kind: TypeAlias = Literal["variants", "metrics"]
Plugin = TypeVar("Plugin")
WORDS = {"meaning", "formula", "source", "pitfall"}  # of a Column: rewording one makes no number anew


class PluginError(InputError):
    """No plug-in of that name, or a file that does not define exactly one; the message says which and what is near."""


def folder(kind: Kind) -> str:
    """The folder of plug-ins: inside the package if there is one (a wheel), else beside it (a checkout)."""
    inside = Path(__file__).parent / kind
    return str(inside if inside.is_dir() else inside.parents[1] / kind)


def suggest(given: str, known: Iterable[str]) -> str:
    """' did you mean X? known: ...' for the end of an error message."""
    known = sorted(known)
    near = difflib.get_close_matches(given, known, n=1)
    return (f"did you mean {near[0]}? " if near else "") + f"known: {', '.join(known)}"


def package(kind: Kind) -> ModuleType:
    """The module whose __path__ lists the folders of that kind."""
    return importlib.import_module(f"sae_bench_htopk.{kind}")


def add_folder(kind: Kind, directory: Path) -> None:
    """Looks for plug-ins in a user's folder too. Raises PluginError if it is no folder or would hide a known plug-in."""
    if not directory.is_dir():
        raise PluginError(f"--{kind} {directory}: not a folder")
    paths = package(kind).__path__
    if str(directory.resolve()) in paths:
        return
    for name in (path.stem for path in directory.glob("[!_]*.py")):
        if name in names(kind):
            raise PluginError(f"--{kind} {directory}: {name} is already the name of one of the {kind}; rename the file")
    paths.append(str(directory.resolve()))


def names(kind: Kind) -> list[str]:
    """Every plug-in's name, sorted; imports none of them."""
    return sorted(module.name for module in pkgutil.iter_modules(package(kind).__path__) if not module.name.startswith("_"))


def source_file(kind: Kind, name: str) -> Path:
    """The file that defines a plug-in. Raises PluginError with the nearest name."""
    for directory in package(kind).__path__:
        if (path := Path(directory) / f"{name}.py").is_file():
            return path
    raise PluginError(f"no {kind[:-1]} is called {name!r}; {suggest(name, names(kind))}")


def load(kind: Kind, name: str, wanted: type[Plugin]) -> type[Plugin]:
    """The one class of kind `wanted` that the file defines itself."""
    path = source_file(kind, name)
    try:
        module = importlib.import_module(f"sae_bench_htopk.{kind}.{name}")
    except Exception as error:  # whatever a plug-in's own code raises
        raise PluginError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
    found = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, wanted) and value.__module__ == module.__name__]
    if len(found) != 1:
        raise PluginError(f"{path}: defines {len(found)} classes of {wanted.__name__}, wanted exactly one")
    return found[0]


def variant(name: str) -> type[Variant]:
    """The variant of that name."""
    found = load("variants", name, Variant)
    if not hasattr(found, "Config"):
        raise PluginError(f"{source_file('variants', name)}: {found.__name__} has no Config, wanted a frozen dataclass of its settings inside the class")
    if found.step is Variant.step and "trained_as" not in vars(found):
        raise PluginError(f"{source_file('variants', name)}: {found.__name__} defines neither step nor trained_as, wanted one of them")
    return found


def metric(name: str) -> type[Metric]:
    """The metric of that name."""
    found = load("metrics", name, Metric)  # type: ignore[type-abstract]
    if left := sorted(getattr(found, "__abstractmethods__", ())):
        raise PluginError(f"{source_file('metrics', name)}: {found.__name__} does not define {', '.join(left)}")
    return found


def first_line(kind: Kind, name: str) -> str:
    """The first line of the plug-in's class docstring: its line on a page; read without importing anything."""
    try:
        tree = ast.parse(source_file(kind, name).read_text(encoding="utf-8"))
    except SyntaxError as error:
        return f"cannot be read: line {error.lineno}: {error.msg}"
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    text = next((doc for node in reversed(classes) if (doc := ast.get_docstring(node))), ast.get_docstring(tree) or "")
    return text.split("\n", 1)[0]


@functools.lru_cache
def code_of(path: Path) -> str:
    """The file's syntax tree without docstrings, a Column's words and a metric's `kept_bytes`, as text: what a hash must see and no more.

    The same on every version of Python.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        if isinstance(node, ast.ClassDef):
            node.body = [inner for inner in node.body if not (isinstance(inner, ast.FunctionDef) and inner.name == "kept_bytes")]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Column":
            node.args = [argument for place, argument in enumerate(node.args) if place < len(Column._fields) and Column._fields[place] not in WORDS]
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in WORDS]
    return canonical(tree)


def canonical(node: object) -> str:
    """A syntax tree as text, empty fields left out: ast.dump and ast.unparse differ between versions of Python."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({', '.join(f'{name}={canonical(value)}' for name, value in fields)})"
    return f"[{', '.join(map(canonical, node))}]" if isinstance(node, list) else repr(node)
