"""Which files of the core and of plug-ins a piece of code stands on, found from its import statements: whose changes make its numbers anew."""

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

from sae_bench_htopk import plugins

CORE = Path(__file__).parent
KINDS: tuple[plugins.Kind, ...] = ("variants", "metrics")
# What all of the core stands on is not hashed: it changes often and moves no number, or the golden rows tell. Nor is what it imports looked at.
FOUNDATIONS = frozenset({"errors", "ops", "choose", "contract", "checkpoint", "lm", "windows", "stream", "text", "split", "plugins"})


def standing(paths: Iterable[Path]) -> dict[str, Path]:
    """These files and all that they import, directly or through one another, by name; foundations left out.

    An import that is made by a call (importlib) is not seen.
    """
    found: dict[str, Path] = {}
    todo = [(name_of(path), path) for path in paths]
    while todo:
        name, path = todo.pop()
        if name not in found:
            found[name] = path
            todo += [(name_of(other), other) for other in imported(path)]
    return found


def name_of(path: Path) -> str:
    """A module of the core by its own name, any other file with that of its package before it."""
    return path.stem if path.parent == CORE else f"{package_of(path)}.{path.stem}"


def package_of(path: Path) -> str:
    """variants or metrics, also of a file in a user's folder; else the folder's own name."""
    return next((kind for kind in KINDS if str(path.parent) in plugins.package(kind).__path__), path.parent.name)


def imported(path: Path) -> Iterator[Path]:
    """The files that one file imports from this package."""
    for module in modules(path):
        first, _, rest = module.partition(".")
        if kind := next((kind for kind in KINDS if kind == first), None):
            folders = [Path(folder) for folder in plugins.package(kind).__path__]
            yield from next((files for folder in folders if rest and (files := files_of(folder / rest.split(".")[0]))), [])
        elif first not in FOUNDATIONS and (file := CORE / f"{first}.py").is_file():
            yield file


def files_of(module: Path) -> list[Path]:
    """The file of a module, or all files of a package, whichever of them is named."""
    file = module.with_suffix(".py")
    return [file] if file.is_file() else sorted(module.rglob("*.py")) if (module / "__init__.py").is_file() else []


@functools.lru_cache
def modules(path: Path) -> tuple[str, ...]:
    """What a file names in its imports, without the package's own name; names that are no modules stand among them, and are no files either."""
    found: list[str] = []
    for node in run_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = absolute(node, path)
            found += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return tuple(dict.fromkeys(name.removeprefix("sae_bench_htopk.") for name in found if name.startswith("sae_bench_htopk.")))


def run_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker looks at: what is imported there moves no number."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from (inner for other in node.orelse for inner in (other, *run_nodes(other)))
        else:
            yield node
            yield from run_nodes(node)


def absolute(node: ast.ImportFrom, path: Path) -> str:
    """The module that is imported from; a relative one counts from the file's package, which for a plug-in is that of its kind."""
    package = ["sae_bench_htopk"] if path.parent == CORE else ["sae_bench_htopk", package_of(path)]
    above = package[: len(package) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])
