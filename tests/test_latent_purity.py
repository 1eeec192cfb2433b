"""Latent purity: against cases solved by hand, plain loops over pairs, and derivatives taken by moving each document's weight."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sae_bench_htopk import contexts, intruders, plugins, purity
from sae_bench_htopk.census import LEAST, Firings, Scores
from sae_bench_htopk.contexts import Contexts, embedded
from sae_bench_htopk.contract import Batch, Metric, Missing, Setting
from sae_bench_htopk.latent_groups import Matching, Shells, bands, shells_of
from sae_bench_htopk.likeness import Likeness
from sae_bench_htopk.transcript import NOTHING
from tests.made_up_text import LATENTS, made_up, measured, ragged

WIDTH = 6


def firings_of(dense: np.ndarray, document: np.ndarray, token: np.ndarray, vectors: np.ndarray) -> Firings:
    """Those of a dense [rows, latents] matrix; documents ascend."""
    unit = torch.nn.functional.normalize(torch.from_numpy(vectors).float(), dim=1)
    rank = (-dense).argsort(1, kind="stable").argsort(1, kind="stable")
    names = np.flatnonzero((dense > 0).any(0))
    latent, row = np.nonzero(dense[:, names].T > 0)
    every = Contexts(np.arange(len(dense)), document, token, unit)
    return Firings(latent, row, dense[row, names[latent]], rank[row, names[latent]], names, every, names[latent] * len(dense) + row)


def noise(rows: int = 300, latents: int = 8, documents: int = 6, seed: int = 0, often: float = 0.2) -> Firings:
    """Latents that fire anywhere, on some tokens more often; documents of different lengths, whose tokens differ a little."""
    random = np.random.default_rng(seed)
    document = np.sort(random.integers(documents, size=rows))
    token = (random.integers(12, size=rows) + document) % 15
    likes = (token[:, None] + np.arange(latents)) % 15 < 3
    dense = random.random((rows, latents)) * (random.random((rows, latents)) < often * np.linspace(0.3, 1, latents) * (0.5 + 2 * likes))
    means = random.normal(size=(documents, WIDTH))
    return firings_of(dense, document, token, 0.5 + means[document] + random.normal(size=(rows, WIDTH)))


def dense_of(firings: Firings) -> np.ndarray:
    """[rows, latents]."""
    dense = np.zeros((len(firings.contexts.document), len(firings.names)))
    dense[firings.row, firings.latent] = firings.value
    return dense


# tokens


def test_the_same_token_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Firings of 3 and 1 on one token and 2 on another: 3 of 11; one token alone; two different ones; also where each latent is a block of its own."""
    dense = np.array([[3.0, 0, 1], [1, 2, 0], [2, 0, 1], [0, 5, 0]])
    firings = firings_of(dense, np.zeros(4, dtype=int), np.array([0, 0, 1, 0]), np.ones((4, 2)))
    for cells in (purity.CELLS, 1):
        monkeypatch.setattr(purity, "CELLS", cells)
        assert purity.same_token(firings, np.ones(1)).value == pytest.approx([3 / 11, 1, 0])


