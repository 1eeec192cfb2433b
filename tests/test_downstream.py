"""Downstream loss as a whole, on tiny random models of four families; the oracle is a slow loop over one window without padding at a time.

The faults of SAEBench are those of sae_bench/evals/core/main.py at 10e0728, which SAELens had before it.
"""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor

from sae_bench_htopk import head, plugins
from sae_bench_htopk.contract import Batch, Codes, Missing, Setting, Statistics
from sae_bench_htopk.evaluate import text_batch
from sae_bench_htopk.lm import SubjectModel
from sae_bench_htopk.stream import Units
from sae_bench_htopk.windows import Window, collate
from tests.test_lm import CONTEXT, D, site_of, subject

FAMILIES, LAYER, BOS, DOCUMENTS = ["gemma2", "llama", "neox", "gpt2"], 1, 2, 5
TURN = torch.eye(D) + 0.15 * torch.randn(D, D, generator=torch.Generator().manual_seed(4))

Values = dict[str, float | Missing]
Reconstruct = Callable[[Tensor], Tensor]  # x [rows, d] -> x_hat, both in scaled units


def turned(x: Tensor) -> Tensor:
    """A reconstruction that is neither good nor absurd."""
    return 0.9 * x @ TURN


def same(x: Tensor) -> Tensor:
    """A perfect one."""
    return x


@cache
def model(family: str) -> SubjectModel:
    return subject(family, LAYER, "resid_post")


