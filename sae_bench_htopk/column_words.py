"""What a metric's numbers are called and mean, read from its file where that says so in plain words: importing every metric takes seconds."""

import ast
import functools
from collections import Counter
from pathlib import Path

from sae_bench_htopk import plugins
from sae_bench_htopk.contract import Column


@functools.lru_cache
def columns_of(name: str) -> tuple[Column, ...]:
    """What a metric of that name answers; where its file says so in plain words, nothing is imported that it measures with."""
    try:
        tree = ast.parse(plugins.source_file("metrics", name).read_text(encoding="utf-8"))
        (said,) = (value for of in tree.body if isinstance(of, ast.ClassDef) and not of.decorator_list for value in assigned(of, "columns"))
        constants = {key: ast.literal_eval(value) for key, value in (imported_constants(tree) | plain_constants(tree)).items()}
        found = tuple(eval(compile(ast.Expression(said), name, "eval"), {"Column": Column, **constants}))
    except Exception:  # whatever is not said in plain words
        return plugins.metric(name).columns
    return found if bound(tree)["columns"] == 1 else plugins.metric(name).columns


def bound(tree: ast.AST) -> Counter[str]:
    """How often each name is given something, anywhere in a file: what is given twice may not be what it was given first."""
    nodes = list(ast.walk(tree))
    named = (node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    attributes = (node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))
    imported = (alias.asname or alias.name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names)
    defined = (node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef))
    return Counter([*named, *attributes, *imported, *defined])


def assigned(node: ast.Module | ast.ClassDef, name: str) -> list[ast.expr]:
    """What a name is given in a module or in a class."""
    return [inner.value for inner in node.body if isinstance(inner, ast.Assign) and [getattr(target, "id", None) for target in inner.targets] == [name]]


def plain_constants(tree: ast.Module) -> dict[str, ast.expr]:
    """The names that a module gives a number, text, or a tuple of them, once and nothing else."""
    named = {target.id: node.value for node in tree.body if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)}
    times = bound(tree)
    plain = (name for name, value in named.items() if all(isinstance(part, ast.Constant | ast.Tuple | ast.Load) for part in ast.walk(value)))
    return {name: named[name] for name in plain if times[name] == 1}


@functools.lru_cache
def constants_of(path: Path) -> dict[str, ast.expr]:
    """The same of a file, which several metrics import."""
    return plain_constants(ast.parse(path.read_text(encoding="utf-8")))


def imported_constants(tree: ast.Module) -> dict[str, ast.expr]:
    """The same of what it imports from the core."""
    found: dict[str, ast.expr] = {}
    for node in (node for node in tree.body if isinstance(node, ast.ImportFrom) and str(node.module).startswith("sae_bench_htopk.")):
        if (path := Path(__file__).parent / f"{str(node.module).split('.')[1]}.py").is_file():
            theirs = constants_of(path)
            found |= {alias.asname or alias.name: theirs[alias.name] for alias in node.names if alias.name in theirs}
    return found
