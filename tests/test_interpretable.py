"""The section on interpretability from synthetic records: what beats the untrained SAE, which latent tells what, bands and shells."""

from typing import Any

from sae_bench_htopk import group_tables, interpretable, label_tables
from sae_bench_htopk.answer_interpretable import most_interpretable
from sae_bench_htopk.board import Board, assemble
from tests.test_leaderboard import Made, make

AUC, INTRUDER, ABSORBED = "sparse_probing.auc_1", "latent_purity.intruder", "absorption.absorption"


def told(value: float, half: float = 0.01) -> Made:
    """A number of the details."""
    return {"value": value, "interval": [value - half, value + half]}


def with_scores(record: Made, auc: float, intruder: float, latent: int = 7) -> Made:
    """The record with these scores, ± 0.02, in every row, and details at the anchor."""
    for row in record["rows"]:
        row["values"] |= {AUC: auc, INTRUDER: intruder, "sparse_probing.floor_random": 0.6, ABSORBED: 0.1}
        row["intervals"] |= {AUC: [auc - 0.02, auc + 0.02], INTRUDER: [intruder - 0.02, intruder + 0.02], ABSORBED: [0.08, 0.12]}
        facts: Made = {"auc_1": auc, "floor_random": 0.6, "interval": [auc - 0.02, auc + 0.02], "latents": [latent, 1, 2], "context": True}
        row["details"] = {
            "sparse_probing": {"labels": {"docstring": facts, "keyword": facts | {"context": False}}},
            "latent_purity": {
                "bands": {"1-4": {"judged": 9, "intruder": told(0.6), "monosemanticity": told(0.3)}, "5-8": {"judged": 0, "intruder": None}},
                "shells": {"1-512": {"judged": 5, "matched_latents": 4, "intruder": {"raw": told(0.7), "matched": told(0.5)}}},
            },
        }
    return record


def board(control: bool = True) -> Board:
    """Three SAEs and, if wanted, the untrained one, whose AUC is .75 and intruder score .4."""
    made: list[Made] = [with_scores(make("topk", 8), 0.85, 0.5, 3), with_scores(make("topk", 32), 0.80, 0.41, 5), with_scores(make("batchtopk", 32), 0.77, 0.3)]
    return assemble([*made, *([with_scores(make("untrained", control=True), 0.75, 0.4)] if control else [])])


def lines(text: str, start: str) -> list[str]:
    """The lines of a table that begin with a cell."""
    return [line for line in text.splitlines() if line.startswith(f"| {start}")]


def test_a_score_that_does_not_beat_the_untrained_saes_says_so() -> None:
    """Intervals of ± .02 each: a lead of .05 is clear of them, one of .02 or below is not."""
    text = interpretable.scores(board(), [AUC, INTRUDER])
    (eight,), (own,), (batch,) = (lines(text, name) for name in ("topk k=8", "topk k=32", "batchtopk k=32"))
    assert "†" not in eight and eight.split("|")[4].strip() == "0.850"
    assert own.split("|")[4].strip() == "0.800" and own.split("|")[5].strip() == "0.410 †"
    assert batch.split("|")[4].strip() == "0.770 †" and batch.split("|")[5].strip() == "0.300 †"
    assert interpretable.SIGNS in interpretable.section(board()) and "†" not in lines(text, "*untrained*")[0]


def test_without_that_control_nothing_is_marked() -> None:
    assert "†" not in interpretable.scores(board(control=False), [AUC, INTRUDER])
    assert "no untrained SAE to compare" in interpretable.sentences(board(control=False))[0]


def test_in_short_names_the_best_and_counts_what_says_nothing() -> None:
    """At 32: topk k=8 has the best of both; of three SAEs' three scores, two AUCs beat .75 +- .02 by more than .028 and one intruder beats .4."""
    (said,) = interpretable.sentences(board())
    assert "read at k = 32: probing AUC **topk k=8** (ahead of batchtopk k=32 by 0.080: " in said and "intruder **topk k=8** (ahead of " in said
    assert "6 of the 9 scores at this k are not better" in said


