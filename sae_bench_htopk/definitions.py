"""The table of what every number means, from the metrics' own columns: printed by `python -m sae_bench_htopk definitions`."""

from collections.abc import Iterable

from sae_bench_htopk import plugins
from sae_bench_htopk.contract import Column

HEADS = ("column", "better", "what it is", "formula", "source", "what misleads", "interval")


def page() -> str:
    """Markdown: for each metric its line and a table of its columns. This is metrics/README.md."""
    opening = "# What the numbers mean\n\nMade by `python -m sae_bench_htopk definitions` from the columns of the metrics in this folder.\n\n"
    opening += (
        "x is an activation, x_hat its reconstruction, a the value and w the decoder row of a code. Rows are held-out tokens; massive rows, those whose norm "
        "is above the stream's limit, are left out unless a column says otherwise. An interval comes from drawing documents with replacement."
    )
    return "\n\n".join((opening, *(section(name) for name in plugins.names("metrics")))) + "\n"


def section(name: str) -> str:
    """One metric; one without columns is looked at, not compared."""
    rows = [HEADS, *(row(column) for column in plugins.metric(name).columns)]
    title = f"## {name}\n\n{plugins.first_line('metrics', name)}"
    return (
        title
        if len(rows) == 1
        else f"{title}\n\n" + "\n".join(f"| {' | '.join(cells)} |{divider}" for cells, divider in zip(rows, dividers(len(rows)), strict=True))
    )


def dividers(rows: int) -> Iterable[str]:
    """What follows each line of a table: under its head, a rule."""
    return ("\n|" + " --- |" * len(HEADS), *[""] * (rows - 1))


def row(column: Column) -> tuple[str, ...]:
    """The cells of one column; bars inside a formula would end a cell."""
    words = (column.meaning, f"`{column.formula}`" if column.formula else "", column.source, column.pitfall, "" if column.resampled else "none")
    return (f"`{column.name}`", "" if column.better == "neither" else column.better, *(word.replace("|", "\\|") for word in words))
