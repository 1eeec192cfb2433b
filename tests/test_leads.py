"""The arithmetic of leads: draws paired document by document, Welch over seeds, exactly one L0, and how often equal SAEs are told apart."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import r2_score

from sae_bench_htopk import leads, pairs, plugins, resampling
from sae_bench_htopk.board import Board, assemble
from sae_bench_htopk.contract import Missing, Setting
from sae_bench_htopk.rows import summary
from sae_bench_htopk.saes import DELTA, EV, L0, Sae
from tests.made_up_text import LATENTS, read
from tests.test_leaderboard import Made, make

HELD_OUT = 60  # documents in the records of test_leaderboard
Drawn = Mapping[int, Sequence[float]]  # k -> what draws of documents gave


def record(variant: str, seed: int, ev: Mapping[int, float], drawn: Drawn, l0: Mapping[int, float] | None = None, column: str = EV) -> Made:
    """An SAE read by row at some budgets, with the number of each and its draws; its measured L0 is the budget, unless it is given."""
    made = make(variant, 8, seed)
    rows = [row for row in made["rows"] if row["reading"]["select"] == "row" and row["reading"]["k"] in ev]
    for row in rows:
        k = row["reading"]["k"]
        row |= {"native": True, "draws": {column: list(drawn[k])} if k in drawn else {}, "drawn": "d1"}
        row["values"] |= {column: ev[k], L0: (l0 or {}).get(k, float(k))}
    return {**made, "rows": rows}


def board_of(*records: Made) -> tuple[Board, dict[str, Sae]]:
    """The board, and its SAEs by variant."""
    board = assemble(records)
    return board, {sae.variant: sae for sae in board.saes}


def lead(column: str, k: int, *records: Made, of: tuple[str, str] = ("topk", "batchtopk")) -> leads.Lead:
    """Of one variant over the other."""
    saes = board_of(*records)[1]
    return leads.lead(column, k, saes[of[0]], saes[of[1]])


def half(column: str, k: int, *records: Made) -> float | Missing:
    """Half the interval over documents of TopK's lead over BatchTopK."""
    return half_of(lead(column, k, *records).documents)


def t_of(known_by: int) -> float:
    """Standard errors in half a 95% interval whose error is known by so many draws, or documents if they are fewer."""
    return float(stats.t.ppf(0.975, min(known_by, HELD_OUT) - 1))


def half_of(noise: leads.Noise | Missing) -> float | Missing:
    """Half its interval."""
    return noise if isinstance(noise, Missing) else noise.half()


def test_the_difference_is_taken_draw_by_draw() -> None:
    """Where both numbers swing alike by far more than they differ, only what they differ by is left: 0 and 0.2 in turn have a deviation of 0.1."""
    swings, differ = np.random.default_rng(3).normal(0, 50, 1000), np.tile([0.0, 0.2], 500)
    found = half(EV, 8, record("topk", 0, {8: 1.0}, {8: swings + differ}), record("batchtopk", 0, {8: 0.5}, {8: swings}))
    assert found == pytest.approx(t_of(1000) * 0.1, rel=1e-3)


def test_where_lower_is_better_the_lead_is_turned() -> None:
    """A loss of 1.5 leads one of 3 by 1.5, and a divergence too, which no headline shows."""
    for column in (DELTA, "downstream_loss.kl"):
        found = lead(column, 8, record("topk", 0, {8: 1.5}, {}, column=column), record("batchtopk", 0, {8: 3.0}, {}, column=column))
        assert found.value == pytest.approx(1.5)


def test_seeds_are_averaged_in_each_draw() -> None:
    """Two seeds that swing against each other make one number that does not move."""
    swings = np.linspace(-1, 1, 100)
    ours = [record("topk", seed, {8: 0.6}, {8: 0.6 + sign * swings}) for seed, sign in ((0, 1), (1, -1))]
    assert half(EV, 8, *ours, record("batchtopk", 0, {8: 0.5}, {8: [0.5] * 100})) == pytest.approx(0, abs=1e-12)