def test_nobody_is_the_best_in_what_training_does_not_better() -> None:
    """No SAE's intruder score is above the untrained one's .6; of the three AUCs one is."""
    made: list[Made] = [
        with_scores(make("topk", 8), 0.85, 0.5),
        with_scores(make("batchtopk", 32), 0.77, 0.3),
        with_scores(make("untrained", control=True), 0.75, 0.6),
    ]
    for row in (row for one in made for row in one["rows"]):
        row["values"]["latent_purity.judged"] = 0.25
    found = assemble(made)
    told = [(column, best.variant, other.variant, vain) for column, (best, other), vain in interpretable.bests(found, 32)]
    assert told == [(AUC, "topk", "batchtopk", False), (INTRUDER, "topk", "batchtopk", True), (ABSORBED, "batchtopk", "topk", True)]
    said = most_interpretable(found)
    assert "probing AUC **topk k=8** (by 0.080); " in said and "; in intruder and absorbed even the best is not clearly better than the untrained SAE." in said
    ahead = most_interpretable(assemble([*made[:2], with_scores(make("untrained", control=True), 0.75, 0.4)]))
    assert "intruder **topk k=8** (by 0.20, 25% of its latents judged)" in ahead and "in absorbed even the best" in ahead


def test_a_labelled_text_has_a_column_and_a_table_of_its_own() -> None:
    """Beside those of held-out text, with its own latents."""
    made = with_scores(make("topk", 32), 0.8, 0.4, 5)
    for row in made["rows"]:
        row["values"]["sparse_probing@news.auc_1"] = 0.9
        facts = {"auc_1": 0.9, "floor_random": 0.7, "latents": [11, 2], "context": True}
        row["details"]["sparse_probing@news"] = {"labels": {"sports": facts}}
    text = "\n".join(interpretable.section(assemble([made])))
    assert "| probing AUC, news |" in text.splitlines()[2] and "of the labelled text news" in text
    assert lines(text, "`docstring`")[0].endswith("0.800 ±0.020 (latent 5) |") and lines(text, "`sports`")[0].endswith("| 0.900 (latent 11) |")


def test_what_cannot_be_compared_is_not_called_better() -> None:
    """Without an interval on either side, or where the untrained SAE has no number."""
    made = board()
    for sae in made.controls:
        for rows in sae.rows.values():
            for row in rows.values():
                row["values"][AUC] = None  # type: ignore[index]
                row["intervals"].pop(ABSORBED)  # type: ignore[index]
    for sae in made.saes:
        for rows in sae.rows.values():
            for row in rows.values():
                row["intervals"].pop(ABSORBED)  # type: ignore[index]
    for column in (AUC, ABSORBED):
        assert all(line.split("|")[4].strip().endswith("‡") for line in lines(interpretable.scores(made, [column]), "topk"))


def test_lower_is_better_for_absorption() -> None:
    """Equal shares do not beat each other; a much lower one does."""
    made = board()
    assert all("†" in line.split("|")[4] for line in lines(interpretable.scores(made, ["absorption.absorption"]), "topk"))
    for sae in made.saes:
        for rows in sae.rows.values():
            for row in rows.values():
                row["values"]["absorption.absorption"] = 0.01  # type: ignore[index]
    made = assemble(made.records)  # an SAE remembers what it has read
    assert not any("†" in line for line in lines(interpretable.scores(made, ["absorption.absorption"]), "topk"))


def test_labels_name_their_latents_beside_the_floors() -> None:
    """One line for each label that takes more than the token; the first seed's latent with its interval."""
    text = label_tables.labels(board())
    (line,) = lines(text, "`docstring`")
    assert "0.800 ±0.020 (latent 5)" in line and "0.770 ±0.020 (latent 7)" in line and line.split("|")[2].strip() == "0.600"
    assert not lines(text, "`keyword`") and "read at k = 32" in text


def test_bands_and_shells_are_told_with_their_intervals() -> None:
    """A band without latents is an empty cell with its reason, and one that an SAE has no codes of with another."""
    fewer = with_scores(make("topk", 32), 0.8, 0.4)
    for row in fewer["rows"]:
        del row["details"]["latent_purity"]["bands"]["5-8"]
    told_apart = group_tables.bands(assemble([fewer, with_scores(make("batchtopk", 32), 0.7, 0.3)]))
    assert "it has no code of such a rank" in told_apart and "too few latents fire often enough" in told_apart
    bands = group_tables.bands(board())
    assert any("0.600 ±0.010" in line for line in lines(bands, "topk k=32")) and "too few latents fire often enough" in bands
    assert "rank 1-4 | rank 5-8" in bands
    (shell,) = lines(group_tables.shells(board()), "batchtopk k=32")
    assert "| 1-512 | 5 | 4 | 0.500 ±0.010 | 0.700 ±0.010 |" in shell


def test_a_board_without_these_metrics_has_no_section() -> None:
    record: dict[str, Any] = make("topk", 32)
    for row in record["rows"]:
        row["values"] = {name: value for name, value in row["values"].items() if not name.startswith("sparse_probing")}
    assert interpretable.section(assemble([record])) == [] and interpretable.section(board())[0].startswith("## Interpretability")