@cache
def windows(family: str) -> list[Window]:
    """19 windows of 1 to 10 tokens, of five documents in turn. The model wrote them: of other text it would know no more than if it were ablated."""
    random = torch.Generator().manual_seed(0)
    lengths = [1, CONTEXT - 1, *torch.randint(2, CONTEXT, (17,), generator=random).tolist()]
    tokens = torch.full((len(lengths), 1), BOS)
    for _ in range(CONTEXT - 1):
        logits = model(family).model(input_ids=tokens).logits[:, -1]
        logits[:, :3] = -torch.inf  # no special token
        tokens = torch.cat((tokens, logits.softmax(1).multinomial(1, generator=random)), dim=1)
    return [Window(index % DOCUMENTS, 10 * (index // DOCUMENTS), tokens[index, 1 : 1 + length].numpy(), None) for index, length in enumerate(lengths)]


@cache
def units(family: str) -> Units:
    """Measured on the same windows; every tenth row is massive."""
    batch = collate(windows(family), CONTEXT, BOS)
    raw = model(family).activations(batch.tokens)[batch.real]
    scale = float(raw.square().sum(1).mean().rsqrt())
    return Units(scale, float(raw.norm(dim=1).quantile(0.9)), Statistics(raw.mean(0) * scale, torch.eye(D)))


def measured(family: str, reconstruct: Reconstruct, size: int = 1000) -> Values:
    """The metric's columns, with so many windows at a time."""
    metric = plugins.metric("downstream_loss")(Setting(D, 1, 1, DOCUMENTS))
    everything = windows(family)
    for start in range(0, len(everything), size):
        text = text_batch(model(family), collate(everything[start : start + size], CONTEXT, BOS), units(family), [""] * DOCUMENTS)
        none = torch.zeros(0)
        metric.update(Batch(text, reconstruct(text.x), Codes(none, none.long(), torch.zeros(len(text.x) + 1, dtype=torch.long))))
    return dict(metric.result(None))


@torch.no_grad()
def log_probabilities(family: str, tokens: Tensor, overwrite: Callable[[Tensor], Tensor]) -> Tensor:
    """[places, vocabulary] in float64, of one window in which a torch hook passes the block's output [places, d] through `overwrite`."""

    def hook(_: object, __: object, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        hidden = output[0] if isinstance(output, tuple) else output
        changed = overwrite(hidden[0].clone())[None]
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    with site_of(family, LAYER, "resid_post").register_forward_hook(hook):
        logits: Tensor = model(family).model(input_ids=tokens[None]).logits[0]
    return logits.double().log_softmax(1)


def runs(family: str, reconstruct: Reconstruct) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
    """For each window its tokens, the places that predict, and log-probabilities of the clean, spliced and two ablated models."""
    known = units(family)
    for window in windows(family):
        tokens = torch.tensor([BOS, *window.ids.tolist()])
        seen: list[Tensor] = []
        clean = log_probabilities(family, tokens, lambda hidden, seen=seen: seen.append(hidden) or hidden)  # type: ignore[misc]
        own = torch.tensor([place > 0 and float(row.norm()) <= known.massive_limit for place, row in enumerate(seen[0])])
        stand_ins = {"spliced": reconstruct(seen[0] * known.scale) / known.scale, "zero": torch.zeros_like(seen[0])}
        stand_ins["mean"] = (known.statistics.mean / known.scale).expand_as(seen[0])
        found = {"clean": clean}
        for name, value in stand_ins.items():
            found[name] = log_probabilities(family, tokens, lambda hidden, value=value, own=own: torch.where(own[:, None], value, hidden))  # type: ignore[misc]
        found["zero everywhere"] = log_probabilities(family, tokens, torch.zeros_like)
        yield tokens, own & (torch.arange(len(tokens)) < len(tokens) - 1), found


def divergence(log_p: Tensor, log_q: Tensor) -> float:
    """KL(p || q) of one place, as scipy computes it."""
    return float(entropy(log_p.exp().numpy(), log_q.exp().numpy()))


@cache
def slow(family: str, reconstruct: Reconstruct) -> dict[str, float]:
    """Means over predicting places, one by one: (run, of what) as "spliced loss", "zero kl" and so on; "reversed" is KL(spliced || clean)."""
    sums: dict[str, float] = {}
    count = 0
    for tokens, predicts, found in runs(family, reconstruct):
        for place in predicts.nonzero()[:, 0].tolist():
            count += 1
            clean = found["clean"][place]
            terms = {f"{name} loss": -float(log_q[place, tokens[place + 1]]) for name, log_q in found.items()}
            terms |= {f"{name} kl": divergence(clean, log_q[place]) for name, log_q in found.items() if name != "clean"}
            terms["top1"] = float(found["spliced"][place].argmax() == clean.argmax())
            terms["reversed"] = divergence(found["spliced"][place], clean)
            sums = {name: sums.get(name, 0.0) + value for name, value in terms.items()}
    assert 60 < count < 100
    return {name: value / count for name, value in sums.items()}


def columns(means: dict[str, float], zero: str = "zero", kl: str = "spliced kl") -> dict[str, float]:
    """What the metric should say, or with other terms what others say."""
    clean, spliced, none, mean = (means[f"{name} loss"] for name in ("clean", "spliced", zero, "mean"))
    return {
        "clean": clean, "spliced": spliced, "delta": spliced - clean, "zero_ablated": none, "mean_ablated": mean,
        "score_zero": 1 - (spliced - clean) / (none - clean), "score_mean": 1 - (spliced - clean) / (mean - clean),
        "kl": means[kl], "kl_zero": means[f"{zero} kl"], "kl_mean": means["mean kl"], "kl_score_mean": 1 - means[kl] / means["mean kl"],
        "top1": means["top1"],
    }  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_every_column_is_that_of_a_slow_loop(family: str) -> None:
    """BOS and massive rows keep the clean activation in every run; a window's last token predicts nothing."""
    found = measured(family, turned)
    assert found == pytest.approx(columns(slow(family, turned)), abs=1e-5)
    assert 0.05 < found["top1"] < 0.95 and 0.01 < found["kl"] < found["kl_mean"]  # type: ignore[operator]


@pytest.mark.parametrize("family", FAMILIES)
def test_splicing_the_activation_changes_nothing(family: str) -> None:
    found = measured(family, same)
    assert found["delta"] == pytest.approx(0, abs=1e-6) and found["kl"] == pytest.approx(0, abs=1e-6)
    assert found["top1"] == 1 and found["kl_score_mean"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_splicing_the_mean_is_mean_ablation(family: str) -> None:
    found = measured(family, lambda x: units(family).statistics.mean.expand_as(x))
    assert (found["spliced"], found["kl"]) == (found["mean_ablated"], found["kl_mean"])
    assert found["kl_score_mean"] == 0 and found["score_mean"] == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_cut_into_batches_changes_nothing(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does making the clean log-probabilities again in each run, where they are too many to be kept."""
    whole = measured(family, turned)
    for size in (1, 7):
        assert measured(family, turned, size) == pytest.approx(whole, rel=1e-6, abs=1e-7)
    monkeypatch.setattr(head, "KEPT", 0)
    assert measured(family, turned) == pytest.approx(whole, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_zeros_and_the_other_direction_would_show(family: str) -> None:
    """Zeros at BOS and at massive rows, too, in the ablated run alone; and, which is nobody's fault, the divergence in the other direction."""
    found, means = measured(family, turned), slow(family, turned)
    others = columns(means, zero="zero everywhere", kl="reversed")
    for column, margin in (("zero_ablated", 0.5), ("score_zero", 0.2), ("kl_zero", 0.3), ("kl", 2e-3)):
        assert abs(found[column] - others[column]) > margin, (column, found[column], others[column])  # type: ignore[operator]


def test_a_divergence_at_other_places_than_the_loss_would_show() -> None:
    """SAEBench's KL takes in the last token of a window, whose prediction has no loss."""
    kept = [(own, found) for _, own, found in runs("llama", turned)]
    everywhere = [divergence(found["clean"][place], found["spliced"][place]) for _, found in kept for place in range(1, len(found["clean"]))]
    assert abs(float(np.mean(everywhere)) - measured("llama", turned)["kl"]) > 1e-3  # type: ignore[operator]


def test_a_token_of_no_probability_counts_nothing_where_saebench_gives_nan() -> None:
    """By hand, from logits so far apart that a probability is 0 in float32: p is (1, 0), q is (1/2, 1/2)."""
    clean, spliced = torch.tensor([[200.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    p, q = clean.softmax(1), spliced.softmax(1)
    assert np.isnan(float((p * (p.log() - q.log())).sum()))
    args = torch.tensor([0]), spliced, torch.tensor([1])
    found = head.compared(clean.log_softmax(1), *args)
    assert float(found.kl) == pytest.approx(np.log(2)) and float(found.loss) == pytest.approx(np.log(2))
    assert float(head.compared(spliced.log_softmax(1), args[0], clean, args[2]).kl) == pytest.approx(0.5 * (200 - 2 * np.log(2)))


def test_rows_that_are_not_replaced_do_not_matter() -> None:
    """A reconstruction may be absurd at massive rows: they keep the clean activation."""
    limit = units("gpt2").massive_limit * units("gpt2").scale

    def absurd(x: Tensor) -> Tensor:
        return torch.where(x.norm(dim=1, keepdim=True) > limit, 1e4, turned(x))

    found = measured("gpt2", absurd)
    assert found == measured("gpt2", turned)
