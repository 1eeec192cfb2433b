"""Each kind of test of the papers' claims, on records that support a claim, on records that contradict it, and on some that do neither."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from sae_bench_htopk.claim_ahead import Ahead
from sae_bench_htopk.claim_as_good import AsGood
from sae_bench_htopk.claim_cost import Cost
from sae_bench_htopk.claim_fades import Fades
from sae_bench_htopk.claim_falls_off import FallsOff
from sae_bench_htopk.claim_fewer_dead import FewerDead
from sae_bench_htopk.claim_frontier import Frontier
from sae_bench_htopk.claim_keeps import Keeps
from sae_bench_htopk.claim_ordering import Ordering
from sae_bench_htopk.claims import published
from sae_bench_htopk.evidence import Match
from sae_bench_htopk.judging import Judged
from sae_bench_htopk.saes import DELTA, EV
from tests.made_up_claims import SPREAD, Made, N, judged, sae, with_shells
from tests.made_up_claims import joined as join

HALF, QUARTER = N // 2, N // 4
INTRUDER = "latent_purity.intruder"
WAYS = [(0.05, "supported"), (-0.05, "contradicted"), (0.0, "undecided")]
HIERARCHICAL, TOPK, NESTED, PRUNED = Match("hierarchical_topk"), Match("topk"), Match("matryoshka"), Match("pruned_vanilla")


def nested(by: float, base: str = "batchtopk", column: str = EV, **changes: float) -> list[Made]:
    """A nested SAE that is so much larger than 0.6 on two nested dictionaries at an equal share, and at 32 on all latents."""
    numbers = {(8, QUARTER): 0.6 + by, (16, HALF): 0.6 + by, (32, None): 0.6 + changes.get("whole", by)}
    return with_shells(sae("matryoshka", 32, numbers, column, config={"base": base}), QUARTER, HALF, N)


def pruned(base: str = "batchtopk", column: str = EV, **other: Any) -> list[Made]:
    """What it is compared with: 0.6 everywhere."""
    numbers = {(8, QUARTER): 0.6, (16, HALF): 0.6, (32, None): 0.6}
    return sae("pruned_vanilla", 32, numbers, column, config={"base": base}, owner=base, **other)


@pytest.mark.parametrize(("by", "verdict"), WAYS)
@pytest.mark.parametrize(("place", "count"), [("nested", 2), ("whole", 1)])
@pytest.mark.parametrize("column", [EV, DELTA])
def test_ahead(by: float, verdict: str, place: Any, count: int, column: str) -> None:
    """On nested dictionaries at an equal share of active latents, and apart from it on all; a loss is better if it is lower."""
    test = Ahead(NESTED, (PRUNED,), (column,), place, alike=("base",))
    found = judged(test, nested(by if column == EV else -by, column=column), pruned(column=column))
    assert (found.verdict, len(found.lines)) == (verdict, count)


def test_nested_and_whole_may_differ() -> None:
    """As was found: better on its nested dictionaries, worse with all latents."""
    made = nested(0.05, whole=-0.05), pruned()
    below, whole = (judged(Ahead(NESTED, (PRUNED,), (EV,), place, alike=("base",)), *made) for place in ("nested", "whole"))
    assert (below.verdict, whole.verdict) == ("supported", "contradicted")


def test_only_equal_bases_are_compared() -> None:
    """A nested SAE over batchtopk is not held against topk that is pruned, unless a claim says so."""
    made = nested(0.05), pruned("topk")
    alike, any_base = (judged(Ahead(NESTED, (PRUNED,), (EV,), "nested", alike=keys), *made) for keys in (("base",), ()))
    assert alike.verdict == "undecided" and alike.reason.startswith("not measured here: it wants matryoshka and pruned_vanilla trained at the same k")
    assert any_base.verdict == "supported"


def test_random_order_is_another_thing_to_be_ahead_of() -> None:
    """Of the pruned SAE only the rows in that order count."""
    rows = join(pruned(), pruned(rank="random"))
    test = Ahead(NESTED, (Match("pruned_vanilla", rank="random"),), (EV,), "nested", alike=("base",))
    found = judged(test, nested(0.05), rows)
    assert found.verdict == "supported" and all("random order" in line.comparison.what for line in found.lines)
    assert judged(test, nested(0.05), pruned()).reason == "of 1 comparison 1 not tested (not read there)"


@pytest.mark.parametrize(("by", "verdict"), WAYS)
def test_ahead_of_those_trained_at_that_size(by: float, verdict: str) -> None:
    """The SAE on its own 512 and 1,024 latents, against one trained with so many at the same share."""
    oracle = [sae("topk", k, {(k, None): 0.6}, latents=size) for k, size in ((8, QUARTER), (16, HALF))]
    found = judged(Ahead(NESTED, (TOPK,), (EV,), "trained at that size"), nested(by), *oracle)
    assert (found.verdict, len(found.lines)) == (verdict, 2)


@pytest.mark.parametrize(("by", "verdict"), WAYS)
def test_ahead_below_the_k_of_both(by: float, verdict: str) -> None:
    """Read at 8 and 16, both were trained at 32; at 32 itself it is behind, which is not asked."""
    one = sae("hierarchical_topk", 32, {(8, None): 0.6 + by, (16, None): 0.6 + by, (32, None): 0.4})
    found = judged(Ahead(HIERARCHICAL, (TOPK,), (EV,), "below its k"), one, sae("topk", 32, {(8, None): 0.6, (16, None): 0.6, (32, None): 0.6}))
    assert (found.verdict, len(found.lines)) == (verdict, 2)


@pytest.mark.parametrize(("by", "verdict"), WAYS)
def test_ahead_of_those_trained_at_a_larger_k(by: float, verdict: str) -> None:
    made = sae("topk", 8, {(8, None): 0.6 + by, (32, None): 0.1}), sae("topk", 32, {(8, None): 0.6, (32, None): 0.6})
    found = judged(Ahead(TOPK, (TOPK,), (EV,), "whole", trained_at="a larger k"), *made)
    assert (found.verdict, list(found.verdicts)) == (verdict, ["topk k=8"])


def hierarchical(at_8: float, at_32: float) -> tuple[list[Made], ...]:
    """One SAE for two budgets, and what was trained at each: 0.6 and 0.8."""
    rivals = sae("topk", 8, {(8, None): 0.6, (32, None): 0.5}), sae("topk", 32, {(8, None): 0.3, (32, None): 0.8})
    return sae("hierarchical_topk", 32, {(8, None): at_8, (32, None): at_32}), *rivals


@pytest.mark.parametrize(
    ("at_8", "at_32", "verdict"), [(0.6, 0.8, "supported"), (0.65, 0.79, "supported"), (0.6, 0.7, "contradicted"), (0.58, 0.8, "undecided")]
)
def test_as_good_but_for_a_margin(at_8: float, at_32: float, verdict: str) -> None:
    """Within 0.02 of those trained at each: behind by 0.01 is as good, behind by just the margin is neither that nor worse."""
    found = judged(AsGood(HIERARCHICAL, (TOPK,), {EV: 0.02}), *hierarchical(at_8, at_32))
    assert (found.verdict, len(found.lines)) == (verdict, 2)


@pytest.mark.parametrize(("at_8", "at_32", "verdict"), [(0.65, 0.85, "supported"), (0.65, 0.75, "contradicted"), (0.65, 0.8, "undecided")])
def test_on_the_frontier(at_8: float, at_32: float, verdict: str) -> None:
    """Ahead of the best of two at each k."""
    found = judged(Frontier(HIERARCHICAL, (TOPK,), (EV,)), *hierarchical(at_8, at_32))
    assert found.verdict == verdict and ["over the best of 2: topk k=8" in line.comparison.what for line in found.lines] == [True, False]


def test_the_best_of_several_was_picked() -> None:
    """So its lead counts for as many times as likely: the p against is twice that of one rival, before Holm's."""
    one, *rivals = hierarchical(0.5995, 0.8)
    two, alone = (judged(Frontier(HIERARCHICAL, (TOPK,), (EV,)), one, *some).lines[0].comparison for some in (rivals, rivals[:1]))
    assert two.against == pytest.approx(2 * alone.against) and two.favour == alone.favour and 0.1 < alone.against < 0.5


