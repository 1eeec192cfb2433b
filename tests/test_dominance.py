"""What the page says of dominance: exactly what passes each reading, for every measure."""

from pathlib import Path

from sae_bench_htopk import dominance, saes
from sae_bench_htopk.board import assemble
from tests.test_areas import of
from tests.test_leaderboard import cells, page_of, put, section, suite


def test_every_reading_is_on_the_frontier_or_says_who_passes_it() -> None:
    """topk has 0.7 at 8 and 0.6 at 16, which batchtopk passes by most with 0.8; batchtopk's 0.65 at 8 is passed; equals both stay at 4."""
    found = assemble([of("topk", 8, {4: 0.5, 8: 0.7, 16: 0.6}), of("batchtopk", 8, {4: 0.5, 8: 0.65, 16: 0.8}, at_8=8.1)])
    told = {(place.sae.variant, place.k): dominance.standing(found, place) for place in dominance.places(found, saes.EV)}
    assert told == {
        ("batchtopk", 4): "yes", ("topk", 4): "yes", ("topk", 8): "yes", ("batchtopk", 16): "yes",
        ("batchtopk", 8): "no: topk k=8 at L0 8.00", ("topk", 16): "no: batchtopk k=8 at L0 16.0",
    }  # fmt: skip
    assert dominance.summary(found, saes.EV) == "4 of 6 different readings are on the frontier: 2 of batchtopk and 2 of topk."


def test_lower_is_better_where_it_is() -> None:
    """dCE of 0.3 at 8 passes 0.4 at 16."""
    made = of("topk", 8, {8: 0.7, 16: 0.8})
    for row, delta in zip(made["rows"], (0.3, 0.4), strict=True):
        row["values"][saes.DELTA] = delta
    places = dominance.places(assemble([made]), saes.DELTA)
    assert [place.by is None for place in places] == [True, False]


def test_each_measure_has_its_folded_table(tmp_path: Path) -> None:
    """Of 32 readings of eight SAEs; probing was not asked for at k = 4, so it has 24. dCE is 1 - EV by invention."""
    part = section(page_of(put(tmp_path, suite(1))), "What is on the frontier, and what passes what")
    tables = {title: text.split("</details>")[0] for title, _, text in (one.partition(": what passes what</summary>") for one in part.split("<summary>")[1:])}
    assert list(tables) == ["EV", "ΔCE", "RSA", "CKA", "probing AUC"]
    counts = {title: sum(line.startswith("| ") and not line.startswith(("| ---", "| SAE")) for line in text.splitlines()) for title, text in tables.items()}
    assert counts == {"EV": 32, "ΔCE": 32, "RSA": 32, "CKA": 32, "probing AUC": 24}
    assert cells(tables["EV"], "topk k=4")[2:5] == ["4.00", "0.900", "yes"]
    row = next(line for line in tables["EV"].splitlines() if line.startswith("| topk k=4 | 32 "))
    assert "| 0.840 | no: batchtopk k=32 at L0 32.3 | 0.965 |" in row
