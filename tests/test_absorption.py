"""Absorption: planted worlds whose answers are known, rules by hand, and one slow plain loop over everything against random codes."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from sae_bench_htopk import plugins
from sae_bench_htopk.absorbing import absorbed, pairs
from sae_bench_htopk.contract import Batch, Codes, Metric, Missing, Setting, Text
from sae_bench_htopk.labels import Label
from sae_bench_htopk.questions import CHOOSE, FIT, SCORE, parts
from tests.made_up_text import made_up, ragged, read

DOCUMENTS, EACH, WIDTH, SIZE = 12, 200, 6, 8


class Nested:
    """Every third token is outer, every second of them inner, every fifth of them odd; every third of all is round, with nothing within it."""

    labels = (Label("outer", ""), Label("inner", "", within="outer"), Label("odd", "", within="outer"), Label("round", ""))
    whole = False

    def of(self, document: int, text: str, span: np.ndarray) -> np.ndarray:
        """By a token's place."""
        place = span[:, 0] // 3
        return np.stack((place % 3 == 0, place % 6 == 0, place % 15 == 0, place % 3 == 1), axis=1)


class Flat(Nested):
    """Labels without a hierarchy."""

    labels = (Label("outer", ""), Label("inner", ""), Label("odd", ""), Label("round", ""))


NESTED, TEXTS = Nested(), made_up(documents=DOCUMENTS).text.texts
PLACE, DOCUMENT = np.repeat(np.arange(EACH), DOCUMENTS), np.tile(np.arange(DOCUMENTS), EACH)
OUTER, INNER, ODD, _ = NESTED.of(0, "", np.stack((3 * PLACE, 3 * PLACE + 3), axis=1)).T
PART = parts(TEXTS)[DOCUMENT]
MIDDLE = torch.full((WIDTH,), 5.0)  # of x, where the labels' channel is 0


def batch_of(codes: Tensor, noise: float = 0.1, shows: np.ndarray = OUTER) -> Batch:
    """Text whose first channel shows the outer label, as far as noise lets it, or whatever `shows` says, with these codes."""
    random = torch.Generator().manual_seed(1)
    x = noise * torch.randn(len(OUTER), WIDTH, generator=random) * torch.linspace(0.5, 3, WIDTH) + MIDDLE
    x[:, 0] += torch.from_numpy(np.where(shows, 1.0, -1.0)).float()
    batch = read(x, x, torch.from_numpy(DOCUMENT), codes, list(TEXTS))
    return Batch(Text(**{**vars(batch.text), "labels": NESTED}), x, batch.codes)


def metric_of(batch: Batch, W: Tensor | None, b: Tensor | None = MIDDLE) -> Metric:
    """The metric after this batch."""
    metric = plugins.metric("absorption")(Setting(WIDTH, SIZE, SIZE, DOCUMENTS, 4, W_dec=W, b_dec=b))
    metric.update(batch)
    return metric


def sklearn_probe(x: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, StandardScaler, LogisticRegression]:
    """The direction by Newton's method, its scaler and its probe."""
    scaler = StandardScaler().fit(x)
    fitted = LogisticRegression(class_weight="balanced", solver="newton-cholesky", tol=1e-10).fit(scaler.transform(x), label)
    weights = fitted.coef_[0] / scaler.scale_
    return weights / np.linalg.norm(weights), scaler, fitted


def direction_of(batch: Batch) -> np.ndarray:
    """That of the outer label, by scikit-learn."""
    return sklearn_probe(batch.text.x.double().numpy()[PART == FIT], OUTER[PART == FIT])[0]


def beside(direction: np.ndarray) -> np.ndarray:
    """A unit vector at a right angle to it."""
    other = np.eye(WIDTH)[1] - direction[1] * direction
    return np.asarray(other / np.linalg.norm(other))


def planted(first: np.ndarray, second: np.ndarray, mixed: float) -> tuple[Mapping[str, float | Missing], Mapping[str, Any]]:
    """Latent 0 is the outer label's direction, latent 1 holds `mixed` of it; where each fires is given."""
    codes = torch.zeros(len(OUTER), SIZE)
    codes[:, 0], codes[:, 1] = torch.from_numpy(2.0 * first), torch.from_numpy(1.0 * second)
    batch = batch_of(codes)
    direction, W = direction_of(batch), np.random.default_rng(0).standard_normal((SIZE, WIDTH))
    W[0], W[1] = 3 * direction, mixed * direction + beside(direction)
    metric = metric_of(batch, torch.from_numpy(W).float())
    assert json.loads(json.dumps(metric.details())) == metric.details()
    return metric.result(None), metric.details()["inner"]


