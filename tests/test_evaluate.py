"""The pass over held-out text, on a random three-layer Gemma-2 and text whose tokens are letters."""

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from sae_bench_htopk import plugins
from sae_bench_htopk.calibrate import calibrate
from sae_bench_htopk.contract import Batch, Column, Metric, Missing, Reading, Setting, Statistics, Variant
from sae_bench_htopk.evaluate import Job, Splice, empty, encode_all, measure, text_batch
from sae_bench_htopk.lm import Hook, SubjectModel
from sae_bench_htopk.pretrain import train_tokenizer
from sae_bench_htopk.rows import summary
from sae_bench_htopk.stream import Units
from sae_bench_htopk.text import Document
from sae_bench_htopk.windows import Cut, Window, collate, lengths
from tests.synthetic import settings

D, LATENTS, K, CONTEXT, BOS = 24, 64, 5, 16, 2
TEXTS = ["\n".join(f"def function_{index}_{line}(value):\n    return call_{line}(value, 'text') + {line}  # note" for line in range(6)) for index in range(9)]


@pytest.fixture(scope="module")
def model() -> SubjectModel:
    """Random weights, the hook in the middle."""
    tokenizer = train_tokenizer([Document("", text, "") for text in TEXTS], 259)
    torch.manual_seed(1)
    config = Gemma2Config(
        vocab_size=132, hidden_size=D, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, head_dim=12,
        sliding_window=8, max_position_embeddings=32, pad_token_id=0, eos_token_id=1, bos_token_id=BOS, attn_implementation="eager",
    )  # fmt: skip
    return SubjectModel(Gemma2ForCausalLM(config), tokenizer, Hook(1, "resid_post"))


def windows() -> list[Window]:
    """All windows of the texts."""

    def encode(text: str) -> tuple[np.ndarray, np.ndarray]:
        places = np.arange(len(text))
        return np.array([3 + ord(letter) % 128 for letter in text], dtype=np.int64), np.stack((places, places + 1), axis=1)

    return list(Cut((Document(str(n), text, "") for n, text in enumerate(TEXTS)), encode, CONTEXT))


def units(model: SubjectModel) -> Units:
    """Measured on the same windows; the limit makes a few rows massive."""
    batch = collate(windows(), CONTEXT, BOS)
    raw = model.activations(batch.tokens)[batch.real]
    scale = float(raw.square().sum(1).mean().rsqrt())
    return Units(scale, float(raw.norm(dim=1).quantile(0.97)), Statistics(raw.mean(0) * scale, torch.from_numpy(np.cov(raw.T.numpy() * scale)).float()))


READINGS = [
    Reading(k, latents, select, cut) for k in (2, 3, K) for select in ("row", "threshold") for latents, cut in ((None, "before"), (32, "before"), (32, "after"))
]


def sae(name: str, model: SubjectModel) -> Variant:
    """An SAE of random weights, calibrated for all readings."""
    kind = plugins.variant(name)
    variant = kind(settings(kind, K), D, LATENTS, 3)
    known = units(model)
    variant.start(known.statistics)
    batch = collate(windows(), CONTEXT, BOS)
    calibrate(variant, READINGS, model.activations(batch.tokens)[batch.real] * known.scale, kind.native(variant.config), K)
    return variant


def splice(model: SubjectModel) -> tuple[Splice, torch.Tensor]:
    """The rest of the model on all windows, and x."""
    text = text_batch(model, collate(windows(), CONTEXT, BOS), units(model), TEXTS)
    assert isinstance(text.model, Splice)
    return text.model, text.x


def test_splicing_x_costs_nothing_and_massive_rows_are_left_alone(model: SubjectModel) -> None:
    """Also when massive rows of the reconstruction are absurd, since they keep the clean activation."""
    rest, x = splice(model)
    assert 0 < int((~rest.kept).sum()) < 200
    absurd = torch.where(rest.kept[:, None], x, 1e6)
    for x_hat in (x, absurd):
        torch.testing.assert_close(rest.spliced(x_hat).loss, rest.clean, atol=1e-5, rtol=0)