@pytest.mark.parametrize(("high", "expect", "verdict"), [(0.3, "keeps", "supported"), (0.2, "keeps", "contradicted"), (0.29, "keeps", "undecided")])
def test_keeps_at_its_k_what_it_has_below(high: float, expect: Any, verdict: str) -> None:
    """0.3 at 8; a margin of 0.01."""
    made = sae("hierarchical_topk", 32, {(8, None): 0.3, (32, None): high}, INTRUDER)
    assert judged(Keeps(HIERARCHICAL, "at its k, against smaller ones", {INTRUDER: 0.01}, expect), made).verdict == verdict


@pytest.mark.parametrize(("high", "verdict"), [(0.2, "supported"), (0.4, "contradicted"), (0.3, "undecided")])
def test_loses_above_its_k(high: float, verdict: str) -> None:
    """0.3 at its own 8."""
    made = sae("topk", 8, {(4, None): 0.1, (8, None): 0.3, (32, None): high}, INTRUDER)
    found = judged(Keeps(TOPK, "above its k, against its own", {INTRUDER: 0.0}, "loses"), made)
    assert (found.verdict, len(found.lines)) == (verdict, 1)


@pytest.mark.parametrize(("high", "verdict"), [(0.2, "supported"), (0.25, "undecided"), (0.28, "contradicted"), (0.32, "contradicted")])
def test_loses_more_than_a_margin(high: float, verdict: str) -> None:
    """0.3 at its own 8, and a margin of 0.05: to lose less is no loss of that size, and to gain less still."""
    made = sae("topk", 8, {(8, None): 0.3, (32, None): high}, INTRUDER)
    found = judged(Keeps(TOPK, "above its k, against its own", {INTRUDER: 0.05}, "loses"), made)
    assert found.verdict == verdict and found.lines[0].comparison.what.endswith("over k = 8, loses more than 0.05")


