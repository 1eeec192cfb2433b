"""What every metric says of one fixed SAE on one fixed text, and a few columns of every other way to read one: if a number moves, EVALUATION_VERSION must rise.

python -m tests.test_golden_rows writes golden_rows.json anew. Weights and text come from no library whose numbers might change.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from sae_bench_htopk import keys, plugins
from sae_bench_htopk.calibrate import calibrate
from sae_bench_htopk.contract import Reading, Statistics, Variant
from sae_bench_htopk.controls import CONTROLS
from sae_bench_htopk.evaluate import Job, empty, measure
from sae_bench_htopk.lm import Hook, SubjectModel
from sae_bench_htopk.pretrain import train_tokenizer
from sae_bench_htopk.rows import summary
from sae_bench_htopk.stream import Units
from sae_bench_htopk.text import Document
from sae_bench_htopk.windows import Cut, Window, collate, lengths

FILE = Path(__file__).with_name("golden_rows.json")
D, LATENTS, K, CONTEXT, BOS, VOCABULARY = 24, 64, 5, 32, 2, 132
READINGS = {"row": Reading(K), "threshold": Reading(4, 40, "threshold")}
FURTHER = {  # where a metric costs nothing: how codes are chosen, thresholds calibrated and latents ranked, by (variant, its settings)
    "topk": ({"k": K}, {
        "row after": Reading(K, 24, cut="after"), "row narrow after": Reading(3, 24, cut="after"), "threshold after": Reading(4, 24, "threshold", "after"),
        "by frequency": Reading(K, 24, rank="frequency"), "by spectrum": Reading(K, 24, rank="spectrum"),
        "by random": Reading(4, 24, "threshold", rank="random"),
    }),
    "batchtopk": ({"k": K}, {"ema": Reading(K, select="ema"), "threshold": Reading(3, select="threshold")}),
    "matryoshka": ({"k": K, "groups": (0.25, 0.5, 1.0)}, {"row": Reading(K, 24), "threshold": Reading(4, 24, "threshold")}),
    "relu": ({"l1": 0.1}, {"budget that was measured": Reading(4, 24)}),
    "pca": ({"k": K}, {"components": Reading(K)}),
}  # fmt: skip
CHEAP = ("explained_variance", "sparsity", "sparsity_curve")
SHOWN = ("explained_variance.ev", "explained_variance.cosine", "sparsity.l0", "sparsity.dead", "sparsity_curve.ev_mean")
LOOSE = {"sparse_probing": 3e-3}  # fits by an iteration that stops early: weights that differ by 1e-7 moved one by 4e-4, and nothing else by 3e-7
WORDS = ("alder", "birch", "cedar", "elder", "hazel", "larch", "maple", "rowan", "thuja")


def text(index: int) -> str:
    """Python whose names are another document's no more than a third of the time."""
    a, b, c = (WORDS[(index + step) % len(WORDS)] * (1 + step) for step in range(3))
    lines = [f"import {a}", f"class {b.title()}:", f'    """Of {c} and {a}."""', f"    def {a}(self, {c}):", f"        # {b} then {a}"]
    lines += [f'        return {c}({a}, "{b} {index}", {b}.{c}({index}))', f"{b}_{index} = {a}({c}) + {index}", f"if {b} and not {c}:", f"    {a} = '{c}'"]
    return "\n".join(line for step in range(3) for line in (*lines, f"{c}_{step} = {b}({step}, {a})"))


