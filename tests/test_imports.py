"""Who may import whom: the one-way law of the core, and what a plug-in may know."""

import ast
from pathlib import Path

from sae_bench_htopk.keys import MEASURING

ROOT = Path(__file__).parents[1]
ORDER = [
    {"errors", "ops", "frontier"},
    {"choose", "prefix_loss", "labels"},
    {"contract"},
    {
        "plugins", "text", "split", "windows", "corpus", "checkpoint", "head", "lm", "stream", "trainer", "calibrate", "controls", "evaluate", "weights",
        "records", "strict_yaml", "typed", "suite_fields", "suite", "keys", "python_labels", "known_labels", "labelled_text",
        "questions", "sample", "transcript", "probing", "similarity", "progress", "bits", "card", "pretrain",
        "provenance", "power_law", "variance", "stability", "strata", "hsic", "draws", "representations", "resampling", "rows",
    },
    {
        "saes", "board", "markdown", "tables", "sentences", "figures", "falloff", "sizes", "nested", "curve", "page", "leaderboard", "definitions", "alike",
        "leads", "pairs", "origins",
    },
    {"memory", "seeds", "plan", "estimate", "run"},
    {"__main__"},
]  # fmt: skip
OF_PLUGINS = {
    "variants": {"contract", "ops", "prefix_loss"},
    "metrics": {
        "contract",
        "ops",
        "labels",
        "questions",
        "sample",
        "transcript",
        "probing",
        "strata",
        "hsic",
        "draws",
        "representations",
        "similarity",
        "variance",
    },
}


def imported(path: Path) -> set[str]:
    """The modules of the core that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sae_bench_htopk"):
            rest = node.module.removeprefix("sae_bench_htopk").lstrip(".")
            found |= {rest.split(".")[0]} if rest else {alias.name for alias in node.names}
    return found


def test_every_module_has_a_level_and_imports_only_downwards() -> None:
    """A module imports its own level or a lower one."""
    level = {name: index for index, names in enumerate(ORDER) for name in names}
    modules = {path.stem: path for path in (ROOT / "sae_bench_htopk").glob("*.py")}
    assert set(modules) - {"__init__", "variants", "metrics"} == set(level)
    for name, path in modules.items():
        if name in level:
            assert all(level[other] <= level[name] for other in imported(path)), (name, imported(path))


def test_plug_ins_import_only_what_the_contract_lets_them() -> None:
    """A variant never imports a variant; nobody imports a plug-in by name."""
    for kind, allowed in OF_PLUGINS.items():
        for path in (ROOT / kind).glob("*.py"):
            assert imported(path) <= allowed, path


def test_what_a_metric_may_import_is_part_of_every_rows_key() -> None:
    """But for the contract and the shared maths, whose changes EVALUATION_VERSION tells."""
    assert OF_PLUGINS["metrics"] - {"contract", "ops"} <= set(MEASURING)


def test_the_core_names_no_variant() -> None:
    """No string in the core is a variant's or a metric's name."""
    plugins = {path.stem for kind in OF_PLUGINS for path in (ROOT / kind).glob("*.py")}
    for path in (ROOT / "sae_bench_htopk").glob("*.py"):
        constants = {node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)}
        named = {value for value in constants if isinstance(value, str) and value in plugins}
        assert not named, (path.name, named)
