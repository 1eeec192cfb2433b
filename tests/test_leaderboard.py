"""Pages from synthetic records: what the page says, that it is remade exactly, and that one changed digit is seen."""

import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sae_bench_htopk import axes, board, latent_pages, leaderboard, markdown, palette, picture, plugins, records, saes
from sae_bench_htopk.storage import StorageError

KS, N = (4, 8, 16, 32), 2048
Made = dict[str, Any]


def quality(variant: str, trained: int, k: float, share: float) -> float:
    """An invented explained variance: rises with L0, falls away from the trained k (little for the one SAE for all), and with fewer latents."""
    base = {"topk": 0.900, "batchtopk": 0.905, "hierarchical_topk": 0.890, "matryoshka": 0.880, "pca": 0.3, "untrained": -2.0, "random_decoder": 0.6}[variant]
    away = 0.002 if variant in ("hierarchical_topk", "pca") else 0.04
    cut = 0.02 if variant == "matryoshka" else 0.06
    return base + 0.02 * math.log2(k / 4) - away * abs(math.log2(trained / k)) + cut * math.log2(share)


def row(variant: str, config: Made, native: str, reading: Made, ev: float, l0: float, **changes: Any) -> Made:
    """One reading's row; `changes` replace or remove (None) its values."""
    values: dict[str, float | None] = {
        "explained_variance.ev": ev, "explained_variance.fvu": 1 - ev, "sparsity.l0": l0, "sparsity.dead": 3.0, "downstream_loss.delta": 1 - ev,
        "representational_similarity.rsa": ev - 0.02, "representational_similarity.cka": ev - 0.01, "sparse_probing.auc_1": 0.8,
    }  # fmt: skip
    values |= changes
    missing = {column: "not asked for at this reading" for column, value in values.items() if value is None}
    string = 0.87 if variant == "topk" else 0.86
    details = {
        "sparse_probing": {"labels": {"comment": {"auc_1": 0.91, "floor": 0.6, "firing_latent": 7, "meaning": "from # on"}, "string": {"auc_1": string}}}
    }
    key = hashlib.sha256(repr((variant, reading)).encode()).hexdigest()[:16]
    return {
        "variant": variant, "config": config, "budget": config["k"], "read_key": key,
        "native": reading["select"] == native, "reading": reading, "values": values,
        "missing": missing, "intervals": {"explained_variance.ev": [ev - 0.004, ev + 0.004]}, "details": details,
    }  # fmt: skip