def encode(source: str) -> tuple[np.ndarray, np.ndarray]:
    """Two characters are a token, and two neighbours have one id: what the model expects that says each token again."""
    starts = np.arange(0, len(source), 2)
    ids = [3 + sum(map(ord, source[start // 4 * 4 :][:4])) % (VOCABULARY - 3) for start in starts]
    return np.array(ids, dtype=np.int64), np.stack((starts, np.minimum(starts + 2, len(source))), axis=1)


def fill(module: torch.nn.Module, seed: int, size: float) -> None:
    """Normal numbers from numpy's old generator, whose stream is frozen for good."""
    random = np.random.RandomState(seed)
    for _, parameter in sorted(module.named_parameters()):
        parameter.data.copy_(torch.from_numpy(size * random.standard_normal(tuple(parameter.shape))))


@cache
def subject() -> SubjectModel:
    """Three layers of Gemma-2, the hook in the middle."""
    config = Gemma2Config(
        vocab_size=VOCABULARY, hidden_size=D, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, head_dim=12,
        sliding_window=8, max_position_embeddings=CONTEXT, pad_token_id=0, eos_token_id=1, bos_token_id=BOS, attn_implementation="eager",
    )  # fmt: skip
    model = Gemma2ForCausalLM(config)
    fill(model, 1, 0.3)
    for name, parameter in model.named_parameters():
        if "post_" in name:
            parameter.data.sub_(0.8)  # layers add little to the embedding, so that the likeliest next token is the same again
    return SubjectModel(model, train_tokenizer([Document("", text(0), "")], 259), Hook(1, "resid_post"))


def rows(noise: float = 0.0) -> dict[str, dict[str, Any]]:
    """Every metric at both readings, and cheap ones at others; `noise` moves the model's weights by so much of themselves, to see what rounding may do."""
    texts = [text(index) for index in range(len(WORDS))]
    windows: list[Window] = list(Cut((Document(str(index), one, "") for index, one in enumerate(texts)), encode, CONTEXT))
    model, batch = subject(), collate(windows, CONTEXT, BOS)
    random = torch.Generator().manual_seed(0)
    for parameter in model.model.parameters():
        parameter.data.mul_(1 + noise * torch.randn(parameter.shape, generator=random))
    raw = model.activations(batch.tokens)[batch.real].double()
    scale = float(raw.square().sum(1).mean().rsqrt())
    centred = (raw - raw.mean(0)) * scale
    statistics = Statistics((raw.mean(0) * scale).float(), (centred.T @ centred / len(raw)).float())
    units = Units(scale, float(raw.norm(dim=1).float().quantile(0.97)), statistics)
    metrics = {name: plugins.metric(name) for name in plugins.names("metrics")}
    x, cheap = raw.float() * scale, {name: metrics[name] for name in CHEAP}
    jobs = [Job(sae("topk", {"k": K}, list(READINGS.values()), units, x), {reading: metrics for reading in READINGS.values()})]
    for variant, (config, further) in FURTHER.items():
        jobs.append(Job(sae(variant, config, list(further.values()), units, x), {reading: cheap for reading in further.values()}))
    held = empty(model, jobs, len(texts), lengths(windows, len(texts)), units)
    measure(model, batch, units, texts, jobs, held)
    found = {name: summary(held[0, reading], metrics, len(texts)) for name, reading in READINGS.items()}
    for index, (variant, (_, further)) in enumerate(FURTHER.items(), 1):
        for name, reading in further.items():
            found[f"{variant}: {name}"] = shown(summary(held[index, reading], cheap, len(texts)), jobs[index].variant.calibration.budget)
    return found


def shown(row: dict[str, Any], budget: int) -> dict[str, Any]:
    """A few columns, and the budget."""
    values = {column: row["values"][column] for column in SHOWN if column not in row["missing"]}
    return {"values": values | {"budget": budget}, "missing": {}}


def sae(name: str, config: dict[str, Any], readings: list[Reading], units: Units, x: torch.Tensor) -> Variant:
    """Its encoder is the decoder's, a little off; calibrated on the text itself."""
    kind = CONTROLS[name] if name in CONTROLS else plugins.variant(name)
    settings = kind.Config(**config)
    variant = kind(settings, D, LATENTS, 0)
    if name == "pca":
        variant.start(units.statistics)
        calibrate(variant, readings, x, kind.native(settings), kind.budget(settings))
        return variant
    fill(variant, 2, 0.2)
    with torch.no_grad():
        variant.ema_threshold.fill_(0.3)
        variant.W_enc.mul_(0.3).add_(variant.W_dec)
        variant.b_enc.mul_(0.1)
        variant.b_dec.copy_(units.statistics.mean)
    calibrate(variant, readings, x, kind.native(settings), kind.budget(settings))
    return variant


def test_no_number_has_moved() -> None:
    """To 1e-6. If one was meant to move, raise EVALUATION_VERSION in keys.py, so that records are made again, and write the file anew."""
    golden, found = json.loads(FILE.read_text(encoding="utf-8")), rows()
    assert golden["EVALUATION_VERSION"] == keys.EVALUATION_VERSION, "write golden_rows.json anew: python -m tests.test_golden_rows"
    for name, row in found.items():
        wanted = golden[name]
        assert not row["missing"] and set(row["values"]) == set(wanted), "columns have come or gone; write golden_rows.json anew"
        moved = [
            f"{column} is {value}, was {wanted[column]}"
            for column, value in row["values"].items()
            if value != pytest.approx(wanted[column], rel=(limit := LOOSE.get(column.partition(".")[0], 1e-6)), abs=limit)
        ]
        assert not moved, f"if that is meant, raise EVALUATION_VERSION and write golden_rows.json anew: {'; '.join(moved)}"


if __name__ == "__main__":
    made: dict[str, Any] = {name: {column: float(f"{value:.9g}") for column, value in row["values"].items()} for name, row in rows().items()}
    FILE.write_text(json.dumps({"EVALUATION_VERSION": keys.EVALUATION_VERSION, **made}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
