"""Paired differences: solved by hand, against a slow bootstrap that repeats rows, in simulations whose truth is known, and on a page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score

from sae_bench_htopk import pairs, plugins, resampling
from sae_bench_htopk.board import Board, assemble
from sae_bench_htopk.contract import Missing, Reading, Setting
from sae_bench_htopk.keys import MEASURING
from sae_bench_htopk.rows import pairable, summary
from sae_bench_htopk.saes import DELTA, EV, L0, SHOWN, Sae
from tests.test_leaderboard import Made, cells, make, page_of, put, section
from tests.test_metrics import LATENTS, read

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


def interval(column: str, k: int, *records: Made, of: tuple[str, str] = ("topk", "batchtopk")) -> tuple[float, float] | Missing:
    """Of the difference of two variants over documents."""
    saes = board_of(*records)[1]
    return pairs.over_documents(column, k, saes[of[0]], saes[of[1]])


def test_the_difference_is_taken_draw_by_draw() -> None:
    """Where both numbers swing alike by far more than they differ, only what they differ by is left: 0.00, 0.01, .. 1.00, middle 95%."""
    swings = np.random.default_rng(3).normal(0, 50, 101)
    theirs = record("batchtopk", 0, {8: 0.5}, {8: swings})
    found = interval(EV, 8, record("topk", 0, {8: 1.0}, {8: swings + np.arange(101) / 100}), theirs)
    assert found == pytest.approx((0.025, 0.975))


def test_where_lower_is_better_the_lead_is_turned() -> None:
    """A loss of 1 to 2 below 3 leads by 1 to 2."""
    one = record("topk", 0, {8: 1.5}, {8: np.linspace(1, 2, 101)}, column=DELTA)
    assert interval(DELTA, 8, one, record("batchtopk", 0, {8: 3.0}, {8: [3.0] * 101}, column=DELTA)) == pytest.approx((1.025, 1.975))


def test_seeds_are_averaged_in_each_draw() -> None:
    """Two seeds that swing against each other make one number that does not move."""
    swings = np.linspace(-1, 1, 100)
    ours = [record("topk", seed, {8: 0.6}, {8: 0.6 + sign * swings}) for seed, sign in ((0, 1), (1, -1))]
    assert interval(EV, 8, *ours, record("batchtopk", 0, {8: 0.5}, {8: [0.5] * 100})) == pytest.approx((0.1, 0.1))


def test_draws_are_interpolated_as_the_number_is() -> None:
    """At an L0 of 8 between 4 and 32 the share of 32 is a third: log 2 of log 8. L0 stays at what was measured."""
    draws = {4: np.linspace(0, 3, 100), 8: [0.7] * 100, 16: [9.0] * 100}
    ours = record("topk", 0, {4: 0.3, 8: 0.7, 16: 0.6}, draws, l0={8: 32.0, 16: 64.0})
    theirs = record("batchtopk", 0, {8: 0.1}, {8: [0.1] * 100})
    sae = board_of(ours, theirs)[1]["topk"]
    number = sae.at(EV, 8)
    assert not isinstance(number, Missing) and number.how == "interpolated" and number.mean == pytest.approx(0.3 * 2 / 3 + 0.7 / 3)
    low, high = np.quantile(np.linspace(0, 3, 100) * 2 / 3 + 0.7 / 3 - 0.1, [0.025, 0.975])
    assert interval(EV, 8, ours, theirs) == pytest.approx((low, high))
    ours["rows"][0]["draws"] = {}
    assert interval(EV, 8, ours, theirs) == Missing("a record holds no draws of documents for it")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda made: made["text"].update(held_out="other"), "measured on different text"),
        (lambda made: made["text"].update(held_out_tokens=5), "measured on different text"),
        (lambda made: made["model"].update(fingerprint="other"), "measured on different text"),
        (lambda made: made["rows"][0].update(drawn="d2"), "measured under different draws of documents"),
        (lambda made: made["rows"][0]["draws"].update({EV: [0.5] * 99}), "measured under different draws of documents"),
        (lambda made: made["rows"][0]["draws"].clear(), "a record holds no draws of documents for it"),
    ],
)
def test_what_was_not_measured_alike_does_not_pair(change: object, reason: str) -> None:
    """Text, model, draws: whatever differs, there is no interval, and the reason is said."""
    one, other = (record(name, 0, {8: 0.5}, {8: [0.5] * 100}) for name in ("topk", "batchtopk"))
    saes = board_of(one)[1] | board_of(other)[1]
    assert not isinstance(pairs.over_documents(EV, 8, saes["topk"], saes["batchtopk"]), Missing)
    change(other)  # type: ignore[operator]
    saes = board_of(one)[1] | board_of(other)[1]  # a board would leave other text out
    assert pairs.over_documents(EV, 8, saes["topk"], saes["batchtopk"]) == Missing(reason)


def test_a_lead_is_clear_only_of_both_noises() -> None:
    """Standard deviations 0.003 and 0.004 over two seeds each give sqrt((9 + 16) / 2) / 1000; one seed gives none."""
    number = board_of(record("topk", 0, {8: 0.5}, {}))[1]["topk"].at(EV, 8)
    assert not isinstance(number, Missing)
    one, other = number._replace(seeds=2, spread=0.003), number._replace(seeds=2, spread=0.004)
    assert pairs.over_seeds(one, other) == pytest.approx(math.sqrt(12.5) / 1000)
    assert pairs.over_seeds(one, number) == Missing("one seed alone")
    assert pairs.Lead(0.0070, (0.001, 0.01), math.sqrt(12.5) / 1000).doubts() == ["seeds"]
    assert pairs.Lead(0.0072, (0.001, 0.01), math.sqrt(12.5) / 1000).doubts() == []
    assert pairs.Lead(0.0072, (-0.001, 0.01), 0.01).doubts() == ["documents", "seeds"]
    assert pairs.Lead(0.0072, Missing("x"), Missing("y")).doubts() == ["documents not known", "seeds not known"]


def test_no_end_of_an_interval_is_rounded_to_nothing() -> None:
    """An end of 0.0003 beside 0.026 keeps its sign and a digit; the lead has those of the wider noise."""
    assert pairs.cells(pairs.Lead(0.0123, (0.0003, 0.026), 0.0008)) == ("0.012", "0.0003 to 0.026", "0.00080")
    assert pairs.cells(pairs.Lead(0.0123, (-0.0003, 0.026), 0.16)) == ("0.01", "-0.0003 to 0.026", "0.16")
    assert pairs.cells(pairs.Lead(0.0123, Missing("x"), Missing("y"))) == ("0.0123", Missing("x"), Missing("y"))


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
    found = interval(EV, 8, *(as_record(name, row) for name, row in zip(("topk", "batchtopk"), ours, strict=True)))
    assert not isinstance(found, Missing) and found == pytest.approx(np.quantile(np.subtract(*slow), [0.025, 0.975]), abs=1e-4)
    independent = math.hypot(*(row["intervals"][EV][1] - row["intervals"][EV][0] for row in ours))
    assert found[0] > 0 and found[1] - found[0] < independent / 10


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Errors of each document are known on average; 60 documents are drawn from the world 400 times. A bootstrap of 100 draws covers a little less than 95%."""
    random = np.random.default_rng(5)
    weights = resampling.draws(60)[1:].double().numpy()
    covered = []
    for _ in range(400):
        variance = random.gamma(2.0, 1.0, 60)
        share = random.beta(2, 8, 60)  # of each document's variance that is not explained
        errors = variance * share, variance * (share + random.normal(0.01, 0.03, 60))  # 0.01 on average, whatever the document
        draws = [1 - weights @ error / (weights @ variance) for error in errors]
        found = interval(EV, 8, *(record(name, 0, {8: 0.0}, {8: values}) for name, values in zip(("topk", "batchtopk"), draws, strict=True)))
        assert not isinstance(found, Missing)
        covered.append(found[0] <= 0.01 <= found[1])
    assert 0.90 <= np.mean(covered) <= 0.98