def test_a_latent_that_fires_on_every_row_absorbs_nothing() -> None:
    found, details = planted(OUTER, INNER, 0.5)
    assert found == {"absorption": 0, "absorption_fraction": 0, "silent": 0, "absorption_rest": 0}
    assert (details["within"], details["main_latents"], details["main_f1"], details["f1_on_x"]) == ("outer", [0], 1, 1)


def test_a_latent_that_falls_silent_where_another_carries_its_direction_is_absorbed() -> None:
    """Of the pairs, (outer, inner) wholly; (outer, odd) nowhere, as its main latents are both."""
    found, details = planted(OUTER & ~INNER, INNER, 0.5)
    assert found == {"absorption": 0.5, "absorption_fraction": 0.5, "silent": 0.5, "absorption_rest": 0}
    assert details["main_latents"] == [0] and details["main_f1"] == 1 and (details["absorbed"], details["absorbed_rest"]) == (1.0, 0.0)
    rows = int((INNER & (PART == SCORE)).sum())
    assert details["inside"] == {"rows": rows, "silent": rows, "absorbed": rows, "fraction": 1.0, "absorbers": [[1, 1.0]]}
    rows = int((OUTER & ~INNER & ~ODD & (PART == SCORE)).sum())
    assert details["rest"] == {"rows": rows, "silent": 0, "absorbed": 0, "fraction": 0.0, "absorbers": []}


def test_a_silent_latent_with_nothing_in_its_place_is_no_absorption() -> None:
    found, details = planted(OUTER & ~INNER, INNER, 0.0)
    assert details["inside"]["silent"] == details["inside"]["rows"] > 0 == details["inside"]["absorbed"]
    assert found == {"absorption": 0, "absorption_fraction": 0, "silent": 0.5, "absorption_rest": 0}


def test_a_main_latent_that_is_bad_is_silent_everywhere_and_the_rest_shows_it() -> None:
    """Latent 0 fires on one outer row in four, whatever else it carries; latent 1 on all others."""
    quarter = OUTER & (np.random.default_rng(0).random(len(OUTER)) < 0.25)
    codes = np.where(quarter, 40.0, 0.0)  # the strongest contrast; the other latent fires everywhere, and adds less than 0.03 to F1
    found, details = planted(codes, ~quarter, 0.5)
    assert details["main_latents"] == [0]
    assert found["absorption"] == found["silent"] == pytest.approx(0.75, abs=0.08) and found["absorption_rest"] == pytest.approx(0.75, abs=0.08)


Fate = tuple[bool, bool, float, int]  # silent, full, fraction and strongest latent


def by_hand(rows: list[dict[int, float]], carries: list[float], cosine: list[float], main: list[int], on_x: list[float]) -> list[Fate]:
    """Rows of {latent: value}, and what x carries on each."""
    values = torch.tensor([value for row in rows for value in row.values()], dtype=torch.float64)
    latents = torch.tensor([latent for row in rows for latent in row], dtype=torch.long)
    offsets = torch.tensor([0, *np.cumsum([len(row) for row in rows])])
    found = absorbed(Codes(values, latents, offsets), np.array(carries), np.array(cosine), main, np.array(on_x))
    return [(bool(silent), bool(full), float(part), int(latent)) for silent, full, part, latent in zip(*found, strict=True)]


CARRIES, COSINE = [1.0, 1, 1, 1, 1, 1, -1, 1], [0.9, 0.1, 0.2, 0.2, 0.2, 0.02, -0.5, 0.09]


