"""Whether one SAE beats another by more than the noise of the text and of the seeds: differences that are paired document by document."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.markdown import Table, fold, rounded, words
from sae_bench_htopk.saes import DELTA, EV, SHOWN, Number, Row, Sae

ERRORS = 2.0  # standard errors over seeds that a lead must exceed
TITLE = "Differences from the best at each k"
NOTE = (
    "Lead: by how much the best of all SAEs is better than the best of each other variant, at the same measured L0. Over documents: its 95% interval over "
    "draws of documents with replacement, the same draws for both, each one's seeds averaged in every draw. Where a number is interpolated (~), so is each "
    "draw, between the same readings. L0 is held at its measured value: how that of a threshold varies with the text is part of the interval. Over seeds: "
    "its standard error, sqrt(s1²/n1 + s2²/n2), which is itself rough with few seeds. Clear: the interval excludes 0, and the lead is more than twice that "
    "standard error. Both SAEs were picked by these same numbers, and nothing is corrected for the number of pairs."
)


class Lead(NamedTuple):
    """How much better one SAE is than another at one L0, and how far two sources of noise could move that."""

    value: float  # positive where the first is better, whichever way is better
    documents: tuple[float, float] | Missing  # the middle 95% over draws of documents
    seeds: float | Missing  # its standard error over seeds

    def doubts(self) -> list[str]:
        """What it is not clear of; nothing if it is clear of both documents and seeds."""
        documents, seeds = self.documents, self.seeds
        return [
            *(["documents not known"] if isinstance(documents, Missing) else ["documents"] if documents[0] <= 0 <= documents[1] else []),
            *(["seeds not known"] if isinstance(seeds, Missing) else ["seeds"] if abs(self.value) <= ERRORS * seeds else []),
        ]


class Drawn(NamedTuple):
    """One number of one SAE under every draw of documents, and what another must share for the two to pair."""

    values: NDArray[np.float64]
    text: frozenset[tuple[object, ...]]  # of every seed: the held-out text, as one model sees it
    draws: frozenset[str]


def drawn(sae: Sae, column: str, k: int) -> Drawn | Missing:
    """The number at a measured L0 of k, as `Sae.at` has it: the mean over seeds in each draw, each interpolated as the number is."""
    seeds = sae.seeds_with(column, k)
    parts = {seed: found for seed in seeds if (found := sae.parts(seed, column, k))}
    if not seeds or len(parts) < len(seeds):
        return Missing(f"no readings on both sides of a measured L0 of {k}")
    rows = [row for found in parts.values() for _, row in found]
    if any(column not in row.get("draws", {}) for row in rows):
        return Missing("a record holds no draws of documents for it")
    if len(lengths := {len(row["draws"][column]) for row in rows}) > 1:
        return Missing(f"readings hold {words(sorted(lengths))} draws of documents")
    values = [np.sum([share * np.array(row["draws"][column]) for share, row in found], axis=0) for found in parts.values()]
    texts = frozenset(text_of(sae, seed) for seed in seeds)
    return Drawn(np.mean(values, axis=0), texts, frozenset(drawing(row) for row in rows))


def text_of(sae: Sae, seed: int) -> tuple[object, ...]:
    """What names the held-out text that one seed was measured on, and the model that read it."""
    record = next(record for record in sae.records if record["sae"]["seed"] == seed)
    text, model = record["text"], record["model"]
    return text.get("held_out"), text.get("held_out_tokens"), text.get("held_out_documents"), model.get("fingerprint"), str(model.get("hook"))


def drawing(row: Row) -> str:
    """The fingerprint of the draws behind a row."""
    return str(row.get("drawn"))


def over_documents(column: str, k: int, one: Sae, other: Sae) -> tuple[float, float] | Missing:
    """The 95% interval of the difference, paired draw by draw, or why the two do not pair."""
    mine, theirs = drawn(one, column, k), drawn(other, column, k)
    if isinstance(mine, Missing):
        return mine
    if isinstance(theirs, Missing):
        return theirs
    if len(mine.text | theirs.text) > 1:
        return Missing("measured on different text")
    if len(mine.draws | theirs.draws) > 1 or len(mine.values) != len(theirs.values):
        return Missing("measured under different draws of documents")
    low, high = np.quantile(sign(column) * (mine.values - theirs.values), [0.025, 0.975])
    return float(low), float(high)


def over_seeds(one: Number, other: Number) -> float | Missing:
    """The standard error of the difference of two means over seeds, which are taken as independent."""
    if one.spread is None or other.spread is None:
        return Missing("one seed alone")
    return math.sqrt(one.spread**2 / one.seeds + other.spread**2 / other.seeds)


def sign(column: str) -> float:
    """1 where higher is better."""
    return 1.0 if SHOWN[column][1] == "higher" else -1.0


def lead(column: str, k: int, one: tuple[Sae, Number], other: tuple[Sae, Number]) -> Lead:
    """How much better the first is, both at a measured L0 of k."""
    value = sign(column) * (one[1].mean - other[1].mean)
    return Lead(value, over_documents(column, k, one[0], other[0]), over_seeds(one[1], other[1]))


def table(board: Board, column: str) -> str:
    """At each budget the best SAE against the best of each other variant."""
    made = Table("k", "best", "ahead of", "lead", "95% over documents", "standard error over seeds", "clear")
    for k in board.ks:
        if not (best := board.best(column, k)):
            continue
        for variant in board.variants:
            other = board.best(column, k, board.of(variant))
            if other and variant != best.sae.variant:
                found = lead(column, k, best[:2], other[:2])
                doubts = found.doubts()
                verdict = f"no: {'; '.join(doubts)}" if doubts else "yes"
                value, *ranges = cells(found)
                mark = "~" if "interpolated" in (best.number.how, other.number.how) else ""
                made.add(str(k), board.label(best.sae), board.label(other.sae), f"{mark}{value}", *ranges, verdict)
    return made.markdown()


def cells(found: Lead) -> tuple[str, str | Missing, str | Missing]:
    """Lead, interval and standard error, to the digits that they support; no end is rounded to 0, since on which side of it it lies is the point."""
    documents, seeds = found.documents, found.seeds
    half = 0.0 if isinstance(documents, Missing) else (documents[1] - documents[0]) / 2
    interval = documents if isinstance(documents, Missing) else " to ".join(rounded(end, min(half, 2 * abs(end))) for end in documents)
    if isinstance(seeds, Missing):
        return rounded(found.value, half), interval, seeds
    return rounded(found.value, max(half, seeds)), interval, rounded(seeds, digits=2)


def section(board: Board, column: str) -> str:
    """The folded table of one column."""
    words_once = f"{NOTE}\n\n" if column == EV else ""
    return fold(f"{TITLE}: {SHOWN[column][0]}", f"{words_once}{found}" if (found := table(board, column)) else "")


def further(board: Board) -> list[str]:
    """The same of other compared columns, as far as their draws are in a record."""
    kept = {column for record in board.records for row in record["rows"] for column in row.get("draws", {})}
    return [section(board, column) for column in board.columns if column in kept - {EV, DELTA}]


def sure(board: Board) -> str:
    """At which budgets the best is clear of the next variant, and at which not."""
    tested = [said for column in board.columns if column in (EV, DELTA) and (said := leads(board, column))]
    one = "one seed, so no difference on this page is known to be more than chance: nothing on it is significant. "
    spread = f"± is the standard deviation over {board.seeds} seeds. " if board.seeds > 1 else one
    if not tested:
        return f"**How sure:** {spread}No difference on this page has been tested."
    return (
        f"**How sure:** {spread}Of the leads over the next variant, {'; '.join(tested)}. Clear: the 95% interval of the lead over documents, paired, "
        f"excludes 0, and the lead exceeds {ERRORS:g} standard errors over seeds; in parentheses, what it is not clear of. "
        f"Each source of noise is taken by itself, and the stream of training text is in neither."
    )


def leads(board: Board, column: str) -> str:
    """One column's part of that sentence; empty if no lead can be told."""
    tested = {k: lead(column, k, best[:2], best.next).doubts() for k in board.ks if (best := board.best(column, k)) and best.next}
    clear = [k for k, doubts in tested.items() if not doubts]
    unclear = group([(k, "; ".join(doubts)) for k, doubts in tested.items() if doubts])
    name = column.partition(".")[0].replace("_", " ")
    parts = [f"clear at k = {words(clear)}"] * bool(clear) + [f"not clear at k = {unclear}"] * bool(unclear)
    return f"in {name} {', '.join(parts)}" if parts else ""


def group(doubts: Sequence[tuple[int, str]]) -> str:
    """Budgets with the same doubts together: 1 and 4 (seeds), 16 (documents)."""
    kinds = dict.fromkeys(doubt for _, doubt in doubts)
    return ", ".join(f"{words(k for k, other in doubts if other == doubt)} ({doubt})" for doubt in kinds)
