"""What is each variant's own: which prefixes it weighs, which threshold it keeps, what it charges; each against its formula, written out."""

from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from sae_bench_htopk import choose, ops, plugins, trainer
from sae_bench_htopk.contract import Reading, Variant
from sae_bench_htopk.trainer import Learner, Recipe
from tests.synthetic import D, batches, units

LATENTS, BATCH = 48, 64


def made(name: str, **config: Any) -> Variant:
    """A new SAE, its bias at the stream's mean."""
    kind = plugins.variant(name)
    variant = kind(kind.Config(**config), D, LATENTS, 0)
    variant.start(units().statistics)
    return variant


def activations(variant: Variant, x: Tensor) -> Tensor:
    """Dense activations [batch, latents]."""
    return torch.relu((x - variant.b_dec) @ variant.W_enc.T + variant.b_enc)


def largest(dense: Tensor, k: int) -> Tensor:
    """The k largest of each row, zeros elsewhere."""
    return torch.zeros_like(dense).scatter_(1, (top := dense.topk(k)).indices, top.values)


def error(variant: Variant, x: Tensor, codes: Tensor) -> Tensor:
    """Mean squared error of a dense code."""
    return (x - variant.b_dec - codes @ variant.W_dec).square().sum(1).mean()


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        ({}, {j: 1 / 12 for j in range(1, 13)}),
        ({"weights": "inverse"}, {j: 1 / j / sum(1 / i for i in range(1, 13)) for j in range(1, 13)}),
        ({"prefixes": 5}, {2: 1 / 3, 7: 1 / 3, 12: 1 / 3}),
        ({"prefixes": (3, 12)}, {3: 0.5, 12: 0.5}),
        ({"prefixes": (3, 12), "weights": (1.0, 0.125)}, {3: 1.0, 12: 0.125}),  # Multi-TopK, L(k) + L(4k) / 8
        ({"prefixes": (1, 6, 12), "weights": (0.0, 2.0, 1.0)}, {6: 2.0, 12: 1.0}),
    ],
)
def test_hierarchical_topk_is_the_weighted_sum_of_the_losses_of_its_prefixes(config: dict[str, Any], weights: dict[int, float]) -> None:
    """One dense TopK loss for each prefix, also where rows have fewer than K positive latents; and its gradient."""
    variant = made("hierarchical_topk", k=12, **config)
    x = next(batches(1, BATCH))
    with torch.no_grad():
        variant.b_enc[::2] = -0.3
    assert int((activations(variant, x) > 0).sum(1).min()) < 12
    loss = variant.step(x).loss
    wanted = torch.stack([weight * error(variant, x, largest(activations(variant, x), j)) for j, weight in weights.items()]).sum()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    for mine, theirs in zip(torch.autograd.grad(loss, list(variant.parameters())), torch.autograd.grad(wanted, list(variant.parameters())), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("k", [1, 512])
def test_hierarchical_topk_from_one_code_to_512(k: int) -> None:
    """In float32 against one dense TopK loss for each prefix in float64, with the gradients: codes that are taken away come back as they were."""
    kind = plugins.variant("hierarchical_topk")
    variant, twin = (kind(kind.Config(k=k), D, 1500, 0) for _ in range(2))
    with torch.no_grad():
        for one in (variant, twin.double()):
            one.W_enc.mul_(0.8)  # at the start it is the decoder, and the best scale of a single code is no slope at all
    x = next(batches(1, 5))
    dense = activations(twin, x.double())
    ordered = dense.topk(k)
    assert int((dense > 0).sum(1).min()) > k
    prefixes = (torch.zeros_like(dense).scatter_(1, ordered.indices[:, :j], ordered.values[:, :j]) for j in range(1, k + 1))
    wanted = torch.stack([error(twin, x.double(), prefix) for prefix in prefixes]).mean()
    loss = variant.step(x).loss
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)
    for mine, theirs in zip(torch.autograd.grad(loss, list(variant.parameters())), torch.autograd.grad(wanted, list(twin.parameters())), strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def test_a_step_is_the_same_without_the_private_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch may take it away: then the fall-back is called, and gives the same loss and gradients."""
    answers, fall_back = [], ops.gathered_dots
    for product in (ops.bag_dots, None):
        monkeypatch.setattr(ops, "bag_dots", product)
        variant, calls = made("topk", k=6), []
        monkeypatch.setattr(ops, "gathered_dots", lambda *given: calls.append(given) or fall_back(*given))  # noqa: B023
        loss = variant.step(next(batches(1, BATCH))).loss
        answers.append([loss.detach(), *torch.autograd.grad(loss, list(variant.parameters()))])
        assert bool(calls) == (product is None)
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"prefixes": 0}, "prefixes: 0"), ({"prefixes": 9}, "a stride of 1 to 8"), ({"prefixes": (2, 4)}, "ends with k, 8"),
        ({"prefixes": (4, 2, 8)}, "rising"),
        ({"weights": (1.0,)}, "for each of the 8"), ({"prefixes": (2, 8), "weights": (0.0, 0.0)}, "not all 0"),
        ({"prefixes": (2, 8), "weights": (1.0, -1.0)}, "at least 0"),
    ],
)  # fmt: skip
def test_prefixes_and_weights_that_make_no_sense(config: dict[str, Any], said: str) -> None:
    """Each names the key and what is wanted."""
    with pytest.raises(ValueError, match=said):
        plugins.variant("hierarchical_topk").Config(k=8, **config)


@pytest.mark.parametrize("base", ["topk", "batchtopk"])
@pytest.mark.parametrize("weights", [None, (0.5, 0.25, 2.0)])
def test_matryoshka_is_the_weighted_sum_of_the_losses_of_its_dictionaries(base: str, weights: tuple[float, ...] | None) -> None:
    """Each nested dictionary alone, with the codes that the whole one chose; and the curve's L0 of each."""
    variant = made("matryoshka", k=4, groups=(0.25, 0.5, 1.0), base=base, weights=weights)
    x = next(batches(1, BATCH))
    dense = activations(variant, x)
    codes = largest(dense, 4) if base == "topk" else largest(dense.view(1, -1), 4 * BATCH).view_as(dense)
    inside = [codes * (torch.arange(LATENTS) < size) for size in (12, 24, 48)]
    wanted = torch.stack([weight * error(variant, x, part) for weight, part in zip(weights or (1 / 3,) * 3, inside, strict=True)]).sum()
    assert variant.step(x).loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert variant.noted() == {f"l0_{size}": float((part > 0).sum()) / BATCH for size, part in zip((12, 24, 48), inside, strict=True)}


@pytest.mark.parametrize(("name", "config"), [("batchtopk", {}), ("matryoshka", {"groups": (0.5, 1.0)})])
def test_the_threshold_of_training_is_a_running_mean_of_least_choices(name: str, config: dict[str, Any]) -> None:
    """0.999 of what it was and 0.001 of the batch's least chosen activation, from the first batch on; and it can be read by."""
    variant, kept = made(name, k=4, **config), 0.0
    for number, x in enumerate(batches(3, BATCH)):
        least = activations(variant, x).flatten().topk(4 * BATCH).values[-1].item()
        variant.step(x)
        kept = least if number == 0 else 0.999 * kept + 0.001 * least
    assert float(variant.ema_threshold) == pytest.approx(kept, rel=1e-6)
    codes = variant.encode(x, Reading(4, select="ema"))
    assert len(codes.values) == int((activations(variant, x) > variant.ema_threshold).sum()) and float(codes.values.min()) > kept


def test_topk_keeps_no_threshold() -> None:
    """Nor does matryoshka over topk; neither can be read by one."""
    for variant in (made("topk", k=4), made("matryoshka", k=4, base="topk")):
        variant.step(next(batches(1, BATCH)))
        assert float(variant.ema_threshold) == -1
        with pytest.raises(LookupError, match="calibration has not"):
            variant.encode(next(batches(1, BATCH)), Reading(4, select="ema"))


def test_the_threshold_of_training_begins_late_and_is_in_units_of_scores() -> None:
    """In the share of the steps that the recipe says, and of activation times norm where decoder rows are free."""
    for unit in (True, False):
        variant = made("batchtopk", k=4)
        recipe = Recipe(tokens=10 * BATCH, batch=BATCH, latents=LATENTS, rate=1e-3, ema_from=0.7, unit_rows=unit)
        learner, least = Learner(variant, recipe, units().statistics), []
        with torch.no_grad():
            variant.W_dec.mul_(1 if unit else torch.linspace(0.5, 3, LATENTS)[:, None])
        for x in batches(10, BATCH):
            least.append((activations(variant, x) * variant.W_dec.norm(dim=1)).flatten().topk(4 * BATCH).values[-1].item())
            learner.take(x)
        kept = least[7]
        for one in least[8:]:
            kept = 0.999 * kept + 0.001 * one
        assert float(variant.ema_threshold) == pytest.approx(kept, rel=1e-5)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("of", ["row", "batch"])
def test_a_step_chooses_the_same_by_proposals_in_bfloat16(of: Literal["row", "batch"], free: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with decoder rows of unequal norm, step after step; and a variant with scores of its own is never passed by."""
    monkeypatch.setattr(choose, "worth_it", lambda x, W, k: True)
    variant = made("topk", k=4)
    with torch.no_grad():
        variant.W_dec.mul_(torch.linspace(0.2, 5, LATENTS)[:, None] if free else 1)
    exact = {"row": ops.choose_per_row, "batch": ops.choose_per_batch}[of]
    for x in batches(4, BATCH):
        mine, (scores, latents, offsets) = variant.chosen(x, 4, of), exact(variant.scores(x), 4)
        assert torch.equal(mine.latents, latents) and torch.equal(mine.offsets, offsets)
        torch.testing.assert_close(mine.values, scores / variant.W_dec.norm(dim=1)[latents])
    assert variant.proposals.rows == 4 * BATCH
    monkeypatch.setattr(type(variant), "scores", lambda self, x, latents=None: torch.rand(len(x), LATENTS, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(variant.chosen(x, 4, of).latents, exact(variant.scores(x), 4)[1]) and variant.proposals.rows == 4 * BATCH


def test_pre_activations_of_ones_own_are_trained_as_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes the variant's own, and their gradients, though they cost a dense product."""
    variant, x = made("topk", k=4), next(batches(1, BATCH))
    monkeypatch.setattr(type(variant), "preactivations", lambda self, x, latents=None: 2 * Variant.preactivations(self, x, latents) + 1)
    dense = largest((2 * ((x - variant.b_dec) @ variant.W_enc.T + variant.b_enc) + 1).relu(), 4)
    wanted, loss = error(variant, x, dense), variant.step(x).loss
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    for mine, theirs in zip(torch.autograd.grad(loss, list(variant.parameters())), torch.autograd.grad(wanted, list(variant.parameters())), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("crowd", [0, 6])
def test_auxk_takes_pre_activations_of_ones_own(crowd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sparse or dense, with their gradients; an encoder that maps x before it encodes trains that map."""
    variant, x, dead = made("topk", k=4), next(batches(1, BATCH)), torch.arange(0, LATENTS, 9)
    monkeypatch.setattr(trainer, "CROWD", crowd)
    scale = torch.ones(D, requires_grad=True)
    monkeypatch.setattr(type(variant), "preactivations", lambda self, x, latents=None: 2 * Variant.preactivations(self, x * scale, latents) - 0.1)
    loss = trainer.auxk_loss(variant, x, torch.zeros_like(x), dead, 2)
    own = (2 * ((x * scale - variant.b_dec) @ variant.W_enc[dead].T + variant.b_enc[dead]) - 0.1).relu()
    wanted = (x - (own * (own >= own.topk(2).values[:, -1:])) @ variant.W_dec[dead]).square().sum(1).mean() / (x - x.mean(0)).square().sum(1).mean()
    leaves = [scale, *variant.parameters()]
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    for mine, theirs in zip(torch.autograd.grad(loss, leaves), torch.autograd.grad(wanted, leaves), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_decoder_rows_are_of_norm_1_from_the_first_step() -> None:
    """Whatever `start` left, so that what a step chooses does not depend on the machine."""
    variant = made("topk", k=4)
    with torch.no_grad():
        variant.W_dec.mul_(torch.linspace(0.2, 5, LATENTS)[:, None])
    Learner(variant, Recipe(tokens=BATCH, batch=BATCH, latents=LATENTS), units().statistics)
    torch.testing.assert_close(variant.W_dec.norm(dim=1), torch.ones(LATENTS))


def test_relu_pays_for_activations_and_sets_no_budget() -> None:
    """Squared error plus the penalty on activation times norm, over all latents; a heavier penalty leaves fewer codes."""
    variant = made("relu", l1=0.3)
    x = next(batches(1, BATCH))
    with torch.no_grad():
        variant.W_dec *= 2
    dense = activations(variant, x)
    wanted = error(variant, x, dense) + 0.3 * (dense * 2).sum(1).mean()
    assert variant.step(x).loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert variant.budget(variant.config) is None


def test_pruned_vanilla_reads_whom_it_names() -> None:
    """topk and batchtopk by their k, relu by its penalty; never both, never none."""
    kind = plugins.variant("pruned_vanilla")
    assert kind.trained_as(kind.Config(k=8)) == ("topk", {"k": 8})
    assert kind.trained_as(kind.Config(k=8, base="batchtopk")) == ("batchtopk", {"k": 8})
    assert [kind.native(kind.Config(k=8, base=base)) for base in ("topk", "batchtopk")] == ["row", "threshold"]
    assert kind.trained_as(kind.Config(base="relu", l1=0.1)) == ("relu", {"l1": 0.1})
    for config in ({}, {"l1": 0.1}, {"k": 8, "l1": 0.1}, {"base": "relu"}, {"base": "relu", "k": 8, "l1": 0.1}):
        with pytest.raises(ValueError, match=r"base: .*wanted with"):
            kind.Config(**config)