def test_the_boundaries_by_hand() -> None:
    """Latent 0 is the main one, 5 is hardly aligned, 6 carries against the direction; what codes carry is more than what x carries."""
    rows: list[tuple[dict[int, float], Fate]] = [
        ({1: 4, 2: 3, 3: 3}, (True, True, 1.0, 1)),  # exactly 0.4
        ({1: 3.875, 2: 3.125, 3: 3}, (True, False, 1.0, 1)),
        ({5: 4, 2: 3}, (True, False, 1.0, 5)),  # the strongest has cosine 0.02; 3 of 7 is above 0.4
        ({5: 4, 2: 2}, (True, False, 0.0, 5)),  # 2 of 6 is below
        ({7: 4}, (True, True, 0.0, 7)),  # aligned enough to absorb alone, not to count in the fraction
        ({}, (True, False, 0.0, -1)),
        ({0: 2}, (False, False, 0.0, 0)),
        ({0: 2, 1: 3, 2: 1, 3: 1, 4: 0.5}, (False, False, 5 / 7, 1)),  # the three that carry most, and main
        ({0: 2, 1: 3, 2: 1, 3: 1, 4: 0.5, 6: 1}, (False, False, 4.5 / 6.5, 1)),  # others count for no more than main leaves of the total
        ({0: 8, 1: 2}, (False, False, 0.0, 0)),  # 2 of 10
        ({0: 6, 1: 4}, (False, False, 0.4, 0)),
        ({0: 4, 1: 4, 6: 4}, (False, False, 0.0, 0)),  # main carries all of the total
        ({2: 3, 1: 3}, (True, True, 1.0, 1)),  # ties go to the first latent
    ]
    for on_x in (1e-9, 0.1):
        found = by_hand([row for row, _ in rows], CARRIES, COSINE, [0], [on_x] * len(rows))
        for (row, wanted), got in zip(rows, found, strict=True):
            assert got == pytest.approx(wanted), row
    assert by_hand([{0: 1.0, 1: 4.0}], [-1.0, 1.0], [-0.1, 0.9], [0], [1.0]) == [(False, False, 1.0, 1)]  # a main latent that carries less than nothing
    for on_x in (-1.0, 0.0):  # x carries nothing that could be absorbed
        assert by_hand([{1: 4}, {0: 1, 1: 4}], CARRIES, COSINE, [0], [on_x] * 2) == [(True, False, 0.0, 1), (False, False, 0.0, 1)]


def test_shares_are_of_what_x_carries_where_that_is_more() -> None:
    """The same latents; beside each row's codes what x carries."""
    rows: list[tuple[dict[int, float], float, Fate]] = [
        ({1: 4}, 10, (True, True, 1.0, 1)),  # exactly 0.4
        ({1: 4}, 10.25, (True, False, 0.0, 1)),
        ({1: 4, 2: 1}, 10.25, (True, False, 1.0, 1)),  # 5 of 10.25
        ({1: 4, 6: 5}, 8, (True, True, 1.0, 1)),  # codes carry less than nothing, but x does not
        ({}, 8, (True, False, 0.0, -1)),
        ({0: 2, 1: 3, 2: 1, 6: 4}, 8, (False, False, 4 / 6, 1)),
        ({0: 2, 1: 3, 2: 1, 6: 4}, 5, (False, False, 3 / 5, 1)),  # main leaves 3 of x's 5
        ({0: 2, 1: 3, 2: 1}, 10, (False, False, 4 / 6, 1)),  # exactly 0.4 of x's 10
        ({0: 2, 1: 3, 2: 1}, 10.25, (False, False, 0.0, 1)),
        ({0: 4, 1: 4, 6: 4}, 5, (False, False, 1 / 5, 0)),  # main carries all that codes come to, and not all that x does
    ]
    found = by_hand([row for row, _, _ in rows], CARRIES, COSINE, [0], [on_x for _, on_x, _ in rows])
    for (row, on_x, wanted), got in zip(rows, found, strict=True):
        assert got == pytest.approx(wanted), (row, on_x)


def test_a_code_that_carries_next_to_nothing_absorbs_nothing() -> None:
    """3e-5 of the direction at a cosine of .03, and nothing else: all of what the codes carry, but not of what x does."""
    codes = Codes(torch.tensor([0.001]), torch.tensor([1]), torch.tensor([0, 1]))
    found = absorbed(codes, np.array([1, 0.03]), np.array([1, 0.03]), [0], np.array([1.0]))
    assert (found.silent.tolist(), found.full.tolist(), found.fraction.tolist()) == ([True], [False], [0])