@pytest.mark.parametrize(("fewer", "verdict"), [(0.3, "supported"), (0.25, "contradicted")])
def test_keeps_when_it_is_cut_down(fewer: float, verdict: str) -> None:
    numbers = {(32, None): 0.3, (32, QUARTER): fewer, (32, HALF): fewer}
    made = sae("pruned_vanilla", 32, numbers, INTRUDER, config={"base": "topk"}, owner="topk")
    found = judged(Keeps(PRUNED, "cut down, against all latents", {INTRUDER: 0.01}), made)
    assert (found.verdict, len(found.lines)) == (verdict, 2)


@pytest.mark.parametrize(("by", "verdict"), WAYS)
def test_orders_of_latents(by: float, verdict: str) -> None:
    """Importance over random, at an equal share and at equal L0."""
    places = {(8, QUARTER): 0.6, (32, QUARTER): 0.6}
    made = [
        sae("pruned_vanilla", 32, {place: value + more for place, value in places.items()}, config={"base": "topk"}, owner="topk", rank=rank)
        for rank, more in (("importance", by), ("random", 0.0))
    ]
    found = judged(Ordering(PRUNED, (EV,), ("importance", "random")), join(*made))
    assert (found.verdict, len(found.lines)) == (verdict, 2)


def test_an_order_alone_is_ahead_of_nothing() -> None:
    with pytest.raises(ValueError, match="orders: importance alone, wanted two at least"):
        Ordering(PRUNED, (EV,), ("importance",))


