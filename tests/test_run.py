"""The whole way from a suite to a page, on a random four-layer Gemma-2 and this project's own source as local text."""

import ast
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import Gemma2Config, Gemma2ForCausalLM

from sae_bench_htopk import measuring_pass, memory, plugins, records, trainer
from sae_bench_htopk.__main__ import main
from sae_bench_htopk.contract import Reading
from sae_bench_htopk.lm import SubjectModel
from sae_bench_htopk.pretrain import train_tokenizer
from sae_bench_htopk.text import Document

ROOT = Path(__file__).parents[1]
COSTLY = ("downstream_loss", "representational_similarity", "sparse_probing", "latent_purity", "absorption")
VARIANTS = ("topk", "batchtopk", "matryoshka", "pruned_vanilla", "hierarchical_topk")


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model in Hugging Face format, and this project's functions and classes as one jsonl file."""
    folder = tmp_path_factory.mktemp("material")
    texts = []
    for path in sorted([*ROOT.glob("sae_bench_htopk/*.py"), *ROOT.glob("tests/*.py"), *ROOT.glob("metrics/*.py")]):
        source = path.read_text(encoding="utf-8")
        nodes = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        texts += [text for node in nodes if len(text := ast.get_source_segment(source, node) or "") > 300]
    (folder / "text.jsonl").write_text("".join(json.dumps({"code": text}) + "\n" for text in texts), encoding="utf-8")
    tokenizer = train_tokenizer([Document(str(index), text, "") for index, text in enumerate(texts)], 512)
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        sliding_window=16, max_position_embeddings=64, pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