@pytest.mark.parametrize("k", [8, 32])
def test_random_codes_on_a_random_decoder_absorb_nothing(k: int) -> None:
    """They come to x's length at a right angle to it, or nearly so; x has a cosine of .3 to p, and the main latents never fire.

    Shares of what codes carry alone would be 0.4 or more on nearly half of the rows, however many codes there are.
    """
    random, width, latents, rows = np.random.default_rng(k), 192, 512, 2000
    W = random.standard_normal((latents, width))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    direction = np.eye(width)[0]
    x = random.standard_normal((rows, width)) * np.sqrt((1 - 0.3**2) / (width - 1))
    x[:, 0] = 0.3 * random.uniform(0.8, 1.2, rows)
    chosen = np.stack([random.permutation(np.arange(2, latents))[:k] for _ in range(rows)])
    values = np.abs(random.standard_normal((rows, k))) / np.sqrt(k)
    codes = Codes(torch.from_numpy(values.ravel()), torch.from_numpy(chosen.ravel()), torch.arange(0, rows * k + 1, k))
    found = absorbed(codes, W @ direction, W @ direction, [0, 1], x @ direction)
    parts = [[value * float(W[latent] @ direction) for value, latent in zip(*row, strict=True)] for row in zip(values, chosen, strict=True)]
    alone = np.mean([sum(part) > 0 and max(part) >= 0.4 * sum(part) for part in parts])
    assert found.silent.all() and 0.35 < alone < 0.5
    assert found.full.mean() < 0.02 and found.fraction.mean() < 0.1


def slow(codes: np.ndarray, W: np.ndarray, x: np.ndarray, direction: np.ndarray, main: list[int]) -> tuple[bool, bool, float]:
    """One row, as the rules are told: silent, fully absorbed, fraction. x is without b_dec."""
    part = {latent: float(value * (W[latent] @ direction)) for latent, value in enumerate(codes) if value != 0}
    cosine = W @ direction / np.linalg.norm(W, axis=1)
    silent, total = not any(latent in part for latent in main), sum(part.values())
    along = sum(float(one * other) for one, other in zip(x, direction, strict=True))
    total = max(total, along) if along > 0 else 0.0
    full = False
    if silent and part and total > 0:
        top = max(part, key=lambda latent: part[latent])
        full = cosine[top] >= 0.025 and part[top] / total >= 0.4
    mine = sum(part.get(latent, 0.0) for latent in main)
    near = sorted((value for latent, value in part.items() if latent not in main and cosine[latent] >= 0.1 and value > 0), reverse=True)
    others = sum(near[:3])
    if total <= 0 or mine >= total or others / total < 0.4:
        return silent, full, 0.0
    if mine <= 0:
        return silent, full, 1.0
    others = min(others, total - mine)
    return silent, full, others / (others + mine)


def slow_main(codes: np.ndarray, norms: np.ndarray, inner: np.ndarray) -> list[int]:
    """Chanin's rule, on rows without the inner label: by contrast on CHOOSE, as long as F1 on FIT rises by 0.03."""
    choose, fit = (PART == CHOOSE) & ~inner, (PART == FIT) & ~inner
    contrast = (codes[choose & OUTER].mean(0) - codes[choose & ~OUTER].mean(0)) * norms
    order = sorted((latent for latent in range(SIZE) if contrast[latent] > 0), key=lambda latent: -contrast[latent])
    main, best = order[:1], f1_score(OUTER[fit], (codes[fit][:, order[:1]] != 0).any(1))
    for latent in order[1:10]:
        f1 = f1_score(OUTER[fit], (codes[fit][:, [*main, latent]] != 0).any(1))
        if f1 < best + 0.03:
            break
        main, best = [*main, latent], f1
    return main


def random_world(seed: int) -> tuple[Batch, np.ndarray, Tensor]:
    """Codes that fire with the labels more or less often, in a text that a probe does not always read; and a decoder of any lengths."""
    random = np.random.default_rng(seed)
    rates = 0.05 + 0.3 * random.random((SIZE, 1)) + 0.5 * random.random((SIZE, 1)) * np.where(random.random((SIZE, 1)) < 0.5, OUTER, OUTER & ~INNER)
    codes = torch.from_numpy(np.where(random.random((SIZE, len(OUTER))) < rates, random.random((SIZE, len(OUTER))), 0).T).float()
    W = torch.from_numpy(random.standard_normal((SIZE, WIDTH)) * random.uniform(0.3, 3, (SIZE, 1))).float()
    return batch_of(codes, noise=2.5), codes.double().numpy(), W


