"""Who may import whom: the one-way law of the core, and what a plug-in may know."""

import ast
from pathlib import Path

import pytest

from sae_bench_htopk import plugins
from sae_bench_htopk.imports import FOUNDATIONS, standing
from sae_bench_htopk.keys import EVERY_NUMBER, LATENTS, core_file

ROOT = Path(__file__).parents[1]
ORDER = [
    {"errors", "ops", "frontier", "asked", "shortage", "storage", "finite", "remembered"},
    {"choose", "prefix_loss", "labels", "chance", "stopwatch"},
    {"contract"},
    {
        "plugins", "text", "split", "windows", "corpus", "checkpoint", "head", "lm", "stream", "trainer", "calibrate", "controls", "evaluate", "weights",
        "json_text", "records", "strict_yaml", "typed", "suite_fields", "suite_checks", "suite", "keys", "python_labels", "known_labels", "showing",
        "saes", "suite_types", "declared", "family",
        "faults", "reader", "tokenizing", "labelled_source", "document_classes", "tagged_words", "labelled_text",
        "questions", "sample", "transcript",
        "probing", "scoring", "logistic", "floors", "pooled", "top_contexts", "contexts", "census", "purity", "intruders", "likeness", "latent_groups",
        "absorbing", "similarity", "progress", "bits", "card", "pretrain",
        "snapshot", "provenance", "lock", "imports", "power_law", "variance", "stability", "strata", "hsic", "draws", "representations", "resampling", "rows",
    },
    {
        "board", "markdown", "tables", "sentences", "figures", "falloff", "sizes", "nested", "curve", "page", "leaderboard", "definitions", "alike",
        "leads", "pairs", "origins", "label_tables", "group_tables", "interpretable", "latent_pages", "earlier", "shorter",
        "significance", "identical", "declarations", "contrasts",
        "column_words", "palette", "picture", "axes", "lines", "draw_lines", "draw_curve", "draw_falloff", "svg", "captions", "chapters",
        "seconds", "areas", "costs", "dominance", "gaps", "answer_best", "answer_budgets", "answer_costs", "answer_interpretable", "answer_nested",
        "evidence", "cut_down", "claims", "judging", "claims_page",
        "claim_ahead", "claim_as_good", "claim_cost", "claim_fades", "claim_falls_off", "claim_fewer_dead", "claim_frontier", "claim_keeps", "claim_ordering",
        "sharing", "disputes", "index", "drawing", "tidy_rows",
    },
    {
        "rates", "memory", "seeds", "plan", "estimate", "outlook", "plan_text", "recording", "shelf", "stored", "comparing", "resume", "training_pass",
        "measuring_pass", "run", "merging",
    },
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
        "top_contexts",
        "probing",
        "scoring",
        "absorbing",
        "floors",
        "pooled",
        "resampling",
        "strata",
        "hsic",
        "draws",
        "representations",
        "similarity",
        "variance",
        "contexts",
        "census",
        "likeness",
        "latent_groups",
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


def test_a_metrics_key_sees_what_its_numbers_stand_on() -> None:
    """Its own file and what that imports, also through other modules; what comes before every metric; not what all of the core stands on."""
    wanted = {
        "downstream_loss": set(),
        "explained_variance": {"variance"},
        "representational_similarity": {"draws", "hsic", "representations", "sample", "similarity", "strata"},
        "latent_contexts": {"labels", "logistic", "probing", "python_labels", "questions", "sample", "scoring", "top_contexts", "transcript"},
        "sparsity": set(),
        "sparsity_curve": {"variance"},
    }
    assert {name: set(standing([plugins.source_file("metrics", name)])) for name in wanted} == {
        name: {f"metrics.{name}", *modules} for name, modules in wanted.items()
    }
    assert set(standing(map(core_file, EVERY_NUMBER))) == {"asked", "calibrate", "evaluate", "head", "labels", "prefix_loss", "resampling", "rows"}
    assert OF_PLUGINS["metrics"] & FOUNDATIONS == {"contract", "ops"}


def test_no_module_that_measures_latents_is_left_out_of_their_key() -> None:
    """What the two that make a record's power laws and pairs import, but for what only names things."""
    made = {module for name in ("power_law", "seeds", "stability") for module in (name, *imported(core_file(name)))}
    assert made - FOUNDATIONS - {"keys"} == set(LATENTS)


def test_a_third_partys_metric_may_spread_over_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it names them: all are seen, with the modules of the core behind them; names inside modules and other packages are not files."""
    monkeypatch.setattr(plugins.package("metrics"), "__path__", [*plugins.package("metrics").__path__, str(tmp_path)])
    lines = ["import numpy.linalg", "import sae_bench_htopk.labels as l", "from sae_bench_htopk import strata, nosuch", "from ._near import x"]
    lines += ["from sae_bench_htopk.metrics import _far", "from sae_bench_htopk.contract import Metric", "from ..variance import total_of"]
    (tmp_path / "mine.py").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "_near.py").write_text("def f():\n    from sae_bench_htopk.metrics.mine import y\n", encoding="utf-8")
    (tmp_path / "_far.py").write_text("from sae_bench_htopk.hsic import cka", encoding="utf-8")
    found = standing([tmp_path / "mine.py"])
    assert set(found) == {"metrics.mine", "metrics._near", "metrics._far", "labels", "strata", "sample", "variance", "hsic"}
    assert found["metrics._far"] == tmp_path / "_far.py"


def test_a_package_beside_a_metric_is_seen_whole_and_what_only_a_type_checker_sees_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever module of the package is named."""
    monkeypatch.setattr(plugins.package("metrics"), "__path__", [*plugins.package("metrics").__path__, str(tmp_path)])
    (tmp_path / "_parts").mkdir()
    for name in ("__init__", "one", "two"):
        (tmp_path / "_parts" / f"{name}.py").write_text('"""Part."""\n', encoding="utf-8")
    lines = ["from typing import TYPE_CHECKING", "from sae_bench_htopk.metrics._parts.one import f"]
    lines += ["if TYPE_CHECKING:", "    from sae_bench_htopk.trainer import Recipe", "else:", "    from sae_bench_htopk.hsic import cka"]
    (tmp_path / "mine.py").write_text("\n".join(lines), encoding="utf-8")
    assert set(standing([tmp_path / "mine.py"])) == {"metrics.mine", "_parts.__init__", "_parts.one", "_parts.two", "hsic"}


def test_the_core_names_no_variant() -> None:
    """No string in the core is a variant's or a metric's name."""
    plugins = {path.stem for kind in OF_PLUGINS for path in (ROOT / kind).glob("*.py")}
    for path in (ROOT / "sae_bench_htopk").glob("*.py"):
        constants = {node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)}
        named = {value for value in constants if isinstance(value, str) and value in plugins}
        assert not named, (path.name, named)
