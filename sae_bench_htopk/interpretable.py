"""What a page says of interpretability without a judge: every score beside those of the untrained SAE and of what needs no SAE at all."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from sae_bench_htopk.asked import HELD_OUT, metric_of, text_of
from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.group_tables import bands, shells
from sae_bench_htopk.label_tables import FLOORS, labels, labels_of_smaller, untrained
from sae_bench_htopk.leads import lead
from sae_bench_htopk.markdown import Table, brief, fold, rounded, shown, words
from sae_bench_htopk.pairs import verdict
from sae_bench_htopk.saes import COMPARED, L0, Number, Sae
from sae_bench_htopk.tables import unmarked

AUC, INTRUDER = "sparse_probing.auc_1", "latent_purity.intruder"
AGAINST_K = (AUC, INTRUDER, "latent_purity.monosemanticity")  # the scores that are told at every budget
JUDGED = "latent_purity.judged"  # of the latents in use, those that fire often enough for intruder, monosemanticity and purity
OF_JUDGED = frozenset({INTRUDER, "latent_purity.monosemanticity", "latent_purity.purity"})
RANDOM, TOKEN, ALWAYS = "sparse_probing.floor_random", "sparse_probing.floor_token", "sparse_probing.floor_f1"
SCORES: Mapping[str, tuple[str, float]] = {  # column -> its title, and which way is better
    AUC: ("probing AUC", 1.0),
    "sparse_probing.f1": ("F1 of firing", 1.0),
    INTRUDER: ("intruder", 1.0),
    "latent_purity.monosemanticity": ("monosemanticity", 1.0),
    "latent_purity.purity": ("token purity", 1.0),
    "absorption.absorption": ("absorbed", -1.0),
}
WORDS = (
    "No judge: labels are the exact syntax of Python text or those of labelled data sets, and contexts are compared by the language model's own input "
    "embeddings. Probing AUC: how well one latent tells a label that the token itself does not wholly give away (or that a suite chose), chance 0.5. "
    "Intruder: how often the one context of five in which a latent is silent is the least like the others, chance about 0.2. Monosemanticity: how alike a "
    "latent's contexts are, 0 for random rows. Token purity: how often two firings are on one token, 0 for a random latent. Absorbed (lower is better): "
    "rows of a label within another on which the outer label's latents are silent and another latent stands in for them. The three before it are means "
    "over the latents that fire often enough in a sample to be judged; the share of these stands last: where it is small, rare latents, often the purest, "
    "are left out, and what is left is not the same kind of latents in every SAE. Intervals over documents of these three are of first order (the "
    "infinitesimal jackknife): those of intruder are about twice too wide, those of token purity may be somewhat too narrow."
)
SIGNS = (
    "† not better than the untrained SAE at the same k by more than half both 95% intervals over documents together: such a score says nothing of training. "
    "‡ cannot be compared with it: the untrained SAE has no such score there, or neither has an interval."
)


def section(board: Board) -> list[str]:
    """All of it; nothing where none of these metrics was measured."""
    if not (columns := measured(board)):
        return []
    return [
        "## Interpretability without a judge",
        WORDS,
        scores(board, columns),
        SIGNS if untrained(board) else "There is no untrained SAE on this page to compare these scores with.",
        floors(board),
        *[
            f"{title(column)[:1].upper()}{title(column)[1:]} of each SAE at each k that it was read at; bold where it was trained.\n\n{found}"
            for column, found in by_k(board, columns)
        ],
        labels(board),
        fold("Labels: fewer latents, cut down or nested", labels_of_smaller(board)),
        fold("By band of rank: what the larger codes of a row say, and what the smaller ones add", bands(board)),
        fold("By shell: the latents that are kept first against those that are dropped first, where both fire equally often", shells(board)),
    ]


def measured(board: Board) -> list[str]:
    """The scores that any record holds; on labelled texts only the first of them, each text a column of its own."""
    known = {column for record in board.records for row in record["rows"] for column in row["values"]}
    labelled = sorted(column for column in known if text_of(column.partition(".")[0]) != HELD_OUT and plain(column) == AUC)
    return [column for column in SCORES if column in known] + labelled


def plain(column: str) -> str:
    """The column without the text that it was measured on."""
    metric, _, name = column.partition(".")
    return f"{metric_of(metric)}.{name}"


def title(column: str) -> str:
    """For people."""
    text = text_of(column.partition(".")[0])
    return SCORES[plain(column)][0] + ("" if text == HELD_OUT else f", {text}")


def sentences(board: Board) -> list[str]:
    """Who is best at the anchor in what needs no judge, how sure that is, and how many scores say nothing of training."""
    k, parts = board.anchor, []
    for column, (best, other), vain in bests(board, k):
        found = lead(column, k, best, other)
        ahead = f"ahead of {board.label(other)} by {rounded(found.value, digits=2)}: {verdict(found)}"
        said = f"nobody, since the best, {board.label(best)}, is not clearly better than the untrained SAE" if vain else f"**{board.label(best)}** ({ahead})"
        parts.append(f"{SCORES[column][0]} {said}")
    if not parts:
        return []
    worse, told = futile(board, k)
    compared = f" {worse} of the {told} scores at this k are not better than the untrained SAE's."
    floor = compared if untrained(board) else " There is no untrained SAE to compare them with."
    return [f"**Most interpretable without a judge**, read at k = {k}: {words(parts)}.{floor}{passed(board, k)}"]


def bests(board: Board, k: int) -> list[tuple[str, tuple[Sae, Sae], bool]]:
    """For each score (the best SAE at k, the best of another variant), and whether even the best is not clearly better than the untrained SAE, as read."""
    found = [(column, best) for column in SCORES if column in COMPARED and (best := board.best(column, k))]
    return [(column, (best.sae, best.next[0]), "†" in str(marked(board, best.sae, column, k))) for column, best in found if best.next]


def futile(board: Board, k: int) -> tuple[int, int]:
    """(how many scores at k are not better than the untrained SAE's, how many can be compared with it)."""
    cells = [marked(board, sae, column, k) for sae in board.saes for column in SCORES]
    told = [cell for cell in cells if isinstance(cell, str) and "‡" not in cell]
    return sum("†" in cell for cell in told), len(told)


def sign(number: Number, floor: Number | Missing, better: float) -> str:
    """† where a number is not better than the untrained SAE's by more than both intervals, ‡ where nobody can tell."""
    if isinstance(floor, Missing) or (number.half is None and floor.half is None):
        return " ‡"
    return "" if better * (number.mean - floor.mean) > math.hypot(number.half or 0.0, floor.half or 0.0) else " †"


def marked(board: Board, sae: Sae, column: str, k: int) -> str | Missing:
    """The number as it was read, with a sign if the untrained SAE is as good or cannot be compared; without one where there is no such SAE at all."""
    number, control = sae.read(column, k), untrained(board)
    if isinstance(number, Missing):
        return number
    cell = shown(number._replace(how="read"))
    return cell if control is None or sae.control else cell + sign(number, control.read(column, k), SCORES[plain(column)][1])


def read_at(sae: Sae, columns: Sequence[str]) -> list[int]:
    """The budgets at which any of the columns has a number."""
    return [k for k in sae.ks() if any(isinstance(sae.read(column, k), Number) for column in columns)]


def scores(board: Board, columns: Sequence[str]) -> str:
    """Every SAE at the budget nearest to its own, and the controls at the budget of most."""
    judged = any(JUDGED in row["values"] for record in board.records for row in record["rows"])
    table = Table("SAE", "read at k", "measured L0", *map(title, columns), *["latents judged"] * judged)
    for sae in [*board.saes, *board.controls]:
        aim = board.anchor if sae.control else sae.budget
        if ks := read_at(sae, columns):
            k = min(ks, key=lambda k: abs(math.log(k / aim)))
            name = f"*{board.label(sae)}* (control)" if sae.control else board.label(sae)
            l0 = sae.read(L0, k)
            share = [unmarked(sae.read(JUDGED, k))] * judged
            table.add(name, str(k), l0 if isinstance(l0, Missing) else brief(l0), *(marked(board, sae, column, k) for column in columns), *share)
    return table.markdown()


def mean_of(board: Board, column: str) -> float | None:
    """Over the suite's own size of dictionary: floors that need no SAE are one for all of these, but for shuffled labels, which differ a little."""
    numbers = [number.mean for sae in board.saes for k in sae.ks() if isinstance(number := sae.read(column, k), Number)]
    return fmean(numbers) if numbers else None


def floors(board: Board) -> str:
    """One sentence on what needs no SAE."""
    found = {name: rounded(value) for column, name in FLOORS.items() if (value := mean_of(board, column)) is not None}
    always = mean_of(board, ALWAYS)
    f1 = f" F1 of a latent that always fires: {rounded(always)}." if always is not None else ""
    return (
        f"Probing AUC without an SAE (shuffled labels: with one, a mean over all): {', '.join(f'{name} {number}' for name, number in found.items())}.{f1}"
        if found
        else ""
    )


def passed(board: Board, k: int) -> str:
    """How many SAEs are above the floors of probing at this budget: what needs a language model but no SAE, and what needs neither."""
    numbers = [number.mean for sae in board.saes if isinstance(number := sae.read(AUC, k), Number)]
    parts = [
        f"above {FLOORS[column]} ({rounded(floor)}): {sum(number > floor for number in numbers)}"
        for column in (RANDOM, TOKEN)
        if (floor := mean_of(board, column)) is not None
    ]
    return f" Of the {len(numbers)} SAEs' probing AUCs, {'; '.join(parts)}." if parts and numbers else ""


def by_k(board: Board, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """For the scores that are compared most, every SAE that was read at two budgets or more beside those of one budget each."""
    for column in AGAINST_K:
        ks = sorted({k for sae in board.saes for k in read_at(sae, [column])})
        if column in columns and len(ks) > 1:
            table = Table("SAE", *(f"k = {k}" for k in ks))
            for sae in [*board.saes, *filter(None, [untrained(board)])]:
                table.add(
                    board.label(sae),
                    *(marked(board, sae, column, k) for k in ks),
                    bold=[place + 1 for place, k in enumerate(ks) if sae.trained_at(k) and not sae.control],
                )
            yield column, table.markdown()
