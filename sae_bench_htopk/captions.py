"""Figures on a page with their captions: what their lines are, and where their data lies."""

from sae_bench_htopk.board import Board
from sae_bench_htopk.markdown import words
from sae_bench_htopk.picture import Picture


def show(board: Board, picture: Picture | None) -> str:
    """A figure with its caption."""
    if picture is None:
        return ""
    kinds, outside = {point.kind for point in picture.points}, picture.outside()
    caption = [
        "Thick: a variant, of its SAEs the readings that no other of them passes at the same L0." if "envelope" in kinds else "",
        "Thin: each of its SAEs, read at every k." if "sae" in kinds else "",
        "Dashed: SAEs trained anew at each size." if "oracle" in kinds else "",
        "Further dashes: SAEs of one variant, which share its colour." if shared(picture) else "",
        "Filled: on the Pareto frontier, nothing as far left is better." if any(point.best for point in picture.points) else "",
        "Points with a note in the data were read at another L0 than k and are not ranked." if any(point.note for point in picture.points) else "",
        "Grey: controls." if "control" in kinds else "",
        "Bands: ± one standard deviation over seeds." if any(point.spread for point in picture.points) else "",
        f"Partly or wholly out of the picture: {words(outside)}." if outside else "",
        f"[Data]({board.suite}/{picture.name}.csv).",
    ]
    return f"![{picture.alt}]({board.suite}/{picture.name}.svg)\n\n<sub>{' '.join(part for part in caption if part)}</sub>"


def shared(picture: Picture) -> bool:
    """Whether several SAEs that stand for themselves are of one variant."""
    lines = {(point.line, point.variant) for point in picture.points if point.kind == "single"}
    return len({variant for _, variant in lines}) < len(lines)
