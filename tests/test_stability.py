"""Agreement of two sets of latents against permutations, slow loops, hand-made angles, and the law of random directions."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from sae_bench_htopk import stability
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.stability import Nearest, Stability, Weights, assigned, compare


def rows(count: int, d: int, seed: int = 0) -> Tensor:
    """Random rows of random norm."""
    return torch.randn(count, d, generator=torch.Generator().manual_seed(seed))


def weights(W_dec: Tensor, W_enc: Tensor | None = None, live: Tensor | None = None) -> Weights:
    """All latents live and the encoder tied to the decoder unless said otherwise."""
    return Weights(W_dec if W_enc is None else W_enc, W_dec, torch.ones(len(W_dec), dtype=torch.bool) if live is None else live)


def at(*degrees: float) -> Tensor:
    """Unit rows in the plane."""
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1)


def compared(one: Weights, other: Weights, limit: int = stability.LIMIT, seed: int = 0) -> Stability:
    """The comparison, which is there."""
    found = compare(one, other, limit, seed)
    assert isinstance(found, Stability)
    return found


def cosines(a: Tensor, b: Tensor) -> list[list[float]]:
    """One by one, in double."""
    return [[float(np.dot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y))) for y in b.double().numpy()] for x in a.double().numpy()]


@pytest.mark.parametrize("limit", [50, 49])
def test_a_shuffled_and_rescaled_copy_agrees_in_everything(limit: int) -> None:
    dec, enc, order = rows(50, 12), rows(50, 12, seed=1), torch.randperm(50, generator=torch.Generator().manual_seed(2))
    scale = torch.logspace(-30, 4, 50)[:, None]
    copy = weights((dec * scale)[order].requires_grad_(), (3 * enc)[order].requires_grad_())
    found = compared(weights(dec, enc), copy, limit)
    assert (found.mmcs_to, found.mmcs_from, found.matched) == pytest.approx((1, 1, 1), abs=1e-6)
    assert (found.shared, found.pairs, found.live, found.live_other) == (1, 50, 50, 50)
    assert found.matching == ("mutual" if limit == 49 else "hungarian")


def test_noise_does_not_hide_a_permutation() -> None:
    a, order = rows(40, 30), torch.randperm(40, generator=torch.Generator().manual_seed(3))
    a = a / a.norm(dim=1, keepdim=True)
    b = a[order] + 0.05 * rows(40, 30, seed=4)
    for i, j in (assigned(a, b), Nearest.of(a, b).mutual()):
        assert len(i) == 40 and torch.equal(order[j], i)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sizes", [(6, 6), (4, 6), (6, 4)])
def test_no_other_assignment_is_better(sizes: tuple[int, int], seed: int) -> None:
    few, many = sorted((rows(sizes[0], 3, seed), rows(sizes[1], 3, seed + 100)), key=len)
    table = cosines(few, many)
    best = max(math.fsum(table[i][j] for i, j in enumerate(chosen)) for chosen in itertools.permutations(range(len(many)), len(few)))
    found = compared(weights(rows(sizes[0], 3, seed)), weights(rows(sizes[1], 3, seed + 100)))
    assert found.pairs == len(few) and found.matched == pytest.approx(best / len(few), abs=1e-6)


@pytest.mark.parametrize("chunk", [1, 3, 7, 1024])
def test_mmcs_is_that_of_two_loops_whatever_the_chunks(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stability, "CHUNK", chunk)
    a, b = rows(7, 4), rows(10, 4, seed=1)
    table = cosines(a, b)
    found = compared(weights(a), weights(b), limit=1)
    assert found.mmcs_to == pytest.approx(sum(max(line) for line in table) / 7, abs=1e-6)
    assert found.mmcs_from == pytest.approx(sum(max(line[j] for line in table) for j in range(10)) / 10, abs=1e-6)
    mutual = [table[i][j] for i in range(7) for j in range(10) if table[i][j] == max(table[i]) == max(line[j] for line in table)]
    assert found.pairs == len(mutual) and found.matched == pytest.approx(sum(mutual) / len(mutual), abs=1e-6)


def test_the_smaller_dictionary_is_found_whole_in_the_larger_and_not_the_other_way() -> None:
    small, large = weights(rows(20, 8)), weights(torch.cat([rows(30, 8, seed=1), rows(20, 8)]))
    to, back = compared(small, large), compared(large, small)
    assert (to.mmcs_to, to.matched, to.shared) == pytest.approx((1, 1, 1), abs=1e-6) and to.mmcs_from < 0.9
    assert (back.mmcs_to, back.mmcs_from, back.matched, back.shared) == pytest.approx((to.mmcs_from, to.mmcs_to, 1, 1))
    assert (back.live, back.live_other, back.pairs) == (50, 20, 20)


@pytest.mark.parametrize("limit", [stability.LIMIT, 1])
def test_shared_asks_encoder_and_decoder(limit: int) -> None:
    """cos 40 degrees is 0.77, cos 50 degrees 0.64."""

    def placed(*degrees: float) -> Tensor:
        """Each row in a plane of its own, so that every pair is certain."""
        return torch.block_diag(*at(*degrees)[:, None])

    one = weights(placed(0, 0, 0, 0))
    turned = compared(one, weights(placed(0, 0, 0, 0), placed(90, 90, 90, 90)), limit)
    assert (turned.matched, turned.shared) == pytest.approx((1, 0))
    some = compared(one, weights(placed(40, 40, 50, 50), placed(0, 50, 0, 40)), limit)
    assert (some.shared, some.pairs) == (1 / 4, 4)
    assert some.matched == pytest.approx((math.cos(math.radians(40)) + math.cos(math.radians(50))) / 2, abs=1e-6)


def test_both_matchings_agree_where_rows_lie_apart_and_differ_where_two_want_the_same() -> None:
    dec, enc = rows(40, 200), rows(40, 200, seed=1)
    noisy = weights(dec.flip(0) + 0.3 * rows(40, 200, seed=2), enc.flip(0) + 0.9 * rows(40, 200, seed=3))
    full, mutual = compared(weights(dec, enc), noisy), compared(weights(dec, enc), noisy, limit=39)
    assert (full.matching, mutual.matching) == ("hungarian", "mutual") and 0 < full.shared < 1
    assert (mutual.matched, mutual.shared, mutual.pairs) == pytest.approx((full.matched, full.shared, full.pairs))
    one, other = weights(at(0, 20)), weights(at(8, 90))
    full, mutual = compared(one, other), compared(one, other, limit=1)
    near, far = math.cos(math.radians(8)), math.cos(math.radians(70))
    assert (full.pairs, full.matched) == pytest.approx((2, (near + far) / 2)) and (mutual.pairs, mutual.matched) == pytest.approx((1, near))
    assert full.shared == mutual.shared == 0.5  # of two live latents, whatever the number of pairs


@pytest.mark.parametrize("limit", [stability.LIMIT, 1])
def test_opposite_rows_are_not_alike(limit: int) -> None:
    found = compared(weights(torch.eye(6)), weights(-torch.eye(6)), limit)
    assert (found.mmcs_to, found.mmcs_from, found.matched, found.shared) == pytest.approx((0, 0, 0, 0))


def test_dead_latents_count_for_nothing() -> None:
    dec, enc = rows(20, 8), rows(20, 8, seed=1)
    live = torch.arange(20) % 3 > 0
    dirty = torch.where(live[:, None], dec, torch.nan)
    found = compared(weights(dirty, enc, live), weights(dec, enc))
    assert found == compared(weights(dec[live], enc[live]), weights(dec, enc))
    assert (found.live, found.live_other, found.pairs) == (13, 20, 13)


@pytest.mark.parametrize(("d", "count", "draws"), [(2, 5, 300), (3, 9, 300), (16, 200, 4), (192, 2048, 1)])
def test_the_floor_is_what_random_directions_give(d: int, count: int, draws: int) -> None:
    """A random direction's cosine to a fixed one is a Beta on -1..1, and all are independent; 0.246 at 2,048 rows of width 192."""
    cosine = stats.beta((d - 1) / 2, (d - 1) / 2, loc=-1, scale=2)
    other = weights(torch.ones(count, d))  # the floor knows nothing but shapes
    floors = [compared(weights(torch.ones(count + 3, d)), other, 1, seed).floor for seed in range(draws)]
    for size, found in ((count, [floor.mmcs_to for floor in floors]), (count + 3, [floor.mmcs_from for floor in floors])):
        wanted = 1 - integrate.quad(lambda x, size=size: cosine.cdf(x) ** size, -1, 1, points=(0, 0.25, 0.5))[0]
        assert np.mean(found) == pytest.approx(wanted, abs=0.015 if draws > 1 else 0.001)


