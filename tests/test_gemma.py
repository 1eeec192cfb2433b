"""The flagship without a hub: suites/gemma2_2b.yaml on a random Gemma-2 of 26 thin layers and on local parquet text, by the command line."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pandas
import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors import safe_open
from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM

from sae_bench_htopk import evaluate, records, suite
from sae_bench_htopk.__main__ import main
from sae_bench_htopk.contract import Text
from sae_bench_htopk.windows import Windows
from tests.test_run import ROOT, material

__all__ = ["material"]  # the fixture

FLAGSHIP = ROOT / "suites" / "gemma2_2b.yaml"
D, VOCABULARY, CONTEXT, BOS = 32, 512, 64, 2
LATENTS, SHARE = 1024, 64  # a 64th of the flagship's dictionary, and of each part of it that is read
CAPS = {"attn_logit_softcapping": 0.5, "final_logit_softcapping": 3.0}  # so low that they show in a random model
HUB = "sparse_probing"  # the metric that wants data sets of the hub
CONTROLS = {"pca", "untrained", "random_decoder"}


class Done(NamedTuple):
    """A finished run: its folder, its rows, the stream's facts of each record, and what was measured."""

    folder: Path
    rows: list[dict[str, Any]]
    streams: list[dict[str, Any]]
    measured: list[tuple[Windows, Text]]  # windows, and what metrics were shown of them


def save_model(folder: Path) -> None:
    """Gemma-2 2B as published, tied embeddings among it, but for its widths, its windows and its caps; BOS has a massive embedding."""
    sizes = {"hidden_size": D, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "query_pre_attn_scalar": 16}
    config = Gemma2Config(vocab_size=VOCABULARY, num_hidden_layers=26, sliding_window=16, initializer_range=0.2, **sizes, **CAPS)
    torch.manual_seed(0)
    made = Gemma2ForCausalLM(config)
    with torch.no_grad():
        made.model.embed_tokens.weight[BOS] *= 100
    made.save_pretrained(folder)


