"""The table of definitions: what is committed is what the columns say, and every column says enough."""

from pathlib import Path

import pytest

from sae_bench_htopk import definitions, plugins
from sae_bench_htopk.__main__ import main
from sae_bench_htopk.contract import Column

ROOT = Path(__file__).parents[1]


def test_the_page_in_metrics_is_what_the_columns_say(capsys: pytest.CaptureFixture[str]) -> None:
    """python -m sae_bench_htopk definitions > metrics/README.md makes it so."""
    assert main(["definitions"]) == 0
    assert (ROOT / "metrics" / "README.md").read_text(encoding="utf-8") == capsys.readouterr().out


@pytest.mark.parametrize("name", plugins.names("metrics"))
def test_every_column_has_a_formula_and_a_source(name: str) -> None:
    """And a meaning; names are not used twice."""
    columns = plugins.metric(name).columns
    assert all(column.meaning and column.formula and column.source for column in columns)
    assert len({column.name for column in columns}) == len(columns)


def test_a_row_of_the_table_by_hand() -> None:
    """Bars are escaped, and what is not resampled says that it has no interval."""
    column = Column("l", "neither", "a|b", resampled=False, formula="|x|", source="ours")
    assert definitions.row(column) == ("`l`", "", "a\\|b", "`\\|x\\|`", "ours", "", "none")


def test_rewording_a_column_moves_no_key_and_renaming_it_does(tmp_path: Path) -> None:
    """The words are for readers: meaning, formula, source and pitfall may change without measuring anew."""
    made = {}
    for name, text in {
        "first": 'Column("ev", "higher", "one", formula="a", source="b", pitfall="c")',
        "reworded": 'Column("ev", "higher", "two", formula="d", source="e")',
        "renamed": 'Column("fvu", "higher", "one", formula="a", source="b", pitfall="c")',
        "turned": 'Column("ev", "lower", "one", formula="a", source="b", pitfall="c")',
        "fixed": 'Column("ev", "higher", "one", resampled=False)',
        "paired": 'Column("ev", "higher", "one", paired=True)',
    }.items():
        (tmp_path / f"{name}.py").write_text(f"columns = ({text},)\n", encoding="utf-8")
        made[name] = plugins.code_of(tmp_path / f"{name}.py")
    assert made["first"] == made["reworded"] and len(set(made.values())) == 5