@pytest.mark.parametrize("kind", ["ahead", "as good", "keeps", "ordering"])
def test_an_sae_that_nobody_asked_about_says_nothing_of_a_claim(kind: str) -> None:
    """One SAE is for it; the other has no such numbers, which leaves it out; alone it leaves the claim undecided, with the reason."""
    test: Any = {
        "ahead": Ahead(HIERARCHICAL, (TOPK,), (INTRUDER,), "whole"),
        "as good": AsGood(HIERARCHICAL, (TOPK,), {INTRUDER: 0.02}),
        "keeps": Keeps(HIERARCHICAL, "at its k, against smaller ones", {INTRUDER: 0.02}),
        "ordering": Ordering(HIERARCHICAL, (INTRUDER,), ("importance", "random")),
    }[kind]

    def made(k: int, column: str) -> list[list[Made]]:
        places = {(4, None): 0.3, (k, None): 0.3, (k, QUARTER): 0.3}
        numbers = {place: value + 0.1 * (place[0] == k) for place, value in places.items()}
        orders = [sae("hierarchical_topk", k, numbers, column), sae("hierarchical_topk", k, {(k, QUARTER): 0.3}, column, rank="random")]
        return [join(*orders), sae("topk", k, places, column)]

    with_it, without_it = made(8, INTRUDER), made(32, EV)
    for record in (record for records in without_it for record in records):
        for one in record["rows"]:
            one["missing"][INTRUDER] = "not asked for at this reading"
    found = judged(test, *with_it, *without_it)
    assert (found.verdict, list(found.verdicts)) == ("supported", ["hierarchical_topk k=8"])
    assert reason(judged(test, *without_it)) == ("not read there" if kind == "ordering" else "not asked for at this reading")


def with_fits(z: float, gain: float, p: float, seeds: int = 3) -> list[Made]:
    """Records whose importance has such fits."""
    fit = {"first": 10, "last": 900, "exponent": 1.0, "exponential": {"z": z, "p": 0.0}, "lognormal": {"gain": gain, "p": p}, "curve": []}
    return [{**record, "power_law": {"importance": fit}} for record in sae("topk", 32, {(32, None): 0.6}, seeds=seeds)]


@pytest.mark.parametrize(
    ("z", "gain", "p", "verdict"),
    [
        (9.0, 0.1, 0.4, "supported"),
        (-9.0, 0.1, 0.4, "contradicted"),
        (9.0, 80.0, 1e-18, "contradicted"),  # likelier than an exponential, and yet it bends
        (0.5, 0.1, 0.4, "undecided"),
    ],
)  # fmt: skip
def test_falls_off_as_a_power_law(z: float, gain: float, p: float, verdict: str) -> None:
    found = judged(FallsOff(TOPK, "importance"), with_fits(z, gain, p))
    assert (found.verdict, len(found.lines)) == (verdict, 2)


def test_the_least_favourable_seed_counts() -> None:
    """Either way: two seeds that fall apart say nothing."""
    made = with_fits(9.0, 0.1, 0.4)[:1] + with_fits(-9.0, 0.1, 0.4)[1:]
    found = judged(FallsOff(TOPK, "importance"), made)
    assert found.verdict == "undecided" and found.lines[0].comparison.shown == "z -9.0 to +9.0"


def test_fits_that_are_missing() -> None:
    """A reason of one seed is told; a quantity that no record has, and records without fits, are not measured."""
    made = with_fits(9.0, 0.1, 0.4)
    made[1]["power_law"] = {"importance": {"missing": "12 values in ranks 10 to 21, wanted 50 at least", "curve": []}}
    assert "12 values" in judged(FallsOff(TOPK, "importance"), made).reason
    assert judged(FallsOff(TOPK, "spectrum"), made).reason.startswith("not measured here: it wants topk with fits")


def with_groups(inner: float, outer: float, half: float | None = 0.005) -> list[Made]:
    """Records with the intruder score of two shells; the third has none of its latents judged."""
    made = sae("matryoshka", 32, {(32, None): 0.6})
    for seed, record in enumerate(made):
        shells: dict[str, Any] = {}
        for name, value in (("1-512", inner), ("513-1,024", 0.5), ("1,025-2,048", outer)):
            number = value + SPREAD * seed
            shells[name] = {"judged": 9, "intruder": {"raw": {"value": number, "interval": [number - half, number + half] if half else None}, "matched": None}}
        record["rows"][0]["details"] = {"latent_purity": {"shells": shells}}
    return made


