"""Writes the pages of the leaderboard from the records alone, and tells whether the pages that are there are still what they would be."""

from collections.abc import Container
from pathlib import Path
from typing import TypeAlias

from sae_bench_htopk import curve, falloff, figures, latent_pages, lines, records, sizes, storage
from sae_bench_htopk.board import Board, assemble
from sae_bench_htopk.errors import InputError
from sae_bench_htopk.markdown import Table
from sae_bench_htopk.page import GENERATED, page, page_of
from sae_bench_htopk.picture import Picture, stamp_of
from sae_bench_htopk.saes import EV
from sae_bench_htopk.sentences import winners

ODD = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError)  # what a value of another kind than a page takes it for comes to


Made: TypeAlias = tuple[dict[Path, str], dict[Path, Picture], Board]


def render(root: Path, suite: str) -> Made:
    """(the text of each page and CSV, latents' pages too, the picture of each SVG, the board). Raises RecordError, also if there are no records."""
    if not (found := records.read_all(root / suite)):
        raise records.RecordError(f"{root / suite}: holds no records, wanted at least one <train key>.json")
    try:
        return made(root, suite, found)
    except InputError:
        raise
    except ODD as error:  # what metrics say in `details` only their own pages can judge
        if (record := culprit(root, suite, found, error)) is None:
            raise
        where = root / suite / f"{record['train_key']}.json"
        raise records.RecordError(f"{where}: no page can be made of it ({error!r}); deleted, it is made again from its weights by the next run") from error


def made(root: Path, suite: str, found: list[records.Record]) -> Made:
    """The same from these records."""
    board = assemble(found)
    pictures: list[Picture] = [*figures.pictures(board), figures.relative(board), *sizes.pictures(board), curve.picture(board), falloff.picture(board)]
    drawn = {picture.name: picture for picture in pictures if picture.points}
    texts = {root / f"{suite}.md": page(board, drawn)} | {root / suite / f"{name}.csv": picture.csv() for name, picture in drawn.items()}
    texts |= {root / suite / latent_pages.FOLDER / name: f"{GENERATED}\n\n{text}" for name, text in latent_pages.pages(board).items()}
    return texts, {root / suite / f"{name}.svg": picture for name, picture in drawn.items()}, board


def culprit(root: Path, suite: str, found: list[records.Record], error: Exception) -> records.Record | None:
    """The record that gives the same error alone; None if it takes several, which is no record's fault."""
    for record in found:
        try:
            made(root, suite, [record])
        except ODD as own:
            if repr(own) == repr(error):
                return record
    return None


def build(root: Path, suite: str) -> Path:
    """Writes the page of root/`suite`/*.json, its figures and their data, latents' pages and the index; returns the page.

    Raises as `render` does, and StorageError if the disk refuses.
    """
    texts, drawn, _ = render(root, suite)
    for path in strays(root, f"{suite}/{latent_pages.FOLDER}/*.md", texts):
        remove(path)
    for path, text in {**texts, **{path: lines.svg(picture) for path, picture in drawn.items()}}.items():
        storage.write(path, text)
    storage.write(root / "README.md", index(root))
    return root / f"{suite}.md"


def remove(path: Path) -> None:
    """Deletes a page that would not be made now. Raises StorageError if the disk refuses."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage.StorageError(f"{path}: is of no SAE in the records, and could not be removed ({error.strerror})") from error


def build_all(root: Path) -> list[Path]:
    """Writes the page of every suite that has records, and the index; returns all of their paths."""
    pages = [build(root, suite) for suite in suites(root)]
    return [*pages, storage.write(root / "README.md", index(root))]


def suites(root: Path) -> list[str]:
    """The folders that hold records."""
    return sorted({path.parent.name for path in root.glob("*/*.json")})


def index(root: Path) -> str:
    """The list of published boards with their headlines."""
    table = Table("board", "model", "SAEs", "seeds", "headline")
    for line in (lines := [line for suite in suites(root) if (line := line_of(root / suite))]):
        table.add(*line)
    body = table.markdown() if lines else "No board has been published yet."
    explanation = "Each board is made from the records in its folder alone. Suites that are demonstrations are not listed: nothing on their pages is a finding."
    return "\n\n".join([GENERATED, "# Leaderboards", explanation, body]) + "\n"


def line_of(folder: Path) -> tuple[str, ...] | None:
    """A board's line of the index; None for a demonstration, checkpoints alone, and damaged records: their own page fails, not the index."""
    try:
        board = assemble(records.read_all(folder))
        if page_of(board).get("demonstration") or board.share < 1:
            return None
        title, path = page_of(board).get("title") or board.suite, str(board.records[0]["model"].get("path", "?"))
        return f"[{title}]({board.suite}.md)", path, str(len(board.saes)), str(board.seeds), winners(board, EV)
    except (records.RecordError, *ODD):
        return None


def check(root: Path) -> list[str]:
    """A sentence for each file that is not what the records give: pages and data exactly, figures by the stamp that they carry."""
    differences = []
    expected = {root / "README.md": index(root)}
    for suite in suites(root):
        texts, drawn, _ = render(root, suite)
        expected |= texts
        for path, picture in drawn.items():
            if not path.is_file():
                differences.append(f"{path}: is missing")
            elif stamp_of(path.read_text(encoding="utf-8")) != picture.stamp():
                differences.append(f"{path}: was drawn from other data or by other code")
    for path, text in expected.items():
        if not path.is_file():
            differences.append(f"{path}: is missing")
        elif (found := path.read_text(encoding="utf-8")) != text:
            pairs = zip((found + "\0").split("\n"), (text + "\0").split("\n"), strict=False)
            line = next((number for number, (old, new) in enumerate(pairs, 1) if old != new), 0)
            differences.append(f"{path}: differs from what the records give, first in line {line}")
    differences += [f"{path}: has no records in {root / path.stem}" for path in strays(root, "*.md", expected)]
    return differences + [f"{path}: is of no SAE in the records" for path in strays(root, f"*/{latent_pages.FOLDER}/*.md", expected)]


def strays(root: Path, pattern: str, expected: Container[Path]) -> list[Path]:
    """Pages that we made once and would not make now; what somebody else wrote is theirs."""
    return [path for path in sorted(root.glob(pattern)) if path not in expected and path.read_text(encoding="utf-8").startswith(GENERATED)]
