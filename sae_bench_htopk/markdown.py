"""Numbers to the digits that they support, and tables whose empty cells have reasons, as Markdown."""

import math
import re
from collections.abc import Iterable, Sequence

from sae_bench_htopk.contract import Missing
from sae_bench_htopk.saes import Number


def rounded(value: float, half: float | None = None, digits: int = 3, sign: bool = False) -> str:
    """A number to the digits that half its interval supports; to so many significant digits without one.

    The half itself keeps one digit, or two if they are at most 35 or would round up to 10 (the rule of the Particle Data Group).
    """
    if not (scale := half or abs(value)):
        return "0"
    power = math.floor(math.log10(scale))
    if half:
        leading = half / 10**power
        digits, power = (2, power) if leading < 3.55 else (1, power) if leading < 9.5 else (2, power + 1)
    text = f"{value:{'+' if sign else ''},.{min(max(digits - 1 - power, 0), 6)}f}"
    return text if re.search("[1-9]", text) else text.lstrip("-")


def brief(number: Number) -> str:
    """A number to the digits that its spread over seeds and its interval over documents support."""
    return rounded(number.mean, max(number.spread or 0.0, number.half or 0.0) or None)


def shown(number: Number) -> str:
    """A number as a cell: ~ before one that is interpolated, the measured L0 behind one that was not read at its k."""
    text = ("~" if number.how == "interpolated" else "") + brief(number)
    if number.spread is not None:
        decimals = len(text.partition(".")[2])
        spread = f"{number.spread:.{decimals}f}"
        text += f" ±{spread}" if number.spread == 0 or re.search("[1-9]", spread) else f" ±<{10.0**-decimals:.{decimals}f}"
    return text + (f" (L0 {rounded(number.l0)})" if number.how == "off" and number.l0 is not None else "")


class Table:
    """A Markdown table whose empty cells have their reasons under it."""

    def __init__(self, *header: str) -> None:
        self.header, self.lines = header, list[tuple[str, ...]]()
        self.words: set[int] = set()  # places of columns of words, which stand left
        self.reasons: list[str] = []

    def add(self, *cells: Number | Missing | str | float | None, bold: Sequence[int] = ()) -> None:
        """One row; `bold` are places of cells."""
        texts = [self.cell(cell) for cell in cells]
        self.words |= {index for index, cell in enumerate(cells) if isinstance(cell, str) and cell.lstrip("*[")[:1].isalpha()} | {0}
        self.lines.append(tuple(f"**{text}**" if index in bold else text for index, text in enumerate(texts)))

    def cell(self, cell: Number | Missing | str | float | None) -> str:
        """The text of a cell; a missing number is a letter that stands under the table with its reason."""
        if isinstance(cell, Missing):
            if cell.reason not in self.reasons:
                self.reasons.append(cell.reason)
            return f"<sup>{letter(self.reasons.index(cell.reason))}</sup>"
        if isinstance(cell, Number):
            return shown(cell)
        return "" if cell is None else rounded(cell) if isinstance(cell, int | float) else cell.replace("|", "\\|")

    def markdown(self) -> str:
        """The table and its reasons."""
        if not self.lines:
            return ""
        ruler = tuple("---" if index in self.words else "--:" for index in range(len(self.header)))
        reasons = "; ".join(f"<sup>{letter(index)}</sup> {reason}" for index, reason in enumerate(self.reasons))
        return "\n".join(f"| {' | '.join(line)} |" for line in [self.header, ruler, *self.lines]) + (f"\n\nEmpty cells: {reasons}." if reasons else "")


def letter(index: int) -> str:
    """a, b, ..., z, then aa, ab and so on."""
    return (letter(index // 26 - 1) if index > 25 else "") + chr(ord("a") + index % 26)


def literal(text: str) -> str:
    """Text in which no sign means anything to Markdown or HTML, in one line."""
    return re.sub(r"([\\`*_\[\]{}()#+!|<>~&-])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Text as a piece of code in one line, whatever backticks are in it."""
    text = " ".join(text.split()) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def words(items: Iterable[object]) -> str:
    """a, b and c."""
    *most, last = [str(item) for item in items] or ["none"]
    return f"{', '.join(most)} and {last}" if most else last


def fold(summary: str, body: str) -> str:
    """Something that the reader opens; nothing if there is nothing."""
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>" if body else ""