@pytest.mark.parametrize(
    ("inner", "outer", "half", "verdict"),
    [
        (0.74, 0.57, 0.005, "supported"),
        (0.57, 0.74, 0.005, "contradicted"),
        (0.74, 0.57, 0.2, "undecided"),  # the text alone could do that
        (0.74, 0.57, None, "supported"),  # by seeds alone
    ],
)  # fmt: skip
def test_fades_from_the_innermost_shell_to_the_outermost(inner: float, outer: float, half: float | None, verdict: str) -> None:
    """Shells stand in a record as text does, so 1,025 before 513."""
    found = judged(Fades(NESTED, ("intruder",), "raw"), with_groups(inner, outer, half))
    assert found.verdict == verdict and found.lines[0].comparison.what.endswith("latents 1-512 over 1,025-2,048")
    assert judged(Fades(NESTED, ("intruder",), "matched"), with_groups(inner, outer)).reason.endswith("(too few latents fire often enough)")


@pytest.mark.parametrize(("inner", "outer", "verdict"), [(0.7, 0.6, "supported"), (0.6, 0.7, "contradicted"), (0.65, 0.65, "undecided")])
def test_shells_that_are_matched_on_frequency_are_another_claim(inner: float, outer: float, verdict: str) -> None:
    """Raw, the inner shell is well ahead; matched it is what the published claim of its own is judged by."""
    made = with_groups(0.74, 0.57)
    for record in made:
        for shell, value in zip(record["rows"][0]["details"]["latent_purity"]["shells"].values(), (inner, 0.6, outer), strict=True):
            number = value + SPREAD * record["sae"]["seed"]
            shell["intruder"]["matched"] = {"value": number, "interval": [number - 0.005, number + 0.005]}
            shell["monosemanticity"] = shell["intruder"]
    by = {claim.id: claim for claim in published()}
    for name, wanted, says in (("shells-fade", "supported", "unmatched"), ("shells-fade-matched", verdict, "matched on how often they fire")):
        test = by[name].test
        assert isinstance(test, Fades) and says in by[name].statement
        found = judged(test, made)
        assert (found.verdict, len(found.lines)) == (wanted, 2)


def with_dead(variant: str, *counts: int) -> list[Made]:
    """Records whose training ended with so many dead latents."""
    made = sae(variant, 32, {(32, None): 0.6}, seeds=len(counts))
    for record, count in zip(made, counts, strict=True):
        record["curve"] = [{"tokens": 9, "dead": 2000}, {"tokens": 10, "dead": count}]
    return made


@pytest.mark.parametrize(
    ("mine", "verdict"), [((1, 2, 3), "supported"), ((101, 102, 103), "contradicted"), ((49, 50, 60), "undecided"), ((40, 40, 40), "undecided")]
)
def test_fewer_dead_latents(mine: tuple[int, ...], verdict: str) -> None:
    made = with_dead("hierarchical_topk", *mine), with_dead("topk", 50, 51, 52)
    assert judged(FewerDead(HIERARCHICAL, (TOPK,)), *made).verdict == verdict


def timed(variant: str, *seconds: float, hours: float = 1.0, **changes: Any) -> list[Made]:
    """Records of seeds that were trained one after the other, so many hours apart, and took so long."""
    made = sae(variant, 32, {(32, None): 0.6}, config={"base": "batchtopk"} if variant == "matryoshka" else None, seeds=len(seconds))
    for seed, (record, took) in enumerate(zip(made, seconds, strict=True)):
        when = datetime(2026, 1, 1) + timedelta(hours=hours * seed)
        record["cost"] = {**record["cost"], "train_seconds": took}
        record["provenance"] = {**record["provenance"], "when": when.isoformat(), "side_by_side": 2, **changes}
    return made