def suite(material: Path, folder: Path, **changes: object) -> Path:
    """Writes a small suite with every variant; `changes` replace top-level keys."""
    content = {
        "schema": 1,
        "title": "A test",
        "model": {
            "path": str(material / "model"), "context": 64,
            "hook": {"layer": 2, "site": "resid_post"}, "shape": {"d": 32, "layers": 4, "vocab": 512},
        },
        "text": {
            "source": "files", "paths": [str(material / "text.jsonl")], "format": "json", "column": "code",
            "held_out": {"tokens": 2000}, "calibration": {"tokens": 1000},
        },
        "train": {"tokens": 8192, "batch": 256, "latents": 64, "dead_after": 1024, "rate": 0.003, "block": 2048},
        "seeds": [0],
        "saes": [
            *({"variant": name, "k": 8, **({"groups": [0.25, 0.5, 1.0]} if name == "matryoshka" else {})} for name in VARIANTS),
            {"variant": "relu", "l1": 0.1}, {"variant": "pruned_vanilla", "base": "relu", "l1": 0.1},
        ],
        "read": {"k": [4, 8], "latents": ["all", 32]},
        "metrics": [
            "explained_variance", "sparsity", {"metric": "sparsity_curve", "only": {"k": [8], "select": ["native"], "latents": ["all"]}},
            *({"metric": name, "only": {"k": [8], "select": ["native"], "latents": ["all"]}} for name in COSTLY),
        ],
        "controls": ["pca", "untrained", "random_decoder"],
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(content | changes), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(few_draws: None, material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the small suite."""
    folder = tmp_path_factory.mktemp("finished")
    assert main(["run", str(suite(material, folder)), "--output", str(folder), "--device", "cpu"]) == 0
    return folder


def copy(finished: Path, folder: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(finished, folder / "copy")
    return folder / "copy"


def refuse_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a training step is a failure."""

    def take(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(trainer.Learner, "take", take)


def refuse(*_: object) -> None:
    """Stands in for what must not happen."""
    raise AssertionError("loaded the model")


def values(folder: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Every row's numbers, by (file, variant and reading)."""
    return {
        (record["train_key"], row["variant"] + json.dumps(row["reading"], sort_keys=True)): row["values"]
        for record in records.read_all(folder / "leaderboard" / "small")
        for row in record["rows"]
    }


def agree(found: dict[tuple[str, str], dict[str, float]], wanted: dict[tuple[str, str], dict[str, float]]) -> None:
    """Asserts that every row wanted was found with the same numbers, but for rounding."""
    for key, row in wanted.items():
        for column, value in row.items():
            assert found[key][column] == (value if value is None else pytest.approx(value, rel=1e-5, abs=1e-6)), (key, column)


def test_a_run_measures_every_variant_and_control_at_every_reading(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows for all; what was asked for is there; a row reading's L0 never exceeds k; training explains more than no training."""
    found = records.read_all(finished / "leaderboard" / "small")
    rows = [row for record in found for row in record["rows"]]
    assert {row["variant"] for row in rows} == {*VARIANTS, "relu", "pca", "untrained", "random_decoder"}
    assert len(found) == 8  # pruned_vanilla reads topk's weights, and relu's
    assert {record["sae"]["variant"] for record in found for row in record["rows"] if row["variant"] == "pruned_vanilla"} == {"topk", "relu"}
    measured = [(row["budget_measured"], row["budget"] > 0) for row in rows if row["config"].get("l1") is not None]
    assert set(measured) == {(True, True)}
    for row in rows:
        assert row["values"]["explained_variance.ev"] is not None
        assert ("downstream_loss.delta" in row["values"]) != ("downstream_loss" in row["missing"])  # asked for, or one reason for all of the metric
        if row["reading"]["select"] == "row":
            assert row["values"]["sparsity.l0"] <= row["reading"]["k"]
    at_8 = {row["variant"]: row["values"]["explained_variance.ev"] for row in rows if row["reading"]["k"] == 8 and row["reading"]["latents"] is None}
    assert at_8["topk"] > at_8["random_decoder"] > at_8["untrained"]
    assert (finished / "leaderboard" / "small.md").is_file()


def test_one_encoding_gives_every_budget_and_the_page_draws_it(finished: Path) -> None:
    """The curve from the reading at 8 is, at 4, what the reading at 4 measured on its own, by each variant's selector."""
    rows = [row for record in records.read_all(finished / "leaderboard" / "small") for row in record["rows"] if row["native"] and not row["reading"]["latents"]]
    at = {(row["variant"], json.dumps(row["config"]), row["reading"]["k"]): row for row in rows}
    for variant, config, k in [key for key in at if key[2] == 8 and key[0] != "random_decoder"]:  # that one is read at 8 alone
        curve = at[variant, config, k]["details"]["sparsity_curve"]
        assert curve["k"] == list(range(1, 9)) and len(curve["low"]) == 8
        for other in (4, 8):
            alone = at[variant, config, other]["values"]
            assert curve["ev"][other - 1] == pytest.approx(alone["explained_variance.ev"], abs=2e-5), variant
            assert curve["l0"][other - 1] == pytest.approx(alone["sparsity.l0"], abs=1e-3), variant
    assert "](small/curve.svg)" in (finished / "leaderboard" / "small.md").read_text(encoding="utf-8")
    assert (finished / "leaderboard" / "small" / "curve.svg").is_file()


def test_a_running_threshold_is_a_row_and_one_that_was_never_kept_an_empty_one() -> None:
    """Read where training kept one; else no number, and the reason."""
    kind, reading = plugins.variant("batchtopk"), Reading(4, select="ema")
    variant = kind(kind.Config(k=4), 8, 32, 0)
    assert not measuring_pass.known(variant, reading) and measuring_pass.known(variant, Reading(4))
    variant.ema_threshold.fill_(0.1)
    assert measuring_pass.known(variant, reading)


def test_a_record_says_where_nested_dictionaries_end(finished: Path) -> None:
    """Of its own variant, also where another one reads the weights."""
    for sae in (record["sae"] for record in records.read_all(finished / "leaderboard" / "small")):
        assert sae["shells"] == [round(share * sae["latents"]) for share in sae["config"].get("groups", [1.0])]


def test_pruned_vanilla_reads_the_numbers_of_its_base(finished: Path) -> None:
    """The same weights at the same reading are the same numbers."""
    rows = values(finished)
    for base in ("topk", "relu"):
        shared = [(file, name.removeprefix(base)) for file, name in rows if name.startswith(base)]
        assert shared and all(rows[file, base + reading] == rows[file, "pruned_vanilla" + reading] for file, reading in shared)


def test_a_second_run_does_nothing(finished: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is loaded, no step is taken, no file changes."""
    folder = copy(finished, tmp_path)
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    refuse_training(monkeypatch)
    monkeypatch.setattr(SubjectModel, "load", refuse)
    assert main(["run", str(suite(material, folder)), "--output", str(folder), "--device", "cpu"]) == 0
    assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == before


def test_what_is_missing_is_only_evaluated(finished: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost record is remade from its weights with the same numbers; a new reading is added to the rows that are there."""
    folder = copy(finished, tmp_path)
    wanted = values(folder)
    next((folder / "leaderboard" / "small").glob("*.json")).unlink()
    refuse_training(monkeypatch)
    read = {"k": [2, 4, 8], "latents": ["all", 32]}
    assert main(["run", str(suite(material, folder, read=read)), "--output", str(folder), "--device", "cpu"]) == 0
    found = values(folder)
    assert len(found) > len(wanted)
    agree(found, wanted)


def test_a_record_of_an_earlier_schema_is_made_again(
    finished: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From its weights, with the same numbers; and `list` says of a variant whose code has changed since that it has."""
    folder = copy(finished, tmp_path)
    wanted = values(folder)
    record = next(one for one in records.read_all(folder / "leaderboard" / "small") if one["sae"]["variant"] == "batchtopk")
    path = folder / "leaderboard" / "small" / f"{record['train_key']}.json"
    path.write_text(json.dumps({**record, "schema": 1}))
    refuse_training(monkeypatch)
    assert main(["run", str(suite(material, folder)), "--output", str(folder), "--device", "cpu"]) == 0
    agree(values(folder), wanted)
    capsys.readouterr()
    assert main(["list", "--output", str(folder)]) == 0
    assert "changed since" not in capsys.readouterr().out
    remade = records.read(path)
    records.write(path.parent, {**remade, "provenance": {**remade["provenance"], "variant_code": "another"}})
    assert main(["list", "--output", str(folder)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "changed since" in line]
    assert len(lines) == 1 and lines[0].split()[0] == "batchtopk" and lines[0].endswith("[changed since its records in small]")


def test_an_interrupted_run_keeps_whole_seeds_and_ends_the_same(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the second seed keeps the first; going on gives the numbers of a run that was never interrupted."""
    changes = {"seeds": [0, 1], "saes": [{"variant": "topk", "k": 8}], "controls": ["untrained"], "metrics": ["explained_variance", "sparsity"]}
    arguments = ["run", str(suite(material, tmp_path, **changes)), "--device", "cpu", "--output"]
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    taken = {"steps": 0}
    take = trainer.Learner.take

    def interrupted(learner: trainer.Learner, x: torch.Tensor) -> object:
        taken["steps"] += 1
        if taken["steps"] == 40:
            raise KeyboardInterrupt
        return take(learner, x)

    monkeypatch.setattr(trainer.Learner, "take", interrupted)
    assert main([*arguments, str(tmp_path / "broken")]) == 130
    seeds = {key[0] for key in values(tmp_path / "broken")}
    assert 0 < len(seeds) < len({key[0] for key in values(tmp_path / "whole")})
    assert main([*arguments, str(tmp_path / "broken")]) == 0
    assert taken["steps"] == 40 + 32
    assert values(tmp_path / "broken") == values(tmp_path / "whole")


def test_weights_are_the_same_bits_whoever_makes_the_tokens(material: Path, tmp_path: Path) -> None:
    """This process or another; nor does the key of the weights tell."""
    found = []
    for workers in (0, 1):
        text = yaml.safe_load(suite(material, tmp_path).read_text(encoding="utf-8"))["text"] | {"workers": workers}
        path = suite(material, tmp_path, text=text, saes=[{"variant": "topk", "k": 8}], metrics=["explained_variance"], controls=["pca"])
        assert main(["run", str(path), "--output", str(tmp_path / str(workers)), "--device", "cpu"]) == 0
        found.append({path.name: load_file(path) for path in (tmp_path / str(workers) / "runs").rglob("*.safetensors")})
    plain, other = found
    assert plain.keys() == other.keys() and len(plain) == 2
    assert all(torch.equal(tensor, other[name][key]) for name, tensors in plain.items() for key, tensor in tensors.items())


def test_a_variant_of_ones_own_needs_no_line_of_the_core(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """variants/topk.py under another name in a folder of the user's runs with --variants, and has topk's numbers."""
    package = plugins.package("variants")
    monkeypatch.setattr(package, "__path__", [*package.__path__])  # so that later tests do not find it
    own = tmp_path / "own"
    own.mkdir()
    text = (ROOT / "variants" / "topk.py").read_text(encoding="utf-8").replace("class TopK", "class MineTopK")
    (own / "mine_topk.py").write_text(text, encoding="utf-8")
    saes = [{"variant": "mine_topk", "k": 8}, {"variant": "topk", "k": 8}]
    path = suite(material, tmp_path, saes=saes, controls=["untrained"], metrics=["explained_variance"])
    assert main(["run", str(path), "--output", str(tmp_path), "--device", "cpu", "--variants", str(own)]) == 0
    rows = {name: row for (_, name), row in values(tmp_path).items()}
    assert all(row == rows[name.removeprefix("mine_")] for name, row in rows.items()) and len(rows) > 4
    assert "mine_topk" in (tmp_path / "leaderboard" / "small.md").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["list", "--variants", str(own)]) == 0
    assert "mine_topk" in capsys.readouterr().out


def test_plan_knows_which_metrics_run_the_language_model() -> None:
    """The costly one among ours, by its source; the others are sums over what is there."""
    assert [name for name in plugins.names("metrics") if memory.splices(name)] == ["downstream_loss"]


def test_plan_says_what_and_why_and_writes_nothing(finished: Path, material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything to train in an empty folder, everything done after a run, only evaluation where a record is lost."""
    path = suite(material, tmp_path)
    assert main(["plan", str(path), "--output", str(tmp_path / "new"), "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert text.count(" train ") >= 7 and "GiB" in text and "MiB" in text and "8,192" in text
    assert not (tmp_path / "new").exists()
    folder = copy(finished, tmp_path)
    next((folder / "leaderboard" / "small").glob("*.json")).unlink()
    assert main(["plan", str(path), "--output", str(folder), "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert text.count(" done ") == 7 and text.count(" evaluate ") == 1 and "no record is" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text": {"source": "installed", "distributions": {"nosuch": "1"}, "held_out": {"tokens": 64}, "calibration": {"tokens": 64}}}, "nosuch"),
        ({"train": {"tokens": 10_000_000, "batch": 256, "latents": 64}}, "train.tokens: 10,000,000"),
        ({"model": {"path": "./nowhere", "hook": {"layer": 2, "site": "resid_post"}, "shape": {"d": 32, "layers": 4, "vocab": 512}}}, "./nowhere"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_nothing_is_written(
    changes: dict[str, object], said: str, finished: Path, material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line on stderr that names the value; an empty folder stays empty, and one with records keeps every byte."""
    path = suite(material, tmp_path / "suite", **changes)
    folder = copy(finished, tmp_path)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert main(["run", str(path), "--output", str(folder), "--device", "cpu"]) == 2
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    capsys.readouterr()
    assert main(["run", str(path), "--output", str(tmp_path / "new"), "--device", "cpu"]) == 2
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line]
    assert lines[-1].startswith("error: ") and said in lines[-1] and len(lines) == 1 and not shown.out
    assert not (tmp_path / "new").exists()


def test_an_empty_text_source_and_a_folder_without_weights_are_named(material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both are bad input, not a crash."""
    empty = tmp_path / "empty.txt"
    empty.write_text("", encoding="utf-8")
    text = {"source": "files", "paths": [str(empty)], "format": "text", "held_out": {"tokens": 64}, "calibration": {"tokens": 64}}
    assert main(["run", str(suite(material, tmp_path, text=text)), "--output", str(tmp_path / "new")]) == 2
    assert "documents" in capsys.readouterr().err
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(material / "model" / "config.json", bare)
    model = {"path": str(bare), "context": 64, "hook": {"layer": 2, "site": "resid_post"}, "shape": {"d": 32, "layers": 4, "vocab": 512}}
    assert main(["run", str(suite(material, tmp_path, model=model)), "--output", str(tmp_path / "new")]) == 2
    assert "weights" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_check_tells_a_changed_page(finished: Path, tmp_path: Path) -> None:
    """leaderboard --check passes on what a run wrote, and fails after one character changed."""
    folder = copy(finished, tmp_path)
    assert main(["leaderboard", "--output", str(folder)]) == 0
    assert main(["leaderboard", "--check", "--output", str(folder)]) == 0
    page = folder / "leaderboard" / "small.md"
    page.write_text(page.read_text(encoding="utf-8").replace("0.", "1.", 1), encoding="utf-8")
    assert main(["leaderboard", "--check", "--output", str(folder)]) == 1