def test_draws_are_interpolated_as_the_number_is() -> None:
    """At an L0 of 8 between 4 and 32 the share of 32 is a third: log 2 of log 8. L0 stays at what was measured."""
    draws = {4: np.linspace(0, 3, 100), 8: [0.7] * 100, 16: [9.0] * 100}
    ours = record("topk", 0, {4: 0.3, 8: 0.7, 16: 0.6}, draws, l0={8: 32.0, 16: 64.0})
    theirs = record("batchtopk", 0, {8: 0.1}, {8: [0.1] * 100})
    found = lead(EV, 8, ours, theirs)
    assert found.value == pytest.approx(0.3 * 2 / 3 + 0.7 / 3 - 0.1) and found.interpolated
    assert half_of(found.documents) == pytest.approx(t_of(100) * 2 / 3 * np.linspace(0, 3, 100).std(ddof=1))
    ours["rows"][0]["draws"] = {}
    assert half(EV, 8, ours, theirs) == Missing("a record holds no draws of documents for it")


def curve(variant: str, l0: Mapping[int, float], seeds: int = 2, random: np.random.Generator | None = None) -> list[Made]:
    """Seeds whose readings all lie on one curve, EV = 0.5 + 0.1 ln L0, under every draw of documents; a little noise in each draw, if asked for."""
    made = []
    for seed in range(seeds):
        ev = {k: 0.5 + 0.1 * math.log(at) for k, at in l0.items()}
        noise = np.zeros(100) if random is None else random.normal(0, 1e-6, 100)
        made.append(record(variant, seed, ev, {k: value + noise for k, value in ev.items()}, l0=l0))
    return made


def test_two_saes_on_one_curve_have_no_lead_though_both_are_read_near_k() -> None:
    """At 8.15 and 7.85 they differ by 0.0037 in the headline, which stays as it is."""
    made = curve("topk", {4: 4.0, 8: 8.15, 16: 16.0}) + curve("batchtopk", {4: 4.0, 8: 7.85, 16: 16.0})
    board, saes = board_of(*made)
    best = board.best(EV, 8)
    assert best and best.next and best.number.mean - best.next[1].mean == pytest.approx(0.1 * math.log(8.15 / 7.85)) and best.number.how == "read"
    found = leads.lead(EV, 8, saes["topk"], saes["batchtopk"])
    assert found.value == pytest.approx(0, abs=1e-12) and found.l0s is None and found.interpolated
    assert pairs.verdict(found) == "not clear: documents; seeds"


def test_without_readings_on_both_sides_a_lead_of_l0_alone_is_not_clear() -> None:
    """8 is the largest budget of all: one stands at 8.15, by the readings on both sides at 8, the other cannot be brought up from 7.85."""
    random = np.random.default_rng(0)
    found = lead(EV, 8, *curve("topk", {4: 4.0, 8: 8.15}, random=random), *curve("batchtopk", {4: 4.0, 8: 7.85}, random=random))
    assert found.value == pytest.approx(0.1 * math.log(8 / 7.85)) and found.l0s == pytest.approx((8, 7.85))
    assert pairs.verdict(found) == "not clear: L0" and pairs.cells(found)[0].endswith(" (L0 8.000 against 7.850)")
    same = lead(EV, 8, *curve("topk", {4: 4.0, 8: 7.851}), *curve("batchtopk", {4: 4.0, 8: 7.85}))
    assert same.l0s is None and same.value == pytest.approx(0.1 * math.log(7.851 / 7.85))
    assert found.by_l0 == pytest.approx(2 * 0.1 * math.log(8 / 7.85))
    exact = lead(EV, 8, *curve("topk", {8: 8.0}), *curve("batchtopk", {8: 8.0}))
    assert exact.l0s is None and not exact.interpolated


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda made: made["text"].update(held_out="other"), "measured on different text"),
        (lambda made: made["text"].update(held_out_tokens=5), "measured on different text"),
        (lambda made: made["model"].update(fingerprint="other"), "measured on different text"),
        (lambda made: made["rows"][0].update(drawn="d2"), "measured under different draws of documents"),
        (lambda made: made["rows"][0].update(drawn={"explained_variance": "d2"}), "measured under different draws of documents"),
        (lambda made: made["rows"][0]["draws"].update({EV: [0.5] * 99}), "readings hold 99 and 100 draws of documents"),
        (lambda made: made["rows"][0]["draws"].clear(), "a record holds no draws of documents for it"),
    ],
)
def test_what_was_not_measured_alike_does_not_pair(change: object, reason: str) -> None:
    """Text, model, draws: whatever differs, there is no interval, and the reason is said."""
    one, other = (record(name, 0, {8: 0.5}, {8: [0.5] * 100}) for name in ("topk", "batchtopk"))
    saes = board_of(one)[1] | board_of(other)[1]
    assert leads.lead(EV, 8, saes["topk"], saes["batchtopk"]).documents == leads.Noise(0.0, HELD_OUT - 1)
    change(other)  # type: ignore[operator]
    saes = board_of(one)[1] | board_of(other)[1]  # a board would leave other text out
    assert leads.lead(EV, 8, saes["topk"], saes["batchtopk"]).documents == Missing(reason)


