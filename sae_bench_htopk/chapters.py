"""The longer sections of a page: its top, and what it says of sparsity, dictionary size, the language model's loss, and the fall-off of latents."""

from collections.abc import Mapping

from sae_bench_htopk import curve, falloff, figures, pairs, sizes
from sae_bench_htopk.board import Board
from sae_bench_htopk.captions import show
from sae_bench_htopk.identical import BY_CONSTRUCTION
from sae_bench_htopk.markdown import fold
from sae_bench_htopk.picture import Picture
from sae_bench_htopk.saes import DELTA, EV, SCORE, SHOWN
from sae_bench_htopk.sentences import in_detail, in_short
from sae_bench_htopk.tables import controls, details, every_measure, headline, metric_tables, selectors, trained_and_read

Drawn = Mapping[str, Picture]
LOSS = (
    "What it costs the language model, in nats per token, to go on from the reconstruction instead of the activation; lower is better. The CE score puts it "
    "beside what it costs to go on from the mean activation: 1 is no loss at all. Beside zeros, which cost far more, every score is near 1; that one stands "
    "in the table of all columns."
)
LAW = (
    "Importance in plain SAEs is claimed to fall off by rank as a power law (arXiv:2505.00190). Fitted by likelihood from rank 10 on "
    "(importance and frequency to as many ranks as latents fired 30 times), and tested against two other laws on the same latents. A lognormal holds the "
    "power law as a limit, so a low p says that the fall-off bends away from every power (Wilks' test); for the exponential z above 2 speaks "
    "for the power law, below -2 against it (Vuong's test). Latents of one SAE are no independent draws, so p and intervals are too sure."
)
DETAIL = "The same with every number, and what each difference is clear of"
BOLD = (
    "Bold: the best of the column, none where one that has not so many codes to give is better, whose L0 stands behind its number. ~ is interpolated between "
    "measured L0s. Controls bound what a number means and are not ranked. Means over L0 are areas "
    "under the best of a variant's SAEs, in log L0, on one grid and range for all, from the k that all were read at; in parentheses, how many SAEs that "
    "takes. Trainings in use: how many make the numbers at a measured L0 of k (a mean over L0 may take more); seconds of their own steps and FLOPs are theirs, "
    "added up, for each seed."
)


def top(board: Board, drawn: Drawn) -> list[str]:
    """A sentence for each question, the same in detail, and the frontier."""
    return [
        "## In short",
        "\n".join(f"- {sentence}" for sentence in in_short(board)),
        fold(DETAIL, "\n".join(f"- {sentence}" for sentence in in_detail(board))),
        show(board, drawn.get("frontier")),
        show(board, drawn.get("relative")),
    ]


def sparsity(board: Board, drawn: Drawn) -> list[str]:
    """The table of explained variance, with areas and costs."""
    return [
        "## Explained variance at each sparsity",
        headline(board, EV),
        " ".join([BOLD, *same(board)]),
        curve.section(board, drawn.get("curve")),
        fold("All measures of each variant's best SAE at each k, as read, with its measured L0", every_measure(board)),
        pairs.section(board, EV),
    ]


def same(board: Board) -> list[str]:
    """A sentence for each SAE that reads another's weights and is not listed with it."""
    return [
        f"{board.label(sae)} reads the weights of {board.label(owner)}: with all {board.latents:,} latents they are one and the same, {BY_CONSTRUCTION}, "
        "so it is compared on fewer latents only."
        for sae, owner in board.borrowed
    ]


def dictionary(board: Board, drawn: Drawn) -> list[str]:
    """Every measure by the number of latents; nothing where no SAE was read with fewer than all."""
    return ["## Dictionary size", show(board, drawn["dictionary"]), *sizes.tables(board, drawn)] if "dictionary" in drawn else []


def downstream(board: Board, drawn: Drawn) -> list[str]:
    """What reconstructions cost the language model."""
    if "loss" not in drawn:
        return []
    return ["## Downstream loss", LOSS, show(board, drawn["loss"]), headline(board, DELTA), pairs.section(board, DELTA), measure(board, drawn, SCORE)]


def power_law(board: Board, drawn: Drawn) -> list[str]:
    """How latents fall off by rank."""
    if "falloff" not in drawn:
        return []
    law = "## Do latents follow a power law?", LAW, " ".join(falloff.sentences(board)), show(board, drawn["falloff"])
    return [*law, fold("The fits", falloff.table(board))]


def trained_at(board: Board) -> list[str]:
    """Every SAE at every budget."""
    return [
        "## Trained at, read at",
        "Explained variance of each SAE by its native selector; bold where it is read at the k that it was trained at.",
        trained_and_read(board),
        fold("By each selector", selectors(board)),
    ]


def measure(board: Board, drawn: Drawn, column: str) -> str:
    """One compared column's frontier and table, folded."""
    picture = drawn.get(figures.name_of(column))
    return fold(f"{SHOWN[column][0]} at each sparsity", f"{show(board, picture)}\n\n{headline(board, column)}") if picture else ""


def more_measures(board: Board, drawn: Drawn) -> list[str]:
    """The other compared columns, then everything that was measured."""
    others = [column for column in board.columns if column not in (EV, DELTA, SCORE)]
    found = [*(measure(board, drawn, column) for column in others), *metric_tables(board), *details(board), *pairs.further(board)]
    return ["## More measures", *found, fold("Controls", controls(board))]