COST = Cost(NESTED, (Match("batchtopk"),), 1.125, 1.375)


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [
        ((125, 126, 124), "supported"),
        ((200, 201, 199), "contradicted"),
        ((100, 101, 99), "contradicted"),
        ((125, 200, 90), "undecided"),
        ((134, 136, 139), "undecided"),
    ],
)
def test_the_ratio_of_two_costs_lies_in_a_band(seconds: tuple[float, ...], verdict: str) -> None:
    found = judged(COST, timed("matryoshka", *seconds), timed("batchtopk", 100, 100, 100))
    assert found.verdict == verdict and "claimed 1.125 to 1.375" in found.lines[0].comparison.what


def reason(found: Judged) -> str:
    """Why its only line was not tested."""
    (line,) = found.lines
    assert (found.verdict, line.side) == ("undecided", "not tested")
    return line.comparison.untested


def test_clocks_that_cannot_be_compared_are_not() -> None:
    """Other threads, two seeds at a time, one seed, a training that went on from a snapshot, or no time at all."""
    plain, rival = timed("batchtopk", 100, 100, 100), timed("matryoshka", 125, 126, 124)
    assert reason(judged(COST, rival, timed("batchtopk", 100, 100, 100, threads=8))) == "trained with different numbers of threads: 2 and 8"
    at_once = timed("batchtopk", 100, 100, 100, hours=0.01), timed("matryoshka", 125, 126, 124, hours=0.01)
    assert reason(judged(COST, *at_once)) == "another seed was being trained on the machine at the same time"
    assert reason(judged(COST, rival[:1], plain[:1])) == "one seed alone"
    resumed = timed("batchtopk", 100, 100, 100, resumed=[{"when": "2026-01-01", "machine": "a machine", "device": "cpu", "threads": 2}])
    assert reason(judged(COST, rival, resumed)) == "a training went on from a snapshot"
    for record in plain:
        del record["cost"]["train_seconds"]
    assert reason(judged(COST, rival, plain)) == "a record does not say how many seconds its training took"


@pytest.mark.parametrize("base", ["batchtopk", "topk"])
def test_a_nested_sae_costs_as_much_over_the_sae_of_its_own_base(base: str) -> None:
    """Of two that were trained at its k; without that one there is no comparison, as in the published claim."""
    (cost,) = (claim.test for claim in published() if claim.id == "nested-cost")
    assert isinstance(cost, Cost)
    one, *rivals = timed("matryoshka", 125, 126, 124), timed("batchtopk", 100, 100, 100), timed("topk", 100, 100, 100)
    for record in one:
        for config in (record["sae"]["config"], *(row["config"] for row in record["rows"])):
            config["base"] = base
    found = judged(cost, one, *rivals)
    assert (found.verdict, len(found.lines)) == ("supported", 1) and f"over {base} k=32" in found.lines[0].comparison.what
    alone = judged(cost, one, rivals[base == "batchtopk"])
    assert not alone.lines and alone.reason.endswith("trained at the same k, of the variant that base names")


def test_a_band_has_two_ends() -> None:
    with pytest.raises(ValueError, match="wanted 0 < low < high"):
        Cost(NESTED, (TOPK,), 2.0, 1.0)


def with_draws(made: list[Made], swing: float, seed: int) -> list[Made]:
    """The records with draws of documents that move each number so far."""
    for record in made:
        for one in record["rows"]:
            moved = np.random.default_rng(seed).normal(0, swing, 100)
            one |= {"draws": {EV: list(one["values"][EV] + moved)}, "drawn": "d1"}
    return made


