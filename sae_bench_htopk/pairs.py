"""Says whether one SAE beats another by more than the noise of the text and of the seeds: a table for each column, and a sentence."""

from collections.abc import Iterable

from sae_bench_htopk import contrasts
from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.identical import in_every_number
from sae_bench_htopk.leads import Lead, drawn, lead
from sae_bench_htopk.markdown import Table, fold, rounded, words
from sae_bench_htopk.saes import CKA_SAMPLE, COMPARED, DELTA, EV

TITLE = "Differences from the best at each k"
NOTE = (
    "Lead: by how much the best of all SAEs is better, also where one that has not so many codes to give does better. It is taken at "
    "L0 = k exactly, in log L0 between the nearest readings on both sides (~), also where a reading within 2% of k makes the headline, so the two may differ "
    "in the last digits, and a lead may vanish or turn. Without readings on both sides a number is as it was read; if the two L0s then differ by more than "
    "0.1%, they stand behind the lead, which "
    "is clear only if it is more than twice what that difference makes on the steepest stretch of either SAE's readings. "
    "Over documents: half the 95% interval whose standard error is the standard deviation of the lead over draws of documents with replacement, the same "
    "draws for both SAEs, each one's seeds averaged in every draw; 100 draws give it to 7%. Each draw is interpolated with the shares that the measured "
    "L0s give the readings: that a draw has an L0 of its own is ignored, so what this does to the number is part of the interval. Over seeds: half the 95% "
    "interval of a difference of means, sqrt(s1²/n1 + s2²/n2) times Student's t with Welch's degrees of freedom. Clear: the lead is larger than "
    "each of the two, and than half the interval of both errors together (Satterthwaite's degrees of freedom). Both SAEs were picked by these same "
    "numbers, and nothing is corrected for the "
    "number of pairs, so all of this is exploratory: only primary contrasts, where a suite declares any, are corrected. "
    "Identical: all that both have of this number is the same to the last bit."
)
SAMPLE = "It stands for CKA over all rows, for which documents are not drawn: no lead in CKA itself is tested."


def verdict(found: Lead) -> str:
    """Clear, not clear or not tested, and of what."""
    doubts, untested = found.doubts(), list(found.untested())
    if doubts:
        return f"not clear: {'; '.join(doubts)}" + (f" ({words(untested)} not tested)" if untested else "")
    if untested:
        return f"not tested: {words(untested)}" + "".join(f" (clear of {name})" for name in found.known())
    return "clear"


def table(board: Board, column: str) -> str:
    """At each budget the best SAE against the best of each other variant."""
    made = Table("k", "best", "ahead of", "lead", "95% over documents", "95% over seeds", "verdict")
    for k in board.ks:
        if not (best := board.best(column, k)):
            continue
        for variant in board.variants:
            other = board.best(column, k, board.of(variant))
            if other and variant != best.sae.variant:
                found = lead(column, k, best.sae, other.sae)
                made.add(
                    str(k),
                    board.label(best.sae),
                    board.label(other.sae),
                    *cells(found),
                    "identical" if in_every_number(column, best.sae, other.sae) else verdict(found),
                )
    return made.markdown()


def cells(found: Lead) -> tuple[str, str | Missing, str | Missing]:
    """The lead to the digits that the wider noise supports, and both noises to no more than they are known to."""
    value = rounded(found.value, max((noise.half() for noise in found.known().values()), default=0.0), digits=2)
    l0s = f" (L0 {rounded(found.l0s[0], digits=4)} against {rounded(found.l0s[1], digits=4)})" if found.l0s else ""
    documents, seeds = (noise if isinstance(noise, Missing) else f"±{rounded(noise.half(), noise.half())}" for noise in (found.documents, found.seeds))
    return f"{'~' if found.interpolated else ''}{value}{l0s}", documents, seeds


def others(board: Board) -> list[str]:
    """The compared columns beside the two of the headlines that a record keeps draws of."""
    return [column for column in COMPARED if column in drawn(board) - {EV, DELTA}]


def section(board: Board, column: str) -> str:
    """The folded table of one column; the first one on the page explains them all."""
    if not (found := table(board, column)):
        return ""
    first = next(other for other in (EV, DELTA, *others(board)) if table(board, other)) == column
    said = [NOTE] * first + [SAMPLE] * (column == CKA_SAMPLE)
    return fold(f"{TITLE}: {COMPARED[column][0]} (exploratory)", "\n\n".join([*said, found]))


def further(board: Board) -> list[str]:
    """The same of other compared columns, as far as their draws are in a record."""
    return [section(board, column) for column in others(board)]


def sure(board: Board) -> str:
    """At which budgets the best is clear of the next variant, at which not, and where that was not tested."""
    one = "one seed, so no difference on this page is known to be more than chance: nothing on it is significant. "
    spread = f"± is the standard deviation over {board.seeds} seeds. " if board.seeds > 1 else one
    opening = f"**How sure:** {spread}{contrasts.summary(board)}"
    if not drawn(board):
        seeds = ", so no lead is tested for both noises; what seeds alone say stands in the tables of differences" if board.seeds > 1 else ""
        return f"{opening} Differences over documents are not in these records{seeds}."
    tested = [said for column in board.columns if column in (EV, DELTA) and (said := leads(board, column))]
    if not tested:
        return f"{opening} No lead over the next variant has been tested."
    return (
        f"{opening} Of the leads over the next variant, {'; '.join(tested)}. Clear: at L0 = k exactly, the lead is larger than half its 95% "
        f"interval over documents, paired, than that over seeds, by Student's t, and than both together; in parentheses, what it is not clear of, or why it "
        f"was not tested. "
        f"The stream of training text is in neither."
    )


def leads(board: Board, column: str) -> str:
    """One column's part of that sentence; empty if no lead can be told."""
    found = {k: lead(column, k, best.sae, best.next[0]) for k, best in board.winners(column).items() if best.next}
    clear = [k for k, one in found.items() if not one.doubts() and not one.untested()]
    unclear = group((k, "; ".join(one.doubts())) for k, one in found.items() if one.doubts())
    untested = group(
        (k, "; ".join(f"{name}: {why}" for name, why in one.untested().items())) for k, one in found.items() if one.untested() and not one.doubts()
    )
    name = column.partition(".")[0].replace("_", " ")
    parts = [f"{kind} at k = {ks}" for kind, ks in (("clear", words(clear) if clear else ""), ("not clear", unclear), ("not tested", untested)) if ks]
    return f"in {name} {', '.join(parts)}" if parts else ""


def group(reasons: Iterable[tuple[int, str]]) -> str:
    """Budgets with the same reason together: 1 and 4 (seeds), 16 (documents)."""
    of: dict[str, list[int]] = {}
    for k, reason in reasons:
        of.setdefault(reason, []).append(k)
    return ", ".join(f"{words(ks)} ({reason})" for reason, ks in of.items())