def test_a_row_keeps_the_draws_of_paired_columns_alone() -> None:
    """To a thousandth of their range; only of native readings, whole or of the most important latents; with the fingerprint of the draws."""
    row = evaluated(*documents(1)[:2])
    assert set(row["draws"]) == {EV} and len(row["draws"][EV]) == 100 and max(len(str(value)) for value in row["draws"][EV]) <= 8
    assert row["drawn"] == resampling.fingerprint(DOCUMENTS) != resampling.fingerprint(DOCUMENTS + 1)
    assert np.quantile(row["draws"][EV], [0.025, 0.975]) == pytest.approx(row["intervals"][EV], abs=1e-4)
    kind = plugins.metric(NAME)
    assert "draws" not in summary({}, {NAME: kind}, DOCUMENTS) and summary({}, {NAME: kind}, DOCUMENTS, paired=True)["draws"] == {}
    reading = Reading(8, select="threshold")
    fewer = replace(reading, latents=32)
    assert pairable(reading, "threshold") and pairable(fewer, "threshold")
    others = replace(reading, select="row"), replace(fewer, select="row"), replace(fewer, cut="after"), replace(fewer, rank="random")
    assert not any(pairable(other, "threshold") for other in others)
    assert resampling.brief([0.25, 0.25]) == [0.25, 0.25] and resampling.brief([0.1234567, 0.1334567]) == [0.12346, 0.13346]