def test_purity_does_not_know_how_often_a_latent_fires() -> None:
    """Latents of 20 tokens among 400 that fire 10 times to 300 all have 1 / 20, less the 1 / 400 of random pairs."""
    random, often = np.random.default_rng(0), np.repeat([10, 30, 100, 300], 200)
    token = random.integers(400, size=12_000)
    dense = np.zeros((12_000, len(often)))
    for latent, count in enumerate(often):
        dense[random.choice(np.flatnonzero(token < 20), size=count, replace=False), latent] = 1
    found = Likeness(firings_of(dense, np.arange(12_000) // 100, token, np.ones((12_000, 2))), np.ones(120))
    means = [found.mean("purity", 1.0 * (often == count)).value for count in (10, 30, 100, 300)]
    assert means == pytest.approx([(1 / 20 - 1 / 400) / (1 - 1 / 400)] * 4, abs=0.006)


def test_a_latent_of_one_token_is_pure_and_a_random_one_is_not() -> None:
    """Means over many latents: within five standard errors of 0."""
    random = np.random.default_rng(1)
    token = random.integers(40, size=2000)
    dense = np.column_stack((token[:, None] == np.arange(40), random.random((2000, 60)) * (random.random((2000, 60)) < 0.05)))
    firings = firings_of(dense.astype(float), np.arange(2000) // 100, token, random.normal(size=(2000, WIDTH)))
    found = Likeness(firings, np.ones(20))
    assert found.scores["purity"].value[:40] == pytest.approx(1) and found.mean("purity", 1.0 * (np.arange(100) < 40)).value == pytest.approx(1)
    for name in ("purity", "monosemanticity", "monosemanticity_apart"):
        value = found.scores[name].value[40:]
        mean = found.mean(name, 1.0 * (np.arange(100) >= 40)).value
        assert abs(mean) < 5 * value.std() / np.sqrt(60), name


# vectors


def test_monosemanticity_is_the_loop_over_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of different rows, of different documents, of random rows, and of tokens; weighted; also where each latent is a block of its own."""
    firings, weights = noise(120), np.array([1.0, 0, 2, 1, 3, 1])
    every = firings.contexts
    assert every.vectors is not None
    cosine, dense, document = (every.vectors.double() @ every.vectors.double().T).numpy(), dense_of(firings), every.document
    loops = np.zeros((3, dense.shape[1] + 1, 2))
    for i, j in itertools.combinations(range(len(dense)), 2):
        both = weights[document[i]] * weights[document[j]] * np.append(dense[i] * dense[j], 1)
        for which in (0, 1, 2) if document[i] != document[j] else (0, 2):
            loops[which] += np.column_stack((both * (every.token[i] == every.token[j] if which == 2 else cosine[i, j]), both))
    wanted = loops[..., 0] / loops[..., 1]
    for numbers in (purity.NUMBERS, 1, 500):
        monkeypatch.setattr(purity, "NUMBERS", numbers)
        found, background = (*purity.cosines(firings, weights), purity.same_token(firings, weights)), purity.random_pairs(every, weights)
        for scores, random, loop in zip(found, (background.cosine, background.apart, background.token), wanted, strict=True):
            assert random
            assert scores.value == pytest.approx(loop[:-1], abs=1e-6) and random.value == pytest.approx(loop[-1], abs=1e-6)


def test_a_latent_of_one_document_has_no_pair_of_different_ones() -> None:
    firings = firings_of(np.array([[1.0], [2.0], [0.0]]), np.array([0, 0, 1]), np.arange(3), np.eye(3))
    found = purity.cosines(firings, np.ones(2))
    assert found.pairs.value == pytest.approx([0]) and np.isnan(found.apart.value).all() and np.isnan(found.apart.mean().value)


def test_a_context_is_the_mean_of_its_tokens_unit_embeddings() -> None:
    table = torch.tensor([[3.0, 0.0], [0.0, 0.1], [0.0, -7.0], [0.0, 0.0]])
    windows = np.array([[NOTHING, NOTHING, 0], [NOTHING, 0, 1], [0, 0, 1], [0, 1, 2], [3, 3, 3]])
    found = embedded(windows, lambda tokens: table[tokens])
    root = np.sqrt(0.5)
    assert found.numpy() == pytest.approx(np.array([[1, 0], [root, root], [2 / np.sqrt(5), 1 / np.sqrt(5)], [1, 0], [0, 0]]))
    assert contexts.BEFORE == 7


# intruders


def test_planted_clusters_are_always_told_apart_and_noise_by_chance() -> None:
    """Ties are chance itself; noise within five standard errors."""
    random = np.random.default_rng(0)
    cluster, document = random.integers(5, size=1000), np.arange(1000) // 50
    dense = np.eye(5)[cluster]
    firings = firings_of(dense, document, cluster, np.eye(5)[cluster] + 0.01 * random.normal(size=(1000, 5)))
    assert intruders.told_apart(firings, np.ones(20)).value == pytest.approx(1)
    same = firings_of(dense, document, cluster, np.ones((1000, WIDTH)))
    assert intruders.told_apart(same, np.ones(20)).value == pytest.approx(0.2)
    blind = firings_of(1.0 * (random.random((1000, 300)) < 0.05), document, cluster, random.normal(size=(1000, WIDTH)))
    trials = 4 * 300
    assert abs(intruders.told_apart(blind, np.ones(20)).mean().value - 0.2) < 5 * np.sqrt(0.2 * 0.8 / trials)


def test_the_guess_is_the_smallest_mean_cosine() -> None:
    random = np.random.default_rng(0)
    vectors = torch.nn.functional.normalize(torch.from_numpy(random.normal(size=(50, 3))).float(), dim=1)
    rows = np.stack([random.permutation(50)[:5] for _ in range(200)])
    wanted = []
    for five in rows:
        means = [np.mean([float(vectors[one] @ vectors[other]) for other in five if other != one]) for one in five]
        wanted.append(float(np.argmin(means) == 4))
    assert intruders.right(vectors, rows).tolist() == wanted and 0 < np.mean(wanted) < 1


def test_trials_show_four_documents_and_an_intruder_of_a_fifth() -> None:
    """A latent of one document is not asked, nor is one that fires everywhere."""
    firings = noise(400, documents=12)
    dense = dense_of(firings)
    few = np.zeros((400, 2))
    few[firings.contexts.document == 3, 0] = 1
    few[:, 1] = 1
    firings = firings_of(np.hstack((dense, few)), firings.contexts.document, firings.contexts.token, np.ones((400, 2)))
    latent, rows = intruders.trials(firings)
    last, document, dense = dense.shape[1], firings.contexts.document, dense_of(firings)
    assert np.bincount(latent, minlength=last + 2).tolist() == [intruders.TRIALS] * last + [0, 0]
    for asked, shown in zip(latent, rows, strict=True):
        assert (dense[shown[:4], asked] > 0).all() and dense[shown[4], asked] == 0 and len(set(shown)) == 5
        assert len(set(document[shown])) == 5


def test_chance_is_one_in_five_where_a_few_documents_are_long() -> None:
    """60 documents of ten rows of one kind, four of 1,000 of another, latents that fire without regard to either, often and seldom."""
    random = np.random.default_rng(0)
    document = np.concatenate((np.repeat(np.arange(60), 10), 60 + np.repeat(np.arange(4), 1000)))
    kind = np.eye(2)[(document >= 60).astype(int)] + 0.1 * random.normal(size=(len(document), 2))
    for often in (0.01, 0.1, 0.3):
        dense = 1.0 * (random.random((len(document), 300)) < often)
        found = intruders.told_apart(firings_of(dense, document, document % 7, kind), np.ones(64)).mean()
        assert abs(found.value - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 1200), often


def test_the_spread_over_documents_is_that_over_other_documents() -> None:
    """Fresh texts of 60 documents, of which some are alike throughout: five documents answer for each trial, not one, so a trial's own chance counts
    five times, and few latents have intervals that are somewhat too wide.
    """

    def one(seed: int) -> tuple[float, float]:
        random = np.random.default_rng(seed)
        document = np.repeat(np.arange(60), 20)
        own = random.normal(size=(len(document), 12))
        own[(random.random(60) < 0.7)[document] & (np.arange(len(document)) % 2 == 0), 0] += 4  # where latents fire, in seven documents of ten
        dense = 1.0 * (random.random((len(document), 100)) < 0.3) * (np.arange(len(document)) % 2 == 0)[:, None]
        found = intruders.told_apart(firings_of(dense, document, document % 7, own), np.ones(60)).mean()
        return found.value, float(np.linalg.norm(found.change))

    values, spreads = np.array([one(seed) for seed in range(40)]).T
    assert 0.75 < spreads.mean() / values.std() < 1.75


def test_chance_is_measured_on_latents_that_fire_as_often() -> None:
    """On rows of their own, none twice; rare latents of a text that is half one document are told by less than chance, and that is seen."""
    random = np.random.default_rng(0)
    document = np.concatenate((np.repeat(np.arange(50), 20), np.full(1000, 50)))
    kind = np.eye(2)[(document == 50).astype(int)] + 0.1 * random.normal(size=(2000, 2))
    dense = np.zeros((2000, 300))
    for latent in range(300):
        dense[random.choice(2000, size=10, replace=False), latent] = 1
    firings = firings_of(dense, document, document % 7, kind)
    scattered = intruders.by_chance(firings)
    assert (scattered.counts == 10).all() and len(np.unique(scattered.everywhere)) == 3000 and (np.diff(scattered.everywhere) > 0).all()
    assert not np.array_equal(scattered.row, firings.row) and (scattered.names[scattered.latent] * 2000 + scattered.row == scattered.everywhere).all()
    own, chance = (intruders.told_apart(each, np.ones(51)).mean().value for each in (firings, scattered))
    assert own < 0.17 and abs(own - chance) < 5 * np.sqrt(2 * 0.15 * 0.85 / 1200)


def test_an_intruder_is_silent_at_every_rank() -> None:
    """A band looks at some firings alone, but its intruders are rows on which the latent does not fire at all."""
    firings = noise(1500, latents=12, documents=30, often=0.5)
    last = dict(bands(firings))["5-8"].judged()
    latent, rows = intruders.trials(last)
    assert len(latent) > 10 and not set(zip(last.names[latent], rows[:, 4], strict=True)) & set(zip(firings.names[firings.latent], firings.row, strict=True))


# documents


@pytest.mark.parametrize("name", ["purity", "monosemanticity", "monosemanticity_apart", "intruder"])
def test_what_a_document_adds_is_the_derivative_of_the_exact_number(name: str) -> None:
    """By moving each weight a little to both sides; the means over latents, over firings and over a shell. No number knows the scale of weights."""
    firings, step = noise().judged(), 1e-3
    share = np.arange(len(firings.names)) % 3 + 0.5

    def three(weights: np.ndarray) -> list[float]:
        found = Likeness(firings, weights)
        return [found.mean(name).value, found.by_firing(name).value, found.mean(name, share).value]

    once = Likeness(firings, np.ones(6))
    for place, estimate in enumerate((once.mean(name), once.by_firing(name), once.mean(name, share))):
        slopes = [(three(1 + step * one)[place] - three(1 - step * one)[place]) / (2 * step) for one in np.eye(6)]
        assert estimate.change == pytest.approx(slopes, abs=2e-4) and estimate.change.sum() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", ["purity", "monosemanticity", "monosemanticity_apart"])
def test_draws_to_first_order_spread_as_exact_ones_do(name: str) -> None:
    """Within a tenth. Not so intruders, whose four trials for each latent lose most of their weight in a draw: see fresh texts, above."""
    firings = noise(3000, 12, 60, often=0.3).judged()
    draws = np.random.default_rng(0).multinomial(60, np.full(60, 1 / 60), size=100).astype(float)
    once = Likeness(firings, np.ones(60))
    for by_firing in (False, True):
        exact = []
        for weights in draws:
            found = Likeness(firings, weights)
            exact.append((found.by_firing(name) if by_firing else found.mean(name)).value)
        linear = (once.by_firing(name) if by_firing else once.mean(name)).under(draws)
        assert linear.std() == pytest.approx(np.std(exact), rel=0.1), by_firing


def test_the_first_draw_is_exact_and_no_weight_has_no_number() -> None:
    metric = measured("latent_purity", [made_up()])
    first, nothing = metric.results(torch.tensor([[1.0] * 9, [0.0] * 9]))
    for exact in (metric.result(None), metric.result(torch.ones(9))):
        assert first == pytest.approx(exact)
    assert all(isinstance(value, Missing) for value in nothing.values())
    assert all(len(metric.details()["bands"]["1-4"][name]["interval"]) == 2 for name in ("purity", "intruder_firing"))


# groups of latents


def dense_codes(batch: Batch) -> Tensor:
    """[rows, latents]."""
    dense = torch.zeros(len(batch.x_hat), LATENTS)
    dense[torch.arange(len(dense)).repeat_interleave(batch.codes.lengths()), batch.codes.latents] = batch.codes.values
    return dense


def test_a_bands_numbers_are_those_of_a_reading_of_its_codes_alone() -> None:
    batch = made_up(rows=150)
    dense = dense_codes(batch)
    rank = dense.argsort(dim=1, descending=True).argsort(dim=1)
    told = measured("latent_purity", [batch]).details()["bands"]
    assert list(told)[:2] == ["1-4", "5-8"]
    for (first, last), band in zip(((0, 4), (4, 8)), told.values(), strict=False):
        alone = measured("latent_purity", [replace(batch, codes=ragged(dense * ((rank >= first) & (rank < last))))])
        columns = alone.result(None)
        assert band["judged"] == round(columns["judged"] * LATENTS)
        for name in set(band) - {"judged", "intruder", "intruder_firing"}:  # an intruder must be silent in other bands, too
            assert band[name]["value"] == pytest.approx(columns[name], abs=2e-6), name


def test_bands_share_out_all_firings() -> None:
    firings = noise(often=0.6)
    parts = dict(bands(firings))
    assert list(parts) == ["1-4", "5-8"] and sum(len(part.row) for part in parts.values()) == len(firings.row)
    assert parts["1-4"].rank.max() == 3 and parts["5-8"].rank.min() == 4


def test_shells_that_differ_in_frequency_alone_are_equal_once_matched() -> None:
    """By hand: numbers that depend on the octave of firings alone; inner latents fire more often."""
    counts = np.array([16, 17, 30, 40, 12, 16, 18, 12, 13, 14, 15, 9])
    latent = np.repeat(np.arange(12), counts)
    names = Contexts(np.arange(40), np.zeros(40, dtype=int), np.zeros(40, dtype=int), None)
    rows = np.concatenate([np.arange(count) for count in counts])
    firings = Firings(latent, rows, np.ones(len(latent)), np.zeros_like(latent), np.arange(12), names, 40 * latent + rows)
    matching = Matching.of(firings, Shells(np.repeat([0, 1], [5, 7]), np.array([5, 7])))
    value = np.floor(np.log2(counts)).astype(float)
    value[3] = np.nan  # of no number: neither is it matched, nor does it count
    scores = Scores(value, latent[:0], latent[:0], np.zeros(0), 1)
    raw = [scores.mean(matching.raw(shell)).value for shell in (0, 1)]
    assert raw == pytest.approx([(4 * 3 + 3) / 4, (4 * 2 + 3 * 5) / 7])
    assert [matching.matched(shell, value).sum() for shell in (0, 1)] == pytest.approx([3, 3])  # two with 16 to 31 firings, one with 8 to 15
    matched = [scores.mean(matching.matched(shell, value)).value for shell in (0, 1)]
    assert matched == pytest.approx([(2 * 4 + 3) / 3] * 2)


def test_shells_are_the_nested_dictionaries_or_quarters_of_the_order() -> None:
    setting = Setting(4, 8, 8, 3)
    order = torch.tensor([7, 6, 5, 4, 3, 2, 1, 0])
    cut = shells_of(setting._replace(order=order, shells=torch.zeros(8, dtype=torch.long)))
    assert cut is not None and cut.of.tolist() == [2, 2, 2, 2, 1, 1, 0, 0] and cut.names == ["1-2", "3-4", "5-8"]
    nested = shells_of(setting._replace(order=order, shells=torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])))
    assert nested is not None and nested.names == ["1-5", "6-8"]
    assert shells_of(setting) is None and shells_of(setting._replace(order=order, usable=4)) is None


def shown(setting: Setting, batch: Batch) -> Metric:
    """A metric that has seen one batch."""
    metric = plugins.metric("latent_purity")(setting)
    metric.update(batch)
    return metric


def test_shells_on_the_page_are_means_over_their_latents() -> None:
    batch, order = made_up(rows=150), torch.arange(LATENTS)
    metric = shown(Setting(12, LATENTS, LATENTS, 9, order=order), batch)
    often = (dense_codes(batch)[~batch.text.massive] > 0).sum(0)
    told = metric.details()["shells"]
    assert list(told) == ["1-10", "11-20", "21-40"]
    assert [part["judged"] for part in told.values()] == [int((often[part] >= LEAST).sum()) for part in (slice(10), slice(10, 20), slice(20, 40))]
    whole = sum(part["judged"] * part["purity"]["raw"]["value"] for part in told.values()) / sum(part["judged"] for part in told.values())
    assert whole == pytest.approx(metric.result(None)["purity"], abs=1e-5)
    assert len({part["matched_latents"] for part in told.values()}) == 1


# the metric


def test_what_activations_are_measured_in_does_not_matter_and_negative_ones_are_silence() -> None:
    batch = made_up()
    codes, found = batch.codes, measured("latent_purity", [batch]).result(None)
    for scale in (1e-6, 1e6):
        assert measured("latent_purity", [replace(batch, codes=codes._replace(values=scale * codes.values))]).result(None) == pytest.approx(found, abs=1e-5)
    below = torch.where(codes.values > 0.5, codes.values, -codes.values)
    above = measured("latent_purity", [replace(batch, codes=ragged(dense_codes(batch) * (dense_codes(batch) > 0.5)))]).result(None)
    assert measured("latent_purity", [replace(batch, codes=codes._replace(values=below))]).result(None) == pytest.approx(above, abs=1e-6)


def test_without_embeddings_tokens_alone_are_measured() -> None:
    batch = made_up()
    metric = measured("latent_purity", [replace(batch, text=replace(batch.text, embed=None))])
    found = metric.result(None)
    assert {name for name, value in found.items() if isinstance(value, Missing)} == {name for name in found if name.startswith(("mono", "intruder"))}
    assert isinstance(found["intruder"], Missing) and "embeddings" in found["intruder"].reason
    assert set(metric.details()["bands"]["1-4"]) == {"judged", "purity", "purity_firing"}


def test_the_share_that_is_judged_is_of_the_latents_in_use() -> None:
    batch = made_up()
    often = (dense_codes(batch)[~batch.text.massive] > 0).sum(0)
    assert shown(Setting(12, LATENTS, 32, 9), batch).result(None)["judged"] == pytest.approx(int((often >= LEAST).sum()) / 32)
    rare = measured("latent_purity", [replace(batch, codes=ragged(dense_codes(batch) * (torch.arange(len(batch.x_hat)) < 9)[:, None]))])
    assert all(isinstance(value, Missing) and "fires on 10" in value.reason for value in rare.result(None).values()) and rare.details() == {}