@pytest.mark.parametrize("seed", range(6))
def test_everything_is_what_a_slow_plain_loop_finds_and_a_weight_is_a_number_of_copies_of_a_documents_rows(seed: int) -> None:
    batch, codes, W = random_world(seed)
    x, w = batch.text.x.double().numpy(), W.double().numpy()
    direction, scaler, probe = sklearn_probe(x[PART == FIT], OUTER[PART == FIT])
    right = OUTER & (PART == SCORE) & (probe.decision_function(scaler.transform(x)) > 0)
    assert 0.6 < right.sum() / (OUTER & (PART == SCORE)).sum() < 0.95
    b = np.random.default_rng(seed).normal([6, 5, 5, 5, 5, 5], 0.5)
    metric, mains = metric_of(batch, W, torch.from_numpy(b)), [slow_main(codes, np.linalg.norm(w, axis=1), inner) for inner in (INNER, ODD)]
    assert [metric.details()[name]["main_latents"] for name in ("inner", "odd")] == mains
    fates = [{row: slow(codes[row], w, x[row] - b, direction, main) for row in np.flatnonzero(right)} for main in mains]
    more = (codes @ (w @ direction) > (x - b) @ direction)[right]
    assert 0.05 < more.mean() < 0.95  # totals of both kinds: what codes carry, and what x does
    counts = np.array([2, 0, 1, 3, 1, 1, 0, 1, 2, 4, 1, 2])
    for weights, result in ((np.ones(DOCUMENTS, dtype=int), metric.result(None)), (counts, metric.result(torch.from_numpy(counts).double()))):

        def mean(groups: tuple[np.ndarray, np.ndarray], which: int, weights: np.ndarray = weights) -> float:
            shares = []
            for fate, group in zip(fates, groups, strict=True):
                shares.append(np.mean([fate[row][which] for row in np.flatnonzero(right & group) for _ in range(weights[DOCUMENT[row]])]))
            return float(np.mean(shares))

        rest = ~INNER & ~ODD
        wanted = {name: mean((INNER, ODD), which) for name, which in (("absorption", 1), ("absorption_fraction", 2), ("silent", 0))}
        assert result == pytest.approx({**wanted, "absorption_rest": mean((rest, rest), 1)}, abs=1e-6)
    together = metric.results(torch.from_numpy(np.stack((counts, np.ones(DOCUMENTS), np.zeros(DOCUMENTS)))).double())
    assert together[0] == pytest.approx(result) and together[1] == pytest.approx(metric.result(None))
    assert all(isinstance(value, Missing) for value in together[2].values())


def test_the_direction_is_scikit_learns_in_the_units_of_x_and_shared() -> None:
    batch, _, W = random_world(0)
    metric: Any = metric_of(batch, W)
    questions, told = metric.told()
    found = pairs(metric.codes.sample, questions)
    assert not isinstance(found, Missing)
    assert [[questions.labels[label].name for label in (one.outer, one.inner)] for one in found] == [["outer", "inner"], ["outer", "odd"]]
    assert found is pairs(metric.codes.sample, questions) and all(one.pair is pair for one, pair in zip(told, found, strict=True))
    x = metric.codes.sample.rows.x.double().numpy()[questions.rows]
    assert all(one.on_x == pytest.approx(x[one.rows] @ direction_of(batch), abs=5e-3) for one in found)
    assert found[0].direction == pytest.approx(direction_of(batch), abs=1e-4) and np.linalg.norm(found[0].direction) == pytest.approx(1)


def test_main_latents_are_added_while_they_help_and_see_no_scored_document() -> None:
    """Two halves of the outer rows that are not inner, a latent that adds nothing, one for rows that are scored, and one for inner rows."""
    scored = PART == SCORE
    codes = torch.zeros(len(OUTER), SIZE)
    halves = OUTER & (PLACE % 4 == 3), OUTER & (PLACE % 4 == 1)
    for latent, (rows, value) in enumerate(((halves[1], 3.0), (OUTER & scored, 9.0), (halves[0], 2.0), (halves[0], 1.0), (INNER, 4.0))):
        codes[:, latent] = torch.from_numpy(value * rows)
    metric = metric_of(batch_of(codes), torch.randn(SIZE, WIDTH, generator=torch.Generator().manual_seed(0)).sign())
    details = metric.details()["inner"]
    assert details["main_latents"] == [0, 2] and details["main_f1"] == 1


