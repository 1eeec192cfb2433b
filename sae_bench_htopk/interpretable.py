"""What a page says of interpretability without a judge: which latents tell which labels, against sparsity, by band of rank and by shell, beside floors.

The tables of labels, bands and shells are made of what a metric keeps in its details under these words; any metric that keeps them so gets its tables.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing, Reading
from sae_bench_htopk.markdown import Table, brief, fold, rounded, shown
from sae_bench_htopk.saes import L0, Number, Row, Sae

AUC, INTRUDER = "sparse_probing.auc_1", "latent_purity.intruder"
SCORES: Mapping[str, tuple[str, float]] = {  # column -> its title, and which way is better
    AUC: ("probing AUC", 1.0),
    "sparse_probing.f1": ("F1 of firing", 1.0),
    INTRUDER: ("intruder", 1.0),
    "latent_purity.monosemanticity": ("monosemanticity", 1.0),
    "latent_purity.purity": ("token purity", 1.0),
    "absorption.absorption": ("absorbed", -1.0),
}
FLOORS: Mapping[str, str] = {
    "sparse_probing.floor_shuffled": "shuffled labels",
    "sparse_probing.floor_random": "the best of as many random directions",
    "sparse_probing.baseline_channel": "one raw channel",
    "sparse_probing.floor_token": "the current token alone",
    "sparse_probing.baseline_full": "all channels of x, a ceiling",
}
WORDS = (
    "No judge: labels are exact syntax, and contexts are compared by the language model's own input embeddings. Probing AUC: how well one latent tells a "
    "label that the token itself does not give away, chance 0.5. Intruder: how often the one context of five in which a latent is silent is the least like "
    "the others, chance 0.2. Monosemanticity: how alike a latent's contexts are, 0 for random rows. Token purity: how few tokens it fires on, 0 for a random "
    "latent. Absorbed (lower is better): rows of a label within another on which the outer label's latents are silent and another latent stands in for them."
)
DAGGER = (
    "† not better than the untrained SAE at the same k by more than half both 95% intervals over documents together: such a score says nothing of training."
)


def section(board: Board) -> list[str]:
    """All of it; nothing where none of these metrics was measured."""
    if not (columns := [column for column in SCORES if any(column in row["values"] for record in board.records for row in record["rows"])]):
        return []
    return [
        "## Interpretability without a judge",
        WORDS,
        scores(board, columns),
        floors(board),
        *[f"{SCORES[column][0]} of each SAE at each k that it was read at; bold where it was trained.\n\n{found}" for column, found in by_k(board, columns)],
        labels(board),
        fold("Labels: fewer latents, cut down or nested", labels_of(board, list(smaller(board)))),
        fold("By band of rank: what the larger codes of a row say, and what the smaller ones add", bands(board)),
        fold("By shell: the latents that are kept first against those that are dropped first, where both fire equally often", shells(board)),
    ]


def untrained(board: Board) -> Sae | None:
    """The control that went through the same search without any training."""
    return next((sae for sae in board.controls if sae.variant == "untrained"), None)


def beats(number: Number, floor: Number | Missing, better: float) -> bool:
    """Whether a number is better than the untrained SAE's by more than both intervals; true where there is none."""
    return isinstance(floor, Missing) or better * (number.mean - floor.mean) > math.hypot(number.half or 0.0, floor.half or 0.0)


def marked(board: Board, sae: Sae, column: str, k: int) -> str | Missing:
    """The number as it was read, with a dagger if the untrained SAE is as good."""
    number, control = sae.read(column, k), untrained(board)
    if isinstance(number, Missing):
        return number
    floor = control.read(column, k) if control and not sae.control else Missing("no such control")
    return shown(number._replace(how="read")) + ("" if beats(number, floor, SCORES[column][1]) else " †")


def read_at(sae: Sae, columns: Sequence[str]) -> list[int]:
    """The budgets at which any of the columns has a number."""
    return [k for k in sae.ks() if any(isinstance(sae.read(column, k), Number) for column in columns)]


def scores(board: Board, columns: Sequence[str]) -> str:
    """Every SAE at the budget nearest to its own, and the controls at the budget of most."""
    table = Table("SAE", "read at k", "measured L0", *(SCORES[column][0] for column in columns))
    for sae in [*board.saes, *board.controls]:
        aim = board.anchor if sae.control else sae.budget
        if ks := read_at(sae, columns):
            k = min(ks, key=lambda k: abs(math.log(k / aim)))
            name = f"*{board.label(sae)}* (control)" if sae.control else board.label(sae)
            l0 = sae.read(L0, k)
            table.add(name, str(k), l0 if isinstance(l0, Missing) else brief(l0), *(marked(board, sae, column, k) for column in columns))
    found = table.markdown()
    return f"{found}\n\n{DAGGER}" if "†" in found else found


def floors(board: Board) -> str:
    """One sentence on what needs no SAE: the same for all, but for shuffled labels, of which it is the mean."""
    found = {}
    for column, words in FLOORS.items():
        numbers = [number.mean for sae in board.saes for k in sae.ks() if isinstance(number := sae.read(column, k), Number)]
        if numbers:
            found[words] = rounded(fmean(numbers))
    return f"Probing AUC without an SAE: {', '.join(f'{words} {number}' for words, number in found.items())}." if found else ""