def test_each_metric_of_a_row_has_draws_of_its_own() -> None:
    """One that was measured later, under others, keeps no other from pairing; a row of an earlier record has one fingerprint for all."""
    one, other = (record(name, 0, {8: 0.5}, {8: [0.5] * 100}) for name in ("topk", "batchtopk"))
    other["rows"][0]["drawn"] = {"explained_variance": "d1", "downstream_loss": "d2"}
    assert half_of(lead(EV, 8, one, other).documents) == 0


def test_few_documents_are_not_drawn_from() -> None:
    """19 are too few, 20 will do."""
    made = [record(name, 0, {8: 0.5}, {8: [0.5] * 100}) for name in ("topk", "batchtopk")]
    for count, found in ((19, Missing("19 documents, too few to draw from")), (20, 0.0)):
        assert half(EV, 8, *({**one, "text": {**one["text"], "held_out_documents": count}} for one in made)) == found


@pytest.mark.parametrize(("one", "other"), [([0.50, 0.51, 0.53], [0.40, 0.42, 0.47]), ([0.50, 0.51], [0.40, 0.42, 0.47, 0.41]), ([0.5, 0.5001], [0.4, 0.41])])
def test_the_interval_over_seeds_is_that_of_welch(one: Sequence[float], other: Sequence[float]) -> None:
    """As scipy has it."""
    low, high = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert half_of(leads.over_seeds(one, other)) == pytest.approx((high - low) / 2)


def test_seeds_without_spread_and_single_ones() -> None:
    """Equal seeds leave no doubt; one seed cannot be tested."""
    assert half_of(leads.over_seeds([0.5, 0.5], [0.4, 0.4])) == 0 and leads.over_seeds([0.5], [0.4, 0.5]) == Missing("one seed alone")


ROWS, WIDTH, DOCUMENTS, NAME = 40, 6, 30, "explained_variance"