def test_compared_columns_are_paired_as_far_as_they_are_resampled() -> None:
    """CKA over all rows is not: its interval would need moments by document. A change to how documents are drawn is seen by every key."""
    columns = {f"{metric}.{column.name}": column for metric in plugins.names("metrics") for column in plugins.metric(metric).columns}
    assert {name for name, column in columns.items() if column.paired} == {name for name in SHOWN if columns[name].resampled}
    assert "resampling" in MEASURING


def several(seeds: int = 2) -> list[Made]:
    """TopK above BatchTopK, at k = 8 by 0.1 and at k = 16 by 0.001, with draws that are sure of the first alone; none at 32."""
    made = []
    for seed in range(seeds):
        noise = 0.004 * seed
        swings = np.random.default_rng(0).normal(0, 0.05, 100)
        other = np.random.default_rng(1).normal(0, 0.01, 100)
        made.append(
            record(
                "topk",
                seed,
                {8: 0.6 + noise, 16: 0.701 + noise, 32: 0.8},
                {8: 0.6 + noise + swings + np.linspace(-0.02, 0.02, 100), 16: 0.701 + noise + swings + other},
            )
        )
        made.append(record("batchtopk", seed, {8: 0.5, 16: 0.7, 32: 0.75}, {8: 0.5 + swings, 16: 0.7 + swings}))
    return made


def test_the_page_says_at_which_budgets_the_lead_is_clear(tmp_path: Path) -> None:
    """Two seeds: SD 0.0028, standard error 0.002; at 16 neither noise is passed, at 32 there are no draws."""
    page = page_of(put(tmp_path, several()))
    said = section(page, "In short")
    assert "in explained variance clear at k = 8, not clear at k = 16 (documents; seeds), 32 (documents not known);" in said
    assert "significance" not in page
    table = (
        section(page, "Explained variance at each sparsity").split("<details><summary>Differences from the best at each k: EV", 1)[1].split("</details>", 1)[0]
    )
    assert cells(table, "8")[1:] == ["topk k=8", "batchtopk k=8", "0.102", "0.083 to 0.121", "0.0020", "yes"]
    assert cells(table, "16")[6] == "no: documents; seeds"
    assert cells(table, "32")[4] == "<sup>a</sup>" and "<sup>a</sup> a record holds no draws of documents for it" in table


def test_with_one_seed_the_page_does_not_call_anything_clear(tmp_path: Path) -> None:
    """Seeds are not known, documents are."""
    page = page_of(put(tmp_path, several(seeds=1)))
    said = section(page, "In short")
    assert "one seed, so no difference on this page is known to be more than chance" in said
    assert "not clear at k = 8 (seeds not known), 16 (documents; seeds not known), 32 (documents not known; seeds not known)" in said
    assert "clear at k = 8, not" not in said