def rows_of(variant: str, trained: int, seed: int, latents: int, native: str, control: bool) -> list[Made]:
    """Every budget by both selectors on the whole dictionary; those trained at 32 also on fewer latents."""
    sizes: list[int | None] = [None] if control or trained != 32 or latents != N else [None, N // 4, N // 2]
    found = []
    for size in sizes:
        for k in KS:
            for select in ("row",) if control else ("row", "threshold"):
                l0 = k * (1.0 if select == "row" else 1.01)
                ev = quality(variant, trained, l0, (size or N) / N * latents / N) + 0.002 * seed - (0.01 if select != native else 0)
                reading = {"k": k, "latents": size, "select": select, "cut": "before", "rank": "importance"}
                costly = {"sparse_probing.auc_1": None} if k == 4 else {}
                found.append(row(variant, {"k": trained}, native, reading, ev, l0, **costly))
    return found


def make(variant: str = "topk", trained: int = 32, seed: int = 0, latents: int = N, control: bool = False) -> Made:
    """A record of one trained SAE."""
    native = "threshold" if variant in ("batchtopk", "matryoshka") else "row"
    key = hashlib.sha256(repr((variant, trained, seed, latents)).encode()).hexdigest()[:16]
    return {
        "schema": 2, "suite": "small", "train_key": key, "page": {"title": "A small suite", "demonstration": False},
        "sae": {"variant": variant, "config": {"k": trained}, "latents": latents, "seed": seed, "control": control, "trained": not control},
        "rows": rows_of(variant, trained, seed, latents, native, control),
        "curve": [] if control else [{"tokens": 20480, "loss": 0.41, "l0": 32.0, "dead": 12}, {"tokens": 200000, "loss": 0.1234, "l0": 32.0, "dead": 7}],
        "cost": {"train_seconds": 12.3, "train_tokens": 200000, "flops": 1.2e12, "evaluate_seconds": 4.2},
        "stream": {"scale": 0.03, "total_variance": 0.9, "massive_limit": 12.0, "massive": 0, "rows": 200000},
        "text": {"train": "aa", "calibration": "bb", "held_out": "cc", "held_out_tokens": 200100, "held_out_documents": 60,
                 "notes": ["sympy 1.13 stands for 1.14"]},
        "model": {"path": "pycode_gemma2", "revision": None, "fingerprint": "ff", "hook": {"layer": 3, "site": "resid_post"}},
        "settings": {"tokens": 200000},
        "provenance": {"commit": "abc", "dirty": False, "versions": {"torch": "2.13.0"}, "device": "cpu", "threads": 2, "deterministic": True,
                       "machine": "a machine", "when": "2026-11-20"},
    }  # fmt: skip


def borrowed(record: Made, variant: str = "pruned_vanilla") -> Made:
    """The same record with rows of a variant that reads its weights."""
    rows = [{**row, "variant": variant, "config": {"k": 32, "base": "topk"}} for row in record["rows"]]
    fewer = [row for row in rows if row["reading"]["latents"]]
    null = [{**row, "reading": {**row["reading"], "rank": "random"}, "values": {**row["values"], saes.EV: 0.1}} for row in fewer]
    return {**record, "rows": record["rows"] + rows + null}


def suite(seeds: int = 2) -> list[Made]:
    """TopK and BatchTopK at several k, two variants at one k, a smaller dictionary, controls."""
    made = []
    for seed in range(seeds):
        made += [make("topk", k, seed) for k in KS[:-1]] + [borrowed(make("topk", 32, seed)), make("batchtopk", 8, seed), make("batchtopk", 32, seed)]
        made += [make("hierarchical_topk", 32, seed), make("matryoshka", 32, seed), make("topk", 32, seed, N // 4)]
    return made + [make(name, 32, 0, N, control=True) for name in ("pca", "untrained", "random_decoder")]


def put(root: Path, made: list[Made], name: str = "small") -> Path:
    """Writes records into a leaderboard folder."""
    for record in made:
        records.write(root / name, {**record, "suite": name})
    return root


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard of one suite with two seeds, built once."""
    root = put(tmp_path_factory.mktemp("leaderboard"), suite())
    leaderboard.build_all(root)
    return root


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    for path in (path for path in built.rglob("*") if path.is_file()):
        (target := tmp_path / path.relative_to(built)).parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    return tmp_path


def page_of(root: Path) -> str:
    """The page that would be written, without drawing its figures."""
    texts, _, _ = leaderboard.render(root, "small")
    return texts[root / "small.md"]


def section(page: str, title: str) -> str:
    """The part of a page under one heading."""
    return page.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def cells(text: str, first: str) -> list[str]:
    """The cells of the first table row that begins with `first`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_build_writes_pages_figures_and_their_data(built: Path) -> None:
    """Each figure has its data beside it; nothing but the index and the page lies at the top."""
    assert sorted(path.name for path in built.glob("*.md")) == ["README.md", "small.md"]
    drawings, data = ({path.stem for path in (built / "small").glob(f"*.{ending}")} for ending in ("svg", "csv"))
    against_size = {"dictionary", *(f"dictionary_{name}" for name in ("loss", "rsa", "cka", "auc_1"))}
    assert drawings == data == {"frontier", "relative", "loss", "rsa", "cka", "auc_1"} | against_size
    page = (built / "small.md").read_text()
    assert page.startswith("<!-- generated by `python -m sae_bench_htopk leaderboard`; do not edit -->\n\n# A small suite\n")
    assert all(f"(small/{name}.svg)" in page and f"(small/{name}.csv)" in page for name in drawings)


def test_a_second_build_is_the_same(built: Path, tmp_path: Path) -> None:
    """Same records, same bytes of every file: drawings too, on one machine."""
    again = put(tmp_path, suite())
    leaderboard.build_all(again)
    assert all(path.read_bytes() == (again / path.relative_to(built)).read_bytes() for path in built.rglob("*") if path.is_file())
    assert leaderboard.check(again) == []


def test_check_passes_after_build(built: Path) -> None:
    """Nothing differs from what the records give."""
    assert leaderboard.check(built) == []


@pytest.mark.parametrize("name", ["small.md", "small/frontier.csv", "README.md"])
def test_check_sees_one_changed_digit(copy: Path, name: str) -> None:
    """In a page, in data, in the index: the file and the line are named."""
    path = copy / name
    text = path.read_text()
    place = re.search(r"0\.9\d", text)
    assert place is not None
    path.write_text(text[: place.end() - 1] + str((int(text[place.end() - 1]) + 1) % 10) + text[place.end() :])
    (difference,) = leaderboard.check(copy)
    line = text[: place.end()].count("\n") + 1
    assert difference.startswith(f"{path}: differs") and difference.endswith(f"line {line}")


def test_check_sees_a_changed_record(copy: Path) -> None:
    """Even a digit that no cell shows: the page carries a digest of the records."""
    path = next((copy / "small").glob("*.json"))
    record = records.read(path)
    record["stream"]["scale"] = 0.0300000001
    records.write(path.parent, record)
    (difference,) = leaderboard.check(copy)
    assert difference.startswith(str(copy / "small.md"))


def test_check_sees_stale_and_missing_figures(copy: Path) -> None:
    """A drawing is compared by the stamp that it carries, not by its bytes."""
    svg = copy / "small" / "frontier.svg"
    stamp = picture.stamp_of(svg.read_text())
    assert stamp is not None
    svg.write_text(f"<!-- stamp {stamp} --><svg>another matplotlib</svg>")
    assert leaderboard.check(copy) == []
    svg.write_text(svg.read_text().replace(stamp, "0" * len(stamp)))
    (copy / "small" / "loss.svg").unlink()
    assert [text.removeprefix(f"{copy}/small/") for text in leaderboard.check(copy)] == [
        "frontier.svg: was drawn from other data or by other code", "loss.svg: is missing",
    ]  # fmt: skip


def test_check_sees_a_page_without_records(copy: Path) -> None:
    """A page that we made and whose records are gone; a page that somebody wrote is theirs."""
    (copy / "gone.md").write_text((copy / "small.md").read_text())
    (copy / "mine.md").write_text("# My notes\n")
    assert leaderboard.check(copy) == [f"{copy / 'gone.md'}: has no records in {copy / 'gone'}"]


def test_a_page_that_cannot_be_removed_is_named(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an SAE whose record is gone, on a disk that is read-only by now; with a disk that is not, the next build removes it."""
    (stray := copy / "small" / latent_pages.FOLDER / "gone.md").parent.mkdir()
    stray.write_text(page_of(copy))

    def refused(path: Path, **_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refused)
        with pytest.raises(StorageError, match=r"gone\.md: is of no SAE in the records, and could not be removed \(Read-only file system\)"):
            leaderboard.build(copy, "small")
    leaderboard.build(copy, "small")
    assert not stray.exists()


def test_best_at_each_sparsity(built: Path) -> None:
    """topk wins where it is trained at the k; batchtopk, 0.005 better by invention, where it is trained too (k = 8 and 32)."""
    short = section((built / "small.md").read_text(), "In short")
    assert re.search(
        r"\*\*Best explained variance .*\*\*topk\*\* at k = 4 \(0\.9\d\d, ahead by 0\.0\d+\) and 16 \(0\.9.*\); \*\*batchtopk\*\* at k = 8 \(.*\) and 32 \(",
        short,
    )
    table = section((built / "small.md").read_text(), "Explained variance at each sparsity")
    assert [cell.startswith("**") for cell in cells(table, "topk")[2:6]] == [True, False, True, False]
    assert [cell.startswith("**") for cell in cells(table, "batchtopk")[2:6]] == [False, True, False, True]
    assert not any(cell.startswith("**") for cell in cells(table, "*random_decoder* (control)"))
    assert cells(table, "topk")[2] == "**0.901 ±0.001**"  # seeds 0.900 and 0.902: standard deviation 0.0014; documents' half width 0.004


def test_one_sae_against_the_envelope(built: Path) -> None:
    """At 16: 0.890 + 0.04 - 0.002 against topk's 0.900 + 0.04 is -0.012; at 4: 0.890 - 0.006 against 0.900 is -0.016."""
    short = section((built / "small.md").read_text(), "In short")
    assert re.search(
        r"hierarchical_topk k=32 differs by -0\.016, -0\.018, -0\.012 and -0\.014 in explained variance from the best of the others trained at "
        r"k = 4, 8, 16 and 32 \(topk and batchtopk; untested\): one training for 4\.",
        short,
    )


def test_reading_away_from_the_trained_k(built: Path) -> None:
    """topk trained at 4 and read at 32 loses 3 times 0.04: the most of all that another of its variant was trained for."""
    short = section((built / "small.md").read_text(), "In short")
    assert "in the median of 14 readings, 0.120 at most (topk k=4 read at 32, against topk k=32: untested)." in short


def test_fewer_latents(built: Path) -> None:
    """matryoshka loses 0.02 for each halving, pruned topk 0.06: 0.940 - 0.04 against 0.960 - 0.12 on a quarter; seeds add 0.001."""
    page = (built / "small.md").read_text()
    assert "on 512 latents **matryoshka**, 0.901 (trained at that size: topk, 0.841)" in section(page, "In short")
    equal_l0, equal_share = section(page, "Dictionary size").split("At equal share", 1)
    assert cells(equal_l0, "pruned_vanilla k=32")[1:] == ["0.841 ±0.001", "0.901 ±0.001", "0.961 ±0.001"]
    assert cells(equal_l0, "topk, trained at each size")[2] == "<sup>a</sup>"
    assert "<sup>a</sup> no SAE was trained at that size" in equal_l0
    assert cells(equal_share, "SAE")[1:] == ["512 latents, k = 8", "1,024 latents, k = 16", "2,048 latents, k = 32"]


def test_nested_dictionaries_have_a_table_of_their_sparsity(tmp_path: Path) -> None:
    """Folded away; a line for each, a table for each number."""
    record = make("matryoshka", 32)
    levels = {"first 64": {"l0": 3.0, "l0_over_nominal": 3.0, "dead": 0.125}, f"first {N:,}": {"l0": 32.5, "l0_over_nominal": 1.0156, "dead": 0.25}}
    for row in record["rows"]:
        row["details"] = {"sparsity": {"log10_frequency": [-1.0, 0.0], "latents": [7], "dead": 3, "levels": levels}}
    text = page_of(put(tmp_path, [record])).partition("<summary>sparsity, label by label</summary>")[2].partition("</details>")[0]
    for name, small, large in (("l0", "3", "32.5"), ("l0_over_nominal", "3", "1.02"), ("dead", "0.125", "0.25")):
        table = text.partition(f"`{name}`:")[2]
        assert [float(cells(table, first)[1]) for first in ("first 64", "first 2,048")] == [float(small), float(large)], name


def test_other_orders_stand_apart(built: Path) -> None:
    """What is pruned at random is a null beside what is pruned by importance, and no line of the figure."""
    table = section((built / "small.md").read_text(), "Dictionary size").split("Latents kept in another order")[1]
    rows = [line for line in table.splitlines() if line.startswith("| pruned_vanilla k=32 |")]
    assert rows == ["| pruned_vanilla k=32 | importance | 0.841 ±0.001 | 0.901 ±0.001 |", "| pruned_vanilla k=32 | random | 0.100 ±0.000 | 0.100 ±0.000 |"]
    assert "0.1," not in (built / "small" / "dictionary.csv").read_text()


def test_borrowed_weights_stand_where_they_differ(built: Path) -> None:
    """pruned_vanilla is topk on the whole dictionary, and takes its place on fewer latents."""
    page = (built / "small.md").read_text()
    assert "pruned_vanilla k=32 reads the weights of topk k=32: with all 2,048 latents they are one and the same" in page
    assert "pruned_vanilla" not in section(page, "Trained at, read at")
    assert "| topk k=32 |" not in section(page, "Dictionary size")


def test_missing_numbers_are_letters_with_reasons(built: Path) -> None:
    """Probing was not asked for at k = 4."""
    table = section((built / "small.md").read_text(), "Explained variance at each sparsity").split("<details>")[1]
    row = next(line for line in table.splitlines() if line.startswith("| 4 | topk"))
    assert "<sup>a</sup>" in row and "Empty cells: <sup>a</sup> not asked for at this reading." in table


def test_words_of_variants_and_columns(built: Path) -> None:
    """In the plug-ins' own words; the provenance says what was run where."""
    page = (built / "small.md").read_text()
    assert f"- `topk`: {plugins.first_line('variants', 'topk')}" in page
    assert "- `pca`: control. " in page
    assert "- `explained_variance.ev` (EV): " in page
    assert "| comment | 0.910 |" in page and "firing_latent" not in page
    assert "`floor`:" not in page  # the same of every SAE
    assert all(
        word in section(page, "Where the numbers come from")
        for word in ("sympy 1.13 stands for 1.14", "torch 2.13.0", "held out cc", "2026-11-20", f"{len(suite())} in")
    )


def test_numbers_that_were_measured_later_than_weights_were_trained_say_so(tmp_path: Path) -> None:
    """A line for each run that made weights, and for each that measured rows; rows of earlier records, which name none, are not known."""
    one, other = make("topk", 8), make("topk", 32)
    later = {**one["provenance"], "commit": "def", "dirty": True, "when": "2027-01-02T03:04:05+00:00"}
    runs = {"first": one["provenance"], "then": later}
    one["rows"] = [{**row, "measured": "first" if index < 2 else "then"} for index, row in enumerate(one["rows"])]
    lines = section(page_of(put(tmp_path, [{**one, "measured": runs}, {**other, "measured": later}])), "Where the numbers come from").splitlines()
    by, rest = "machine a machine, device cpu, threads 2, deterministic algorithms yes, torch 2.13.0", len(one["rows"]) - 2
    assert [line for line in lines if line.startswith("- Weights: ")] == [f"- Weights: commit abc, uncommitted changes no, {by}; 2026-11-20 (2 SAEs)"]
    assert sorted(line for line in lines if line.startswith("- Numbers: ")) == [
        f"- Numbers: commit abc, uncommitted changes no, {by}; 2026-11-20 (2 rows)",
        f"- Numbers: commit def, uncommitted changes yes, {by}; 2027-01-02 ({rest} rows)",
        f"- Numbers: not known by which commit and where; date not known ({len(other['rows'])} rows)",
    ]


def test_numbers_of_one_row_may_come_from_several_runs(tmp_path: Path) -> None:
    """What was measured by another run than the rest of its row stands with its name; where the runs are alike, only their dates differ."""
    one = make("topk", 8)
    later = {**one["provenance"], "commit": "def", "when": "2027-01-02T03:04:05+00:00"}
    again = {**one["provenance"], "when": "2026-12-01T00:00:00+00:00"}
    metrics, count = ("downstream_loss", "explained_variance", "sparsity"), len(one["rows"])
    by = [dict.fromkeys(metrics, "first"), {**dict.fromkeys(metrics, "first"), "sparsity": "then"}, {**dict.fromkeys(metrics, "first"), "sparsity": "again"}]
    one["rows"] = [{**row, "measured": by[min(index, 2)]} for index, row in enumerate(one["rows"])]
    runs = {"first": one["provenance"], "then": later, "again": again}
    lines = section(page_of(put(tmp_path, [{**one, "measured": runs}])), "Where the numbers come from").splitlines()
    how = "uncommitted changes no, machine a machine, device cpu, threads 2, deterministic algorithms yes, torch 2.13.0"
    assert [line for line in lines if line.startswith("- Numbers: ")] == [
        f"- Numbers: commit abc, {how}; 2026-11-20 and 2026-12-01 ({count - 1} rows)",
        f"- Numbers: commit abc, {how}; 2026-11-20 (downstream_loss and explained_variance of 1 row)",
        f"- Numbers: commit def, {how}; 2027-01-02 (sparsity of 1 row)",
    ]


def test_learning_rates_that_differ_are_said(tmp_path: Path) -> None:
    """On the page's list of what to know, and for each SAE; nothing is said where all have one."""
    for rates, said in (((0.006, 0.006), False), ((0.006, 0.012), True)):
        made = [{**make("topk", k), "settings": {"tokens": 200000, "rate": rate}} for k, rate in zip((8, 32), rates, strict=True)]
        page = page_of(put(tmp_path / str(said), made))
        assert ("**Learning rates** are not the same for all SAEs (0.006 and 0.012)" in page) == said
        assert [cells(section(page, "Training"), f"topk k={k}")[7] for k in (8, 32)] == [f"{rate:g}" for rate in rates]


def board_of(*made: Made) -> board.Board:
    """The board of some records."""
    return board.assemble(list(made))


def with_l0(record: Made, measured: dict[int, float]) -> Made:
    """The record with the measured L0 of some budgets changed, by its native selector."""
    for row in record["rows"]:
        if row["native"] and row["reading"]["latents"] is None and row["reading"]["k"] in measured:
            row["values"]["sparsity.l0"] = measured[row["reading"]["k"]]
    return record


def test_a_reading_off_its_k_is_interpolated_and_never_wins_as_it_is() -> None:
    """Read at nominal 8 with an L0 of 16 it has 0.99, which counts at 16 and not at 8: at 8 it is half way between L0 4 and 16."""
    made = with_l0(make("topk", 32), {8: 16.0, 16: 16.5})
    for row in made["rows"]:
        if row["native"] and row["reading"]["latents"] is None:
            row["values"]["explained_variance.ev"] = {4: 0.5, 8: 0.9, 16: 0.9, 32: 0.95}[row["reading"]["k"]]
    (sae,) = board_of(made).saes
    number = sae.at(saes.EV, 8)
    assert isinstance(number, saes.Number)
    assert (number.how, number.l0) == ("interpolated", 8.0)
    assert number.mean == pytest.approx(0.7)
    assert isinstance(read := sae.read(saes.EV, 8), saes.Number) and (read.how, read.mean) == ("off", 0.9)


def test_beyond_the_readings_nothing_is_claimed(tmp_path: Path) -> None:
    """A saturated SAE, whose L0 ends at 20, does not win at 32 with 0.99: what was read is shown with its L0."""
    made = with_l0(make("topk", 8), {16: 20.0, 32: 20.0})
    for row in made["rows"]:
        if row["reading"]["k"] == 32:
            row["values"]["explained_variance.ev"] = 0.99
    root = put(tmp_path, [made, make("batchtopk", 32)])
    page = page_of(root)
    assert cells(section(page, "Explained variance at each sparsity"), "topk")[5] == "0.990 (L0 20.0)"
    assert cells(section(page, "Trained at, read at"), "topk k=8")[4] == "0.990 (L0 20.0)"
    assert "Not compared, for want of readings at that L0: topk at k = 32." in section(page, "In short")


def test_a_seed_without_numbers_does_not_move_the_l0_that_the_others_came_to() -> None:
    """Where training sets no budget: it has no measured L0 itself."""
    records = [make("topk", 32, seed) for seed in (0, 1, 2)]
    for record, budget in zip(records, (40, 1, 44), strict=True):
        for row in record["rows"]:
            row |= {"budget": budget, "budget_measured": True}
    records[1]["unusable"] = "loss is nan"
    assert list(board_of(*records).labels.values()) == ["topk L0=42"]


def test_one_seed_is_never_significant(tmp_path: Path) -> None:
    """One seed has no ±, and the page says what that means; a demonstration says so too and is not in the index."""
    made = [{**record, "page": {"title": "Quick", "demonstration": True}} for record in suite(1)]
    root = put(tmp_path, made)
    page, index = page_of(root), leaderboard.index_of(root, {})
    assert "nothing on it is significant" in page and "This page is a demonstration on little data: nothing on it is a finding." in page
    assert "±" not in section(page, "Trained at, read at")
    assert "small.md" not in index and "No board has been published yet." in index


def test_index(built: Path, tmp_path: Path) -> None:
    """The headline stands in the index; without records there is an index that says so."""
    assert "[A small suite](small.md)" in (built / "README.md").read_text()
    assert leaderboard.build_all(tmp_path / "empty") == [tmp_path / "empty" / "README.md"]
    assert "No board has been published yet." in (tmp_path / "empty" / "README.md").read_text()
    assert leaderboard.check(tmp_path / "empty") == []
    assert leaderboard.check(tmp_path) == [f"{tmp_path / 'README.md'}: is missing"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda row: row["reading"].pop("latents"),
        lambda row: row["reading"].update(codes=3),
        lambda row: row["values"].update({"explained_variance.ev": 10**400}),  # sound by its form, but no float
    ],
)
def test_a_board_that_cannot_be_made_is_left_out_of_the_index_and_stops_no_other(spoil: Callable[[Made], Any], tmp_path: Path) -> None:
    """The page of another suite is written, after whatever hours its run took; the spoilt one's own is not."""
    root = put(put(tmp_path, [make("topk", 8)]), [made := make("topk", 8)], "other")
    path = root / "other" / f"{made['train_key']}.json"
    record = json.loads(path.read_text())
    spoil(record["rows"][0])
    path.write_text(json.dumps(record))
    assert leaderboard.build(root, "small") == root / "small.md"
    assert "(small.md)" in (index := (root / "README.md").read_text()) and "(other.md)" not in index
    with pytest.raises(records.RecordError, match=path.name):
        leaderboard.build(root, "other")


def test_records_that_may_not_share_a_table_are_left_out() -> None:
    """Other text, and an older record of the same SAE and seed: not averaged, and said."""
    new, old, other = make("topk", 8), make("topk", 8), make("topk", 32)
    old["train_key"], old["provenance"] = "old", {**old["provenance"], "when": "2026-11-01"}
    other["text"], other["provenance"] = {**other["text"], "held_out": "dd"}, old["provenance"]
    found = board_of(new, old, other)
    assert [record["train_key"] for record in found.records] == [new["train_key"]]
    assert sorted(sentence.split(": ")[1].split(" as ")[0] for sentence in found.left_out) == [
        f"another text held_out than {new['train_key']}.json", "the same SAE and seed",
    ]  # fmt: skip


def test_unknown_plugins_do_not_break_a_page(tmp_path: Path) -> None:
    """A record of somebody else's variant and metric: the page is made, and says that they are unknown here."""
    made = json.loads(json.dumps(make("topk", 8)).replace('"topk"', '"theirs"').replace("representational_similarity", "their_metric"))
    page = page_of(put(tmp_path, [made]))
    assert "- `theirs`: unknown variant" in page and "- `their_metric.rsa`: unknown metric" in page


def test_only_controls_and_a_record_without_a_page(tmp_path: Path) -> None:
    """Nothing to compare is no crash; the title is the suite's name."""
    made = make("pca", 32, control=True)
    del made["page"]
    page = page_of(put(tmp_path, [made]))
    assert "# small\n" in page and "| *pca* (control) |" in page


def test_no_records_is_said(tmp_path: Path) -> None:
    """A suite without records names its folder."""
    with pytest.raises(records.RecordError, match="nothing: holds no records"):
        leaderboard.build(tmp_path, "nothing")


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [(0.87432, 0.0031, "0.8743"), (0.87432, 0.0042, "0.874"), (0.87432, 0.021, "0.874"), (0.87432, 0.0098, "0.874"), (0.87432, 0.05, "0.87"),
     (0.87432, None, "0.874"), (31.96, None, "32.0"), (0.0, None, "0"), (1234.5, None, "1,234"), (-0.012345, None, "-0.0123")],
)  # fmt: skip
def test_digits_are_those_that_the_interval_supports(value: float, half: float | None, text: str) -> None:
    """Two digits of the half width up to 35, one above, two again from 95."""
    assert markdown.rounded(value, half) == text


def test_names_beside_lines_never_overlap() -> None:
    """Five names that all want the top stay apart, inside and in order."""
    places = axes.apart([0.99, 0.98, 0.97, 0.99, 0.2], 0.06)
    ordered = sorted(places)
    assert all(b - a > 0.0599 for a, b in pairwise(ordered)) and ordered[-1] <= 1
    assert places[2] < places[1] < places[0] and places[4] == pytest.approx(0.2)


def test_colours_stay_whoever_else_is_on_the_page() -> None:
    """Known variants differ from each other, whoever is drawn with them; a stranger changes none of them."""
    alone, crowded = palette.look(set()), palette.look({"theirs", "another"})
    assert len(set(alone.values())) == len(alone) and alone.items() <= crowded.items()
    assert palette.look({"topk"})["topk"] == crowded["topk"]
