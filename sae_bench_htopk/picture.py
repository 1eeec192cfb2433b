"""A figure as data: its points, what is drawn of them where, its CSV, and a stamp that tells whether a drawing is still the same."""

import csv
import hashlib
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, TypeAlias

from sae_bench_htopk import frontier, plugins
from sae_bench_htopk.palette import look
from sae_bench_htopk.saes import SHOWN

Scale: TypeAlias = Literal["linear", "log", "unexplained"]  # unexplained: log of 1 - y, for what ends at 1
TINY = 1e-6  # what a log scale shows of 0
WORSE = 0.05  # of what the thick lines take: so much is shown beyond them of what is worse
DRAWING = ("axes", "palette", "picture", "svg")  # beside a picture's own module, what every drawing comes through


class Point(NamedTuple):
    """One reading, or one size of dictionary, on one line of one panel."""

    panel: str
    line: str
    variant: str
    kind: Literal["envelope", "sae", "single", "oracle", "control"]  # envelope: the best of a variant's SAEs; sae: one of several; single: the only one
    x: float
    y: float
    spread: float | None  # standard deviation over seeds
    note: str  # where the reading's L0 is not its k: it is not compared
    best: bool  # on the frontier of its panel: no other point of a trained SAE is as good in x and y and better in one
    k: int | None = None  # that a reading was asked for at, where x is its measured L0

    def place(self) -> float:
        """Where it is compared: at its k, if its L0 is within 2% of that."""
        return self.x if self.k is None else frontier.snapped(self.x, self.k)


@dataclass(frozen=True)
class Picture:
    """All that a figure is drawn from; each kind of figure is a kind of this."""

    name: str
    alt: str
    x: str
    y: str
    better: frontier.Better
    points: tuple[Point, ...]
    scale: Scale = "linear"
    module: ClassVar[str]  # which draws it, by a function `draw`; it alone imports what it draws with

    def csv(self) -> str:
        """The data, six digits of each number."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["panel", "line", "variant", "kind", self.x, self.y, "standard deviation over seeds", "note", "on the frontier"])
        for point in self.points:
            numbers = ["" if number is None else f"{number:.6g}" for number in (point.x, point.y, point.spread)]
            writer.writerow([point.panel, point.line, point.variant, point.kind, *numbers, point.note, "yes" if point.best else "no"])
        return file.getvalue()

    def y_title(self) -> str:
        """EV (higher is better; log of 1 - EV)."""
        title = SHOWN[self.y][0]
        return f"{title} ({self.better} is better{ {'linear': '', 'log': '; log scale', 'unexplained': f'; log scale of 1 - {title}'}[self.scale] })"

    def height(self, y: float) -> float:
        """Where y is drawn on the axis."""
        return y if self.scale == "linear" else math.log(max(y, TINY)) if self.scale == "log" else -math.log(max(1 - y, TINY))

    def colours(self) -> str:
        """How each variant in the picture is drawn; those that are not in it do not matter."""
        drawn = {p.variant for p in self.points}
        return str({name: how for name, how in look(drawn).items() if name in drawn})

    def stamp(self) -> str:
        """The hash of the data, the words, the colours and the code that draws: two drawings of one stamp show the same."""
        code = (plugins.code_of(Path(__file__).with_name(f"{name}.py")) for name in sorted({self.module, *DRAWING}))
        drawn = [self.csv(), self.alt, self.y_title(), self.scale, self.colours(), *code]
        return hashlib.sha256("\0".join(drawn).encode()).hexdigest()[:32]

    def limits(self) -> tuple[float, float]:
        """The range of heights: everything on the better side, controls too, and on the worse side a little more than the thick lines and their bands."""
        lines = [p for p in self.points if p.kind in ("envelope", "single", "oracle")]
        thick = [self.height(p.y + sign * (p.spread or 0.0)) for p in lines for sign in (-1, 0, 1)]
        every = [*thick, *(self.height(p.y) for p in self.points)]
        low, high = min(thick or every), max(thick or every)
        span = max(high - low, 1e-3)
        if self.better == "higher":
            low, high = max(min(every), low - WORSE * span), max(every)
        else:
            low, high = min(every), min(max(every), high + WORSE * span)
        return low - span / 15, high + span / 15

    def outside(self) -> list[str]:
        """The lines of which some point is outside the picture."""
        low, high = self.limits()
        return list(dict.fromkeys(point.line for point in self.points if not low <= self.height(point.y) <= high))


def stamp_of(text: str) -> str | None:
    """The stamp that a drawing carries."""
    _, found, rest = text.partition("<!-- stamp ")
    return rest.split(" ", 1)[0] if found else None