def by_k(board: Board, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """For the two scores that are compared most, every SAE that was read at two budgets or more beside those of one budget each."""
    for column in (AUC, INTRUDER):
        ks = sorted({k for sae in board.saes for k in read_at(sae, [column])})
        if column in columns and len(ks) > 1:
            table = Table("SAE", *(f"k = {k}" for k in ks))
            for sae in [*board.saes, *filter(None, [untrained(board)])]:
                table.add(board.label(sae), *(marked(board, sae, column, k) for k in ks), bold=[place + 1 for place, k in enumerate(ks) if sae.trained_at(k)])
            yield column, table.markdown()


def first_row(sae: Sae, reading: Reading) -> Row | None:
    """The row of the first seed that has this reading."""
    return next((rows[reading] for _, rows in sorted(sae.rows.items()) if reading in rows), None)


def of_row(row: Row | None, key: str) -> Mapping[str, Any]:
    """What a metric keeps of a row under this word; nothing if none does."""
    return {} if row is None else next((details[key] for details in row.get("details", {}).values() if isinstance(details.get(key), Mapping)), {})


def whole(board: Board) -> Iterator[tuple[str, Row]]:
    """(name, row) of the SAE of each variant that was trained nearest to the anchor, on all of its latents, read there; then of the untrained one."""
    for variant in board.variants:
        sae = min(board.of(variant), key=lambda sae: abs(math.log(sae.budget / board.anchor)))
        if row := first_row(sae, sae.reading(board.anchor)):
            yield board.label(sae), row
    if (control := untrained(board)) and (row := first_row(control, control.reading(board.anchor))):
        yield f"*{board.label(control)}*", row


def smaller(board: Board) -> Iterator[tuple[str, Row]]:
    """(name, row) of each SAE that was cut down to fewer latents, at the anchor."""
    for sae in board.sub_dictionaries:
        for size in sae.sizes():
            if row := first_row(sae, sae.reading(board.anchor, size)):
                yield f"{board.label(sae)}, {size:,} latents", row


def labels(board: Board) -> str:
    """Which latent of which SAE serves which label."""
    table = labels_of(board, list(whole(board)))
    if not table:
        return ""
    return (
        f"Which latent tells which label, read at k = {board.anchor}, first seed: AUC on documents that neither chose nor fitted it, ± half its 95% interval "
        f"over documents, and the latent's number. The first six columns need no SAE.\n\n{table}"
    )


def labels_of(board: Board, rows: Sequence[tuple[str, Row]]) -> str:
    """A line for each label that takes more than the token to tell."""
    told = {name: found for name, row in rows if (found := of_row(row, "labels"))}
    if not told:
        return ""
    some = next(iter(told.values()))
    needless = [column for column in FLOORS if column.partition(".")[2] in next(iter(some.values()))]
    table = Table("label", *(FLOORS[column] for column in needless), *told)
    for label, facts in some.items():
        if facts.get("context"):
            bounds = [facts.get(column.partition(".")[2]) for column in needless]
            table.add(f"`{label}`", *bounds, *(served(found.get(label)) for found in told.values()))
    return table.markdown()


def served(facts: Mapping[str, Any] | None) -> str | Missing:
    """0.83 ±0.05 (latent 1234)."""
    if facts is None:
        return Missing("too few rows")
    low, high = facts.get("interval", (None, None))
    half = None if low is None or high is None else (high - low) / 2
    return rounded(facts["auc_1"], half) + (f" ±{rounded(half, half)}" if half else "") + f" (latent {facts['latents'][0]})"


def told(part: Mapping[str, Any] | None) -> str | Missing:
    """A number of the details with half its interval."""
    if part is None:
        return Missing("too few latents fire often enough")
    low, high = part.get("interval", (None, None))
    half = None if low is None or high is None else (high - low) / 2
    return rounded(part["value"], half) + (f" ±{rounded(half, half)}" if half else "")


def bands(board: Board) -> str:
    """Intruder and monosemanticity of the firings in each band of ranks, of each SAE at the largest budget that it was read at with such details."""
    found: dict[str, Mapping[str, Any]] = {}
    for sae in [*board.saes, *filter(None, [untrained(board)])]:
        rows = {k: parts for k in sae.ks() if (parts := of_row(first_row(sae, sae.reading(k)), "bands"))}
        if rows:
            found[f"{board.label(sae)}, read at {max(rows)}"] = rows[max(rows)]
    names = sorted({name for parts in found.values() for name in parts}, key=lambda name: int(name.partition("-")[0]))
    tables = []
    for measure in ("intruder", "monosemanticity"):
        table = Table("SAE", *(f"rank {name}" for name in names))
        for sae_name, parts in found.items():
            table.add(sae_name, *(told(parts.get(name, {}).get(measure)) for name in names))
        tables.append(f"{measure}, every latent alike, from the codes of these ranks alone (first seed):\n\n{table.markdown()}")
    return "\n\n".join(tables) if found else ""


def shells(board: Board) -> str:
    """Inner against outer shells, matched on how often latents fire, of each variant's SAE at the anchor."""
    found = {name: parts for name, row in whole(board) if (parts := of_row(row, "shells"))}
    table = Table("SAE", "latents, most important first", "judged", "compared", *(f"{measure}, {how}" for measure in MEASURES for how in ("matched", "raw")))
    for name, parts in found.items():
        for shell, part in sorted(parts.items(), key=lambda part: int(part[0].partition("-")[0].replace(",", ""))):  # a record sorts its keys
            numbers = [told(part.get(measure, {}).get(how)) for measure in MEASURES for how in ("matched", "raw")]
            table.add(name, shell, str(part["judged"]), str(part.get(MEASURES[0], {}).get("matched_latents", "")), *numbers)
    return table.markdown() if found else ""


MEASURES = ("intruder", "monosemanticity", "purity")