def save_suite(material: Path, folder: Path) -> Path:
    """The flagship with another model, text and size, a rate for 64 steps, not 122,070, without checkpoints and what wants the hub; all else as it stands."""
    content: dict[str, Any] = yaml.safe_load(FLAGSHIP.read_text(encoding="utf-8"))
    texts = [json.loads(line)["code"] for line in (material / "text.jsonl").read_text(encoding="utf-8").splitlines()]
    pandas.DataFrame({"text": texts}).to_parquet(folder / "text.parquet")
    save_model(folder / "model")
    AutoTokenizer.from_pretrained(material / "model").save_pretrained(folder / "model")
    content["model"] |= {"path": str(folder / "model"), "shape": {"d": D, "layers": 26, "vocab": VOCABULARY}, "context": CONTEXT}
    parts = {"held_out": {"tokens": 500, "documents": 8}, "calibration": {"tokens": 1000}}
    content["text"] = {"source": "files", "paths": [str(folder / "text.parquet")], "format": "parquet", "column": content["text"]["column"], **parts}
    content["train"] |= {"tokens": 8192, "batch": 128, "latents": LATENTS, "block": 2048, "dead_after": 4096, "rate": 0.02}
    del content["labelled"], content["checkpoints"]  # each of which would be measured as often as the whole; tests/test_checkpoints.py has them
    content["metrics"] = [use for use in content["metrics"] if not isinstance(use, dict) or use["metric"] != HUB]
    for entry in content["saes"]:
        if "read" in entry:
            entry["read"]["latents"] = [size if size == "all" else size // SHARE for size in entry["read"]["latents"]]
    path = folder / "gemma.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def done(few_draws: None, material: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A finished run of it."""
    folder = tmp_path_factory.mktemp("gemma")
    measured: list[tuple[Windows, Text]] = []
    text_batch = evaluate.text_batch

    def watched(*given: Any) -> Any:
        text = text_batch(*given)
        measured.append((given[1], text))
        return text

    path = save_suite(material, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "text_batch", watched)
        assert main(["run", str(path), "--output", str(folder), "--device", "cpu"]) == 0
    found = records.read_all(folder / "leaderboard" / "gemma")
    return Done(folder, [row for record in found for row in record["rows"]], [record["stream"] for record in found], measured)


def place(row: dict[str, Any]) -> tuple[object, ...]:
    """What tells a row from the others: the SAE, and how it is read."""
    reading = row["reading"]
    return row["variant"], row["config"]["k"], reading["k"], reading["latents"], reading["select"], reading["cut"], reading["rank"]


def test_every_sae_is_there_at_every_reading_of_the_flagship(done: Done) -> None:
    """Those that its own file names, each part of the dictionary a 64th as large; how many readings that is was counted by hand."""
    flagship = suite.load(str(FLAGSHIP))
    assert flagship.train.latents == SHARE * LATENTS
    wanted = set()
    for sae in flagship.saes:
        for reading in sae.readings():
            latents = None if reading.latents is None else reading.latents // SHARE
            wanted.add((sae.variant, sae.config.k, reading.k, latents, reading.select, reading.cut, reading.rank))
    found = [place(row) for row in done.rows if row["variant"] not in CONTROLS]
    assert set(found) == wanted and len(found) == len(wanted)
    # 6 k by row and by threshold, and a running threshold where training kept one; in two parts of the dictionary by both cuts beside it
    assert len(wanted) == (1 + 3) * 12 + 3 * 13 + (12 + 2 * 24 + 1) + (12 + 2 * 24)
    assert {row["variant"] for row in done.rows} >= CONTROLS


def test_every_number_that_was_asked_for_is_one(done: Done) -> None:
    """Nothing else is missing but shares of what an ablation costs, where it costs a random model nothing; the loss with each SAE in place is finite."""
    scores = {"downstream_loss.score_zero", "downstream_loss.score_mean"}
    for row in done.rows:
        other = {column for column, reason in row["missing"].items() if reason != "not asked for at this reading"}
        assert other <= scores and all("ablation costs nothing" in row["missing"][column] for column in other), place(row)
        assert all(value is None or math.isfinite(value) for value in row["values"].values()), place(row)
        assert row["native"] == (row["values"].get("downstream_loss.delta") is not None), place(row)
    assert not any(column.startswith(HUB) for row in done.rows for column in row["values"])


def test_training_explains_more_than_none(done: Done) -> None:
    """At each k that is read, every trained SAE explains more of the variance than the untrained control does."""
    whole = [row for row in done.rows if row["reading"]["latents"] is None and row["reading"]["select"] == "row"]
    untrained = {row["reading"]["k"]: row["values"]["explained_variance.ev"] for row in whole if row["variant"] == "untrained"}
    trained = [row for row in whole if row["variant"] not in CONTROLS]
    assert set(untrained) == {14, 16, 30, 32, 64, 128} and len(trained) == 6 * 9
    for row in trained:
        assert row["values"]["explained_variance.ev"] > max(0.0, untrained[row["reading"]["k"]]), place(row)


def predicted(done: Done, **changes: object) -> tuple[float, torch.Tensor]:
    """What transformers' own model makes of the windows that were measured: the mean loss of real tokens after real ones, and all hidden states of layer 12."""
    path = done.folder / "model"
    options = {"config": Gemma2Config.from_pretrained(path, **changes), "dtype": torch.bfloat16, "attn_implementation": "eager"}
    model = Gemma2ForCausalLM.from_pretrained(path, **options)
    losses, states = [], []
    for windows, _ in done.measured:
        with torch.no_grad():
            out = model(windows.tokens, output_hidden_states=True)
        loss = F.cross_entropy(out.logits[:, :-1].flatten(0, 1).float(), windows.tokens[:, 1:].flatten(), reduction="none")
        losses.append(loss[(windows.real[:, :-1] & windows.real[:, 1:]).flatten()])
        states.append(out.hidden_states[13].float())
    return float(torch.cat(losses).mean()), torch.cat(states)


def test_bos_opens_every_window_and_is_never_measured(done: Done) -> None:
    """Metrics are shown every real token and no other; no training row is massive, as BOS alone is in this model."""
    for windows, text in done.measured:
        assert bool((windows.tokens[:, 0] == BOS).all()) and not bool((text.token == BOS).any())
        assert torch.equal(text.token, windows.tokens[windows.real]) and not bool(windows.real[:, 0].any())
    real = torch.cat([windows.real for windows, _ in done.measured])
    norms = predicted(done)[1].norm(dim=2)
    for stream in [stream for stream in done.streams if stream["rows"]]:  # the others take no step
        assert stream["massive"] == 0 and stream["rows"] >= 8192
        assert bool((norms[:, 0] > stream["massive_limit"]).all()) and bool((norms[real] < stream["massive_limit"]).all())
    assert all(row["values"]["explained_variance.massive_share"] == 0 for row in done.rows) and int(real.sum()) >= 500


def test_soft_capping_is_on(done: Done) -> None:
    """Activations and clean loss are those of transformers' eager attention with both caps; without either they are others. The head is the embedding."""
    (recorded,) = {row["values"]["downstream_loss.clean"] for row in done.rows if row["native"]}
    real = torch.cat([windows.real for windows, _ in done.measured])
    shown = torch.cat([text.x for _, text in done.measured]) / done.streams[0]["scale"]
    loss, states = predicted(done)
    assert recorded == pytest.approx(loss, abs=0.01)  # their logits are rounded to bfloat16, ours are not
    torch.testing.assert_close(shown, states[real], rtol=1e-4, atol=1e-4)
    _, other = predicted(done, attn_logit_softcapping=None)
    assert float((other[real] - shown).norm() / shown.norm()) > 0.1
    assert abs(predicted(done, final_logit_softcapping=None)[0] - recorded) > 1
    with safe_open(done.folder / "model" / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118


def test_the_page_is_there_and_names_every_variant(done: Done) -> None:
    """With the flagship's own title."""
    page = (done.folder / "leaderboard" / "gemma.md").read_text(encoding="utf-8")
    assert all(row["variant"] in page for row in done.rows) and "Gemma-2 2B layer 12" in page