def documents(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Activations whose size differs from document to document, and two reconstructions that err alike, the second by a little more."""
    random = torch.Generator().manual_seed(seed)
    size = torch.rand(DOCUMENTS, 1, 1, generator=random) * 5
    x, error = (torch.randn(DOCUMENTS, ROWS, WIDTH, generator=random) for _ in range(2))
    error = error * size * torch.rand(DOCUMENTS, 1, 1, generator=random)
    one, other = ((x * size + factor * error).flatten(0, 1) for factor in (1.0, 1.03))
    return (x * size).flatten(0, 1), one, other


def evaluated(x: torch.Tensor, x_hat: torch.Tensor) -> Made:
    """The row of a record that these reconstructions come to."""
    kind = plugins.metric(NAME)
    metric = kind(Setting(WIDTH, LATENTS, LATENTS, DOCUMENTS))
    metric.update(read(x, x_hat, torch.arange(len(x)) // ROWS, torch.zeros(len(x), LATENTS), []))
    return summary({NAME: metric}, {NAME: kind}, DOCUMENTS, paired=True)


def as_record(variant: str, row: Made) -> Made:
    """A record with the values and draws of that row."""
    made = record(variant, 0, {8: row["values"][EV]}, {8: row["draws"][EV]})
    made["rows"][0]["drawn"] = row["drawn"]
    return made


def test_kept_draws_are_those_of_repeated_documents_and_pairs_are_far_surer_than_two_intervals() -> None:
    """A slow bootstrap repeats the drawn documents' rows and asks scikit-learn; documents differ far more than the two SAEs do."""
    x, *both = documents(0)
    ours = [evaluated(x, x_hat) for x_hat in both]
    drawn = np.random.default_rng(0).multinomial(DOCUMENTS, np.full(DOCUMENTS, 1 / DOCUMENTS), size=100)
    rows = [np.repeat(np.arange(len(x)), np.repeat(counts, ROWS)) for counts in drawn]
    slow = [[r2_score(x[these], x_hat[these], multioutput="variance_weighted", force_finite=False) for these in rows] for x_hat in both]
    totals = [[1 - float((x[r] - x_hat[r]).square().sum() / (x[r] - x[r].mean(0)).square().sum()) for r in rows] for x_hat in both]
    np.testing.assert_allclose(slow, totals, atol=1e-5)  # two ways to say the same
    for row, expected in zip(ours, slow, strict=True):
        np.testing.assert_allclose(row["draws"][EV], expected, atol=(max(expected) - min(expected)) / 1000)
    found = lead(EV, 8, *(as_record(name, row) for name, row in zip(("topk", "batchtopk"), ours, strict=True)))
    assert half_of(found.documents) == pytest.approx(t_of(100) * np.subtract(*slow).std(ddof=1), rel=0.01)
    independent = math.hypot(*(row["intervals"][EV][1] - row["intervals"][EV][0] for row in ours))
    assert not isinstance(half := half_of(found.documents), Missing) and half < found.value and 2 * half < independent / 10


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Errors of each document are known on average; 60 documents are drawn from the world 400 times. A bootstrap of 100 draws covers a little less than 95%."""
    random = np.random.default_rng(5)
    weights = resampling.draws(60)[1:].double().numpy()
    covered = []
    for _ in range(400):
        variance = random.gamma(2.0, 1.0, 60)
        share = random.beta(2, 8, 60)  # of each document's variance that is not explained
        errors = variance * share, variance * (share + random.normal(0.01, 0.03, 60))  # 0.01 on average, whatever the document
        both = [(1 - error.sum() / variance.sum(), 1 - weights @ error / (weights @ variance)) for error in errors]
        found = lead(EV, 8, *(record(name, 0, {8: value}, {8: draws}) for name, (value, draws) in zip(("topk", "batchtopk"), both, strict=True)))
        assert not isinstance(found.documents, Missing)
        covered.append(abs(found.value - 0.01) <= found.documents.half())
    assert 0.90 <= np.mean(covered) <= 0.98


def world(random: np.random.Generator, truth: float, seeds_noise: float, documents_noise: float) -> leads.Lead:
    """What the better one of two SAEs, by the headline, leads by: 3 seeds each, read by thresholds whose L0s are off by up to 2%, on one curve but for truth.

    A draw of documents moves all seeds of an SAE alike, and the held-out text is one draw from the world. All noise is that of the difference.
    """
    made = []
    for name, more in (("topk", truth), ("batchtopk", 0.0)):
        text, draws = random.normal(0, documents_noise / math.sqrt(2)), random.normal(0, documents_noise / math.sqrt(2), 100)
        off = random.uniform(-0.015, 0.015, 3)
        for seed in range(3):
            own = more + text + random.normal(0, seeds_noise * math.sqrt(3 / 2))
            l0 = {k: k * (1 + bias + random.uniform(-0.005, 0.005)) for k, bias in zip((4, 8, 16), off, strict=True)}
            ev = {k: 0.5 + 0.1 * math.log(at) + own for k, at in l0.items()}
            made.append(record(name, seed, ev, {k: value + draws for k, value in ev.items()}, l0=l0))
    best = board_of(*made)[0].best(EV, 8)
    assert best and best.next
    return leads.lead(EV, 8, best.sae, best.next[0])


@pytest.mark.parametrize("noises", [(1e-3, 1e-5), (1e-5, 1e-3), (1e-3, 1e-3)], ids=["seeds", "documents", "both"])
def test_two_saes_that_are_equal_are_seldom_told_apart_and_two_that_differ_nearly_always(noises: tuple[float, float]) -> None:
    """Whichever noise is the larger; the headline's L0s alone would differ by as much as the noise. In 5% of worlds."""
    random = np.random.default_rng(7)
    assert np.mean([pairs.verdict(world(random, 0.0, *noises)) == "clear" for _ in range(150)]) < 0.08
    assert np.mean([pairs.verdict(world(random, 0.012, *noises)) == "clear" for _ in range(20)]) > 0.95