def test_the_noise_of_the_text_counts_too() -> None:
    """Seeds alone would be sure of 0.05; documents that move it by 0.1 are not, and a row says which were tested."""
    test = Ahead(NESTED, (PRUNED,), (EV,), "whole", alike=("base",))
    sure = judged(test, nested(0.05), pruned())
    calm, loud = (judged(test, with_draws(nested(0.05), swing, 1), with_draws(pruned(), swing, 2)) for swing in (0.001, 0.1))
    assert [found.verdict for found in (sure, calm, loud)] == ["supported", "supported", "undecided"]
    assert [found.lines[0].comparison.note for found in (sure, calm)] == ["seeds alone: a record holds no draws of documents for it", ""]


def test_readings_whose_documents_do_not_pair_are_not_tested() -> None:
    """Other draws are no lack of draws."""
    made = with_draws(nested(0.05), 0.001, 1), with_draws(pruned(), 0.001, 1)
    for record in made[1]:
        record["rows"][-1]["drawn"] = "d2"
    found = judged(Ahead(NESTED, (PRUNED,), (EV,), "whole", alike=("base",)), *made)
    assert reason(found) == "measured under different draws of documents"


def test_one_seed_decides_nothing_whatever_documents_say() -> None:
    made = with_draws(nested(0.05), 0.001, 1), with_draws(pruned(), 0.001, 1)
    found = judged(Ahead(NESTED, (PRUNED,), (EV,), "whole", alike=("base",)), *([record for record in one if record["sae"]["seed"] == 0] for one in made))
    assert reason(found) == "one seed alone"


def at_l0(made: list[Made], l0: float, k: int) -> list[Made]:
    """The records with another measured L0 where they were read at k."""
    for record in made:
        for one in (one for one in record["rows"] if one["reading"]["k"] == k):
            one["values"] |= {"sparsity.l0": l0}
    return made


@pytest.mark.parametrize(("by", "verdict"), WAYS)
def test_latents_that_are_too_few_for_k_codes_are_compared_at_the_l0_that_they_reach(by: float, verdict: str) -> None:
    """At random, 32 codes of 512 latents come to 16; by importance the SAE has 0.4 at 8 and 0.6 at 32, so 0.5 there."""
    by_importance = sae("pruned_vanilla", 32, {(8, QUARTER): 0.4, (32, QUARTER): 0.6}, owner="topk")
    at_random = at_l0(sae("pruned_vanilla", 32, {(32, QUARTER): 0.5 - by}, owner="topk", rank="random"), 16.0, 32)
    found = judged(Ordering(PRUNED, (EV,), ("importance", "random")), join(by_importance, at_random))
    (line,) = found.lines
    assert found.verdict == verdict and line.comparison.note.startswith("at the L0 of 16.0 that 32 codes come to")
    few = at_l0(sae("pruned_vanilla", 32, {(32, QUARTER): 0.5}, owner="topk", rank="random"), 4.0, 32)
    assert reason(judged(Ordering(PRUNED, (EV,), ("importance", "random")), join(by_importance, few))).startswith("no readings on both sides of the L0 of 4.00")


@pytest.mark.parametrize(("by", "verdict"), WAYS)
def test_so_is_the_favourite_if_its_own_latents_are_too_few(by: float, verdict: str) -> None:
    """As above, but the order that the claim is for comes to 16: whose latents are too few makes no difference."""
    at_random = sae("pruned_vanilla", 32, {(8, QUARTER): 0.4, (32, QUARTER): 0.6}, owner="topk", rank="random")
    by_importance = at_l0(sae("pruned_vanilla", 32, {(32, QUARTER): 0.5 + by}, owner="topk"), 16.0, 32)
    found = judged(Ordering(PRUNED, (EV,), ("importance", "random")), join(by_importance, at_random))
    (line,) = found.lines
    assert found.verdict == verdict and line.comparison.note.startswith("at the L0 of 16.0 that 32 codes come to")


@pytest.mark.parametrize("failing", ["importance", "random"])
def test_a_number_that_failed_beside_one_that_did_not_is_not_tested(failing: str) -> None:
    """On either side, and the reason is its own."""
    made = {rank: sae("pruned_vanilla", 32, {(32, QUARTER): 0.6}, owner="topk", rank=rank) for rank in ("importance", "random")}
    for record in made[failing]:
        record["rows"][0]["values"][EV], record["rows"][0]["missing"][EV] = None, "could not be computed: nan"
    assert reason(judged(Ordering(PRUNED, (EV,), ("importance", "random")), join(*made.values()))) == "could not be computed: nan"