def test_splicing_mean_and_zero_are_the_ablations(model: SubjectModel) -> None:
    """The same positions in every term, and losses only where the next token is real."""
    rest, x = splice(model)
    mean = units(model).statistics.mean
    torch.testing.assert_close(rest.spliced(mean.expand(len(x), -1)), rest.mean_ablated)
    torch.testing.assert_close(rest.spliced(torch.zeros_like(x)), rest.zero_ablated)
    for measured in (rest.clean, *rest.mean_ablated[:2], *rest.zero_ablated[:2]):
        assert bool(((measured != 0) == rest.predicts).all())
    assert int(rest.predicts.sum()) < int(rest.kept.sum())


@pytest.mark.parametrize("name", plugins.names("variants"))
def test_readings_cut_from_a_wider_one_are_the_readings(name: str, model: SubjectModel) -> None:
    """encode_all gives for every reading what encode gives."""
    variant, (_, x) = sae(name, model), splice(model)
    found = dict(encode_all(variant, x, READINGS))
    assert set(found) == set(READINGS)
    for reading, codes in found.items():
        wanted = variant.encode(x, reading)
        assert torch.equal(codes.offsets, wanted.offsets) and torch.equal(codes.latents, wanted.latents) and torch.equal(codes.values, wanted.values)


def test_cuts_after_the_choice_share_one_encoding(model: SubjectModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the whole dictionary are chosen once, at the largest k, for themselves and for every size that is cut out of them later."""
    variant, (_, x) = sae("topk", model), splice(model)
    encoded: list[Reading] = []
    encode = variant.encode
    monkeypatch.setattr(variant, "encode", lambda x, reading: encoded.append(reading) or encode(x, reading))
    late = [Reading(k, latents, cut="after") for k in (2, K) for latents in (16, 32)]
    assert len(dict(encode_all(variant, x, [Reading(2), Reading(K), *late]))) == 6
    assert encoded == [Reading(K)]


def measured(model: SubjectModel, size: int) -> dict[str, object]:
    """All metrics of one SAE at one reading, with so many windows at a time."""
    metrics = {name: plugins.metric(name) for name in plugins.names("metrics")}
    jobs = [Job(sae("topk", model), {Reading(K): metrics})]
    everything, known = windows(), units(model)
    held = empty(model, jobs, len(TEXTS), lengths(everything, len(TEXTS)), known)
    for start in range(0, len(everything), size):
        measure(model, collate(everything[start : start + size], CONTEXT, BOS), known, TEXTS, jobs, held)
    return summary(held[0, Reading(K)], metrics, len(TEXTS))


def test_no_metric_depends_on_how_text_is_cut_into_batches(model: SubjectModel) -> None:
    """Values, intervals and reasons of every metric are the same for batches of 7 windows and of all."""
    one, other = measured(model, 7), measured(model, 10_000)
    assert one["missing"] == other["missing"]
    for part in ("values", "intervals"):
        assert set(one[part]) == set(other[part])  # type: ignore[call-overload]
        for column, value in one[part].items():  # type: ignore[attr-defined]
            assert value == (None if value is None else pytest.approx(other[part][column], rel=1e-4, abs=1e-5)), column  # type: ignore[index]


def test_a_metric_is_told_of_the_reading_and_the_text(model: SubjectModel) -> None:
    """Budget, usable latents, rows of each document, the decoder with its bias and norms, and the training text's statistics."""
    job, everything, known = Job(sae("topk", model), {Reading(K, 32): {"sparsity": plugins.metric("sparsity")}}), windows(), units(model)
    setting = empty(model, [job], len(TEXTS), lengths(everything, len(TEXTS)), known)[0, Reading(K, 32)]["sparsity"].setting
    batch = collate(everything, CONTEXT, BOS)
    assert setting.rows == tuple(batch.document[batch.real].bincount().tolist())
    assert (setting.k, setting.latents, setting.usable) == (K, LATENTS, 32) and setting.statistics is known.statistics
    assert setting.norms is not None and torch.equal(setting.norms, job.variant.W_dec.norm(dim=1))
    assert setting.W_dec is not None and torch.equal(setting.W_dec, job.variant.W_dec) and not setting.W_dec.requires_grad
    assert setting.b_dec is not None and torch.equal(setting.b_dec, job.variant.b_dec) and not setting.b_dec.requires_grad


def test_columns_that_are_not_resampled_have_no_interval(model: SubjectModel) -> None:
    """And of one metric, whose draws are taken together, all others have one."""
    intervals = measured(model, 50)["intervals"]
    for column in plugins.metric("representational_similarity").columns:
        assert (f"representational_similarity.{column.name}" in intervals) == column.resampled, column.name  # type: ignore[operator]


def test_an_sae_whose_numbers_are_none_spoils_no_other(model: SubjectModel) -> None:
    """Its row says how many rows were bad; the other's numbers and intervals are those that it has alone, to the bit."""
    metrics, reading = {name: plugins.metric(name) for name in plugins.names("metrics")}, Reading(K)
    rows = []
    for beside in (False, True):
        broken = sae("topk", model)
        with torch.no_grad():
            broken.b_dec[2] = float("nan")
        jobs = [Job(sae("topk", model), {reading: metrics}), *([Job(broken, {reading: metrics})] if beside else [])]
        held = empty(model, jobs, len(TEXTS))
        for start in range(0, len(windows()), 25):
            measure(model, collate(windows()[start : start + 25], CONTEXT, BOS), units(model), TEXTS, jobs, held)
        rows.append(summary(held[0, reading], metrics, len(TEXTS)))
    assert rows[0] == rows[1] and not jobs[0].absent
    assert "x_hat is not finite in" in jobs[1].absent[reading]


def test_a_metric_that_was_not_asked_for_says_so(model: SubjectModel) -> None:
    """Its cells are empty, with the reason."""
    asked = {"sparsity": plugins.metric("sparsity")}
    assert set(summary({}, asked, 3, "no such threshold")["missing"].values()) == {"no such threshold"}
    row = summary({}, asked, 3)
    assert set(row["values"].values()) == {None} and set(row["missing"].values()) == {"not asked for at this reading"}


class Bad(Metric):
    """A metric that meets its match in one SAE."""

    columns = (Column("one", "higher", "", formula="", source=""), Column("two", "higher", "", formula="", source=""))
    error: Exception | None = None
    number = 1.0

    def update(self, batch: Batch) -> None:
        """Nothing."""

    def result(self, weights: torch.Tensor | None) -> dict[str, float | Missing]:
        """Half of it is sound."""
        if self.error:
            raise self.error
        return {"one": self.number, "two": 2.0}

    def details(self) -> dict[str, object]:
        """With the number inside."""
        return {"deep": [{"one": self.number}]}


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), np.linalg.LinAlgError("singular"), torch.linalg.LinAlgError("no convergence")])
def test_a_metric_whose_maths_fails_leaves_its_cells_empty_and_an_error_of_code_stops(error: Exception) -> None:
    """The cells of other metrics stay; a TypeError is no property of an SAE."""
    metrics: dict[str, Metric] = {"bad": Bad(Setting(1, 1, 1, 3)), "good": Bad(Setting(1, 1, 1, 3))}
    metrics["bad"].error = error  # type: ignore[attr-defined]
    row = summary(metrics, {"bad": Bad, "good": Bad}, 3)
    assert row["values"] == {"bad.one": None, "bad.two": None, "good.one": 1.0, "good.two": 2.0}
    assert row["missing"] == dict.fromkeys(("bad.one", "bad.two"), f"could not be computed: {error}")
    assert set(row["intervals"]) == {"good.one", "good.two"}
    metrics["bad"].error = TypeError("a slip")  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="a slip"):
        summary(metrics, {"bad": Bad}, 3)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_none_leaves_its_cell_empty_and_its_details_out(number: float) -> None:
    """So that the record, which is JSON, can be written; the other column stays."""
    metric = Bad(Setting(1, 1, 1, 3))
    metric.number = number
    row = summary({"bad": metric}, {"bad": Bad}, 3)
    assert row["values"] == {"bad.one": None, "bad.two": 2.0} and set(row["intervals"]) == {"bad.two"} and not row["details"]
    assert row["missing"] == {"bad.one": f"the metric gave {number}", "bad.details": "the details hold numbers that are not finite"}


def test_an_interval_holds_its_value(model: SubjectModel) -> None:
    """The explained variance of all text lies in its interval."""
    row = measured(model, 50)
    low, high = row["intervals"]["explained_variance.ev"]  # type: ignore[index]
    assert low < row["values"]["explained_variance.ev"] < high  # type: ignore[index]