def test_numbers_do_not_change_with_the_scale_of_a_latent() -> None:
    """Codes divided by what its decoder row is multiplied with."""
    _, codes, W = random_world(1)
    scales = torch.tensor([2.0, 0.5, 4, 1, 8, 0.25, 2, 1])
    one, other = (
        metric_of(batch_of(torch.from_numpy(codes).float(), 2.5), W),
        metric_of(batch_of(torch.from_numpy(codes).float() / scales, 2.5), W * scales[:, None]),
    )
    assert one.result(None) == pytest.approx(other.result(None)) and one.details() == other.details()


def reasons(metric: Metric) -> set[str]:
    """Why there are no numbers."""
    answer = metric.result(None)
    assert metric.details() == {} and all(isinstance(value, Missing) for value in answer.values())
    return {value.reason for value in answer.values() if isinstance(value, Missing)}


def shows_of(kept: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The outer rows but for those of `hidden` that are not kept."""
    return OUTER & (kept | ~hidden)


@pytest.mark.parametrize(("right", "there"), [(114, False), (116, True)])
def test_a_label_that_x_does_not_show_clearly_is_left_out(right: int, there: bool) -> None:
    """A probe that is never wrong but finds only some of the 268 outer rows that are scored: F1 is 2 r / (1 + r), and .6 at 3 / 7 of them."""
    scored = np.flatnonzero(OUTER & (PART == SCORE))
    kept = np.zeros(len(OUTER), dtype=bool)
    kept[np.random.default_rng(0).permutation(scored)[:right]] = True
    batch = batch_of(torch.from_numpy(np.where(OUTER, 1.0, 0.0))[:, None].repeat(1, SIZE).float(), shows=shows_of(kept, PART == SCORE))
    metric, f1 = metric_of(batch, torch.ones(SIZE, WIDTH)), 2 * right / (len(scored) + right)
    assert len(scored) == 268 and (f1 > 0.6) == there
    if there:
        assert {name: facts["f1_on_x"] for name, facts in metric.details().items()} == pytest.approx({"inner": f1, "odd": f1})
    else:
        assert "no probe on x" in reasons(metric).pop()


@pytest.mark.parametrize(("right", "names"), [(19, ["inner"]), (20, ["inner", "odd"])])
def test_a_label_of_which_the_probe_finds_few_rows_is_left_out(right: int, names: list[str]) -> None:
    """x hides the odd rows that are scored, all but so many."""
    hidden, kept = ODD & (PART == SCORE), np.zeros(len(OUTER), dtype=bool)
    kept[np.random.default_rng(0).permutation(np.flatnonzero(hidden))[:right]] = True
    batch = batch_of(torch.from_numpy(np.where(OUTER, 1.0, 0.0))[:, None].repeat(1, SIZE).float(), shows=shows_of(kept, hidden))
    details = metric_of(batch, torch.ones(SIZE, WIDTH)).details()
    assert list(details) == names and all(facts["f1_on_x"] > 0.6 for facts in details.values())
    assert "odd" not in details or details["odd"]["inside"]["rows"] == right


def test_what_cannot_be_measured_says_why() -> None:
    batch, _, W = random_world(0)
    for unknown in (metric_of(batch, None), metric_of(batch, W, None)):
        assert "decoder or its bias is not known" in reasons(unknown).pop()
    flat = Batch(Text(**{**vars(batch.text), "labels": Flat()}), batch.x_hat, batch.codes)
    assert "no label has another within it" in reasons(metric_of(flat, W)).pop()
    unplaced = Batch(Text(**{**vars(batch.text), "span": torch.zeros_like(batch.text.span)}), batch.x_hat, batch.codes)
    assert "place" in reasons(metric_of(unplaced, W)).pop()
    silent = Batch(batch.text, batch.x_hat, ragged(torch.zeros(len(OUTER), SIZE)))
    assert "no latent fires more" in reasons(metric_of(silent, W)).pop()