def test_readings_that_do_not_come_to_their_k_are_left_out_above_it_alone() -> None:
    """A claim on more codes than it was trained for says "as far as it has as many"; one on fewer latents says no such thing."""
    above = at_l0(sae("topk", 8, {(8, None): 0.3, (16, None): 0.2, (64, None): 0.2}, INTRUDER), 40.0, 64)
    found = judged(Keeps(TOPK, "above its k, against its own", {INTRUDER: 0.0}, "loses"), above)
    assert (found.verdict, len(found.lines)) == ("supported", 1)
    fewer = at_l0(sae("pruned_vanilla", 32, {(32, None): 0.3, (32, HALF): 0.3}, INTRUDER, owner="topk"), 32.0, 32)
    for record in fewer:
        cut = {**record["rows"][1], "reading": {**record["rows"][1]["reading"], "latents": QUARTER}}
        record["rows"].append({**cut, "values": {**cut["values"], "sparsity.l0": 15.0}})
    cut_down = judged(Keeps(PRUNED, "cut down, against all latents", {INTRUDER: 0.01}), fewer)
    assert sorted(line.side for line in cut_down.lines) == ["for", "not tested"] and cut_down.verdict == "undecided"
    assert "no readings on both sides of a measured L0 of 32" in cut_down.reason


@pytest.mark.parametrize(("steep", "verdict"), [(0.1, "supported"), (9.0, "undecided")])
def test_two_l0s_without_further_readings_make_what_they_make_with_all_latents(steep: float, verdict: str) -> None:
    """31.8 and 32.2 on 512 latents, where each was read once; with all latents the number changes by so much between 16 and 32."""
    made = [
        at_l0(sae(variant, 32, {(32, QUARTER): value, (32, None): 0.6, (16, None): 0.6 - steep}, config={"base": "batchtopk"}, owner=owner), l0, 32)
        for variant, owner, value, l0 in (("matryoshka", None, 0.7, 32.2), ("pruned_vanilla", "batchtopk", 0.6, 31.8))
    ]
    test = Ahead(NESTED, (PRUNED,), (EV,), "nested", alike=("base",), l0="equal L0")
    found = judged(test, with_shells(made[0], QUARTER, N), made[1])
    assert found.verdict == verdict and found.lines[0].comparison.note.startswith("what two L0s make is taken from readings with all latents")


@pytest.mark.parametrize("test", [AsGood(HIERARCHICAL, (TOPK,), {EV: 0.02}), Keeps(HIERARCHICAL, "at its k, against smaller ones", {EV: 0.5})])
def test_a_number_that_nobody_asked_for_is_no_comparison_and_one_that_failed_is(test: Any) -> None:
    """At 8 of 8, 16 and 32; a claim without any comparison says why."""
    rivals = [sae("topk", k, {(k, None): 0.6}) for k in (8, 16, 32)]
    for why, lines in (("not asked for at this reading", 1), ("could not be computed: nan", 2)):
        one = sae("hierarchical_topk", 32, {(8, None): 0.6, (16, None): 0.6, (32, None): 0.6})
        for lost in (record["rows"][0] for record in one):
            lost["values"][EV], lost["missing"][EV] = None, why
        found = judged(test, one, *rivals)
        told = [line for line in found.lines if not line.comparison.untested]
        assert len(found.lines) - lines == (1 if isinstance(test, AsGood) else 0) and all(line.side == "for" for line in told)
        assert found.verdict == ("supported" if why.startswith("not asked") else "undecided")
    for record in one:
        for row in record["rows"]:
            row["values"][EV], row["missing"][EV] = None, "not asked for at this reading"
    assert reason(judged(test, one, *rivals)) == "not asked for at this reading"
