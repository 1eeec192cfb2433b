"""Figures of lines, as data: a panel or two, each line of a variant, of one SAE or of a control."""

from dataclasses import dataclass
from typing import ClassVar

from sae_bench_htopk.picture import Picture


@dataclass(frozen=True)
class Lines(Picture):
    """One panel or two of lines with markers."""

    module: ClassVar[str] = "draw_lines"


class Ratio(Lines):
    """Lines of a number that is no column itself; y says what it is."""

    def y_title(self) -> str:
        """unexplained variance over the best's (lower is better; log scale)."""
        return f"{self.y} ({self.better} is better; {self.scale} scale)"