def test_the_floor_of_matched_and_shared_is_that_of_drawing_and_trying_all() -> None:
    """By brute force over permutations, with draws of numpy's."""
    random, matched, shared = np.random.default_rng(0), [], []
    for _ in range(600):
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in random.normal(size=(2, 4, 2)))
        best = max(([float(a[i] @ b[j]) for i, j in enumerate(chosen)] for chosen in itertools.permutations(range(4))), key=sum)
        matched.append(np.mean(best))
        shared.append(np.mean(np.array(best) > 0.7))
    floors = [compared(weights(torch.ones(4, 2)), weights(torch.ones(4, 2)), seed=seed).floor for seed in range(600)]
    assert np.mean([floor.matched for floor in floors]) == pytest.approx(np.mean(matched), abs=0.03)
    assert np.mean([floor.shared for floor in floors]) == pytest.approx(np.mean(shared), abs=0.03)
    assert {floor.pairs for floor in floors} == {4}


def test_the_floor_is_made_once_for_all_pairs_of_the_same_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is the one that another call would make; other sizes and other seeds have their own."""
    stability.floor_of.cache_clear()
    first, drawn, random = compared(weights(rows(20, 6)), weights(rows(15, 6))), [], torch.randn
    monkeypatch.setattr(torch, "randn", lambda *size, **rest: (drawn.append(size), random(*size, **rest))[1])
    pairs = [(weights(Tensor(np.eye(20, 6) + index)), weights(Tensor(np.eye(15, 6) - index))) for index in range(3)]
    assert [compared(*pair).floor for pair in pairs] == [first.floor] * 3 and not drawn
    assert compared(*pairs[0], seed=1).floor != first.floor and drawn == [(20, 6), (15, 6)]
    stability.floor_of.cache_clear()
    assert compared(*pairs[0]).floor == first.floor


def test_what_cannot_be_compared_says_why() -> None:
    good, live = weights(rows(5, 3)), torch.tensor([True, False, True, True, False])
    dead = weights(rows(5, 3), live=torch.zeros(5, dtype=torch.bool))
    assert compare(dead, good) == Missing("none of the 5 latents of the first SAE is live")
    assert compare(good, dead) == Missing("none of the 5 latents of the second SAE is live")
    bad = torch.where(live[:, None], torch.inf, rows(5, 3))
    assert compare(good, weights(rows(5, 3), bad, live)) == Missing("the weights of 3 live latents of the second SAE are not finite")
    with pytest.raises(ValueError, match="width 3 and 4, wanted the same width"):
        compare(good, weights(rows(5, 4)))


@pytest.mark.parametrize("limit", [stability.LIMIT, 0])
def test_the_smallest_sets_have_numbers_too(limit: int) -> None:
    one = compared(weights(at(0)), weights(at(60)), limit)
    assert (one.mmcs_to, one.mmcs_from, one.matched, one.pairs, one.shared) == pytest.approx((0.5, 0.5, 0.5, 1, 0))
    line = compared(weights(torch.tensor([[2.0], [-3.0]])), weights(torch.tensor([[-0.1]])), limit)
    assert (line.mmcs_to, line.mmcs_from, line.matched, line.pairs, line.shared) == pytest.approx((0, 1, 1, 1, 1))
    nowhere = compared(weights(torch.zeros(3, 2)), weights(at(0, 180)), limit)
    assert (nowhere.mmcs_to, nowhere.mmcs_from, nowhere.matched, nowhere.shared) == (0, 0, 0, 0)
