"""Writes the pages of the leaderboard from the records alone, and tells whether the pages that are there are still what they would be."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from sae_bench_htopk import curve, drawing, falloff, figures, index, latent_pages, plugins, records, sizes, storage
from sae_bench_htopk.board import Board, assemble
from sae_bench_htopk.errors import InputError
from sae_bench_htopk.index import ODD
from sae_bench_htopk.page import GENERATED, page
from sae_bench_htopk.picture import Picture, stamp_of

Drawings = dict[Path, Callable[[], str]]

Begin: TypeAlias = Callable[[Path, Picture], None]
Made: TypeAlias = tuple[dict[Path, str], dict[Path, Picture], Board]


def render(root: Path, suite: str, begin: Begin = lambda path, picture: None) -> Made:
    """(the text of each page and CSV, latents' pages too, the picture of each SVG, the board). Raises RecordError, also if there are no records.

    `begin` is told of each picture before the text is made, which takes as long as drawing.
    """
    if not (found := records.read_all(root / suite)):
        raise records.RecordError(f"{root / suite}: holds no records, wanted at least one <train key>.json")
    try:
        return made(root, suite, found, begin)
    except InputError:
        raise
    except ODD as error:  # what metrics say in `details` only their own pages can judge
        if (record := culprit(root, suite, found, error)) is None:
            raise
        where = root / suite / f"{record['train_key']}.json"
        raise records.RecordError(f"{where}: no page can be made of it ({error!r}); deleted, it is made again from its weights by the next run") from error


def made(root: Path, suite: str, found: list[records.Record], begin: Begin = lambda path, picture: None) -> Made:
    """The same from these records."""
    board = assemble(found)
    drawn: dict[str, Picture] = {}
    for picture in (picture for picture in pictures(board) if picture.points):
        drawn[picture.name] = picture
        begin(root / suite / f"{picture.name}.svg", picture)
    texts = {root / f"{suite}.md": page(board, drawn)} | {root / suite / f"{name}.csv": picture.csv() for name, picture in drawn.items()}
    texts |= {root / suite / latent_pages.FOLDER / name: f"{GENERATED}\n\n{text}" for name, text in latent_pages.pages(board).items()}
    return texts, {root / suite / f"{name}.svg": picture for name, picture in drawn.items()}, board


def pictures(board: Board) -> Iterator[Picture]:
    """Every figure of a page, one after the other: the first is being drawn while the next is put together."""
    yield falloff.picture(board)
    yield curve.picture(board)
    yield from figures.pictures(board)
    yield figures.relative(board)
    yield from sizes.pictures(board)


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
    board, svgs = write(root, suite, drawing.here)
    finish(svgs)
    storage.write(root / "README.md", index_of(root, {suite: index.line_of(board)}))
    return root / f"{suite}.md"


def build_all(root: Path, wanted: Sequence[str] | None = None, draw: drawing.Draw = drawing.here) -> list[Path]:
    """Writes the page of every suite that has records, or of those wanted, and the index; returns all of their paths.

    Raises RecordError of the first suite that has damaged records, once the pages of all others are written; the index then stays as it was.
    """
    lines, svgs, failed = dict[str, index.Line | None](), Drawings(), list[InputError]()
    for suite in suites(root) if wanted is None else wanted:
        try:
            board, begun = write(root, suite, draw)
        except records.RecordError as error:  # of one suite, which keeps no other from its page
            failed.append(error)
            continue
        lines[suite] = index.line_of(board)
        svgs |= begun
    finish(svgs)
    if failed:
        raise failed[0]
    return [*(root / f"{suite}.md" for suite in lines), storage.write(root / "README.md", index_of(root, lines))]


def write(root: Path, suite: str, draw: drawing.Draw) -> tuple[Board, Drawings]:
    """Writes a suite's pages and data, and begins its figures."""
    begun = Drawings()
    texts, _, board = render(root, suite, lambda path, picture: begun.__setitem__(path, draw(picture)))
    for path in [*strays(root, f"{suite}/{latent_pages.FOLDER}/*.md", texts), *figures_left(root / suite, begun)]:
        remove(path)
    for path, text in texts.items():
        storage.write(path, text)
    return board, begun


def finish(svgs: Drawings) -> None:
    """Writes the figures that were begun: from the last, while a second process goes on from the first."""
    for path, svg in reversed(svgs.items()):
        storage.write(path, svg())


def figures_left(folder: Path, drawn: Container[Path]) -> list[Path]:
    """Figures with our stamp that the page has no more, and their data."""
    left = [path for path in sorted(folder.glob("*.svg")) if path not in drawn and stamp_of(path.read_text(encoding="utf-8"))]
    return [*left, *(data for path in left if (data := path.with_suffix(".csv")).is_file())]


def remove(path: Path) -> None:
    """Deletes a page that would not be made now. Raises StorageError if the disk refuses."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage.StorageError(f"{path}: is of no SAE in the records, and could not be removed ({error.strerror})") from error


def suites(root: Path) -> list[str]:
    """The folders that hold records."""
    return sorted({path.parent.name for path in root.glob("*/*.json")})


def chosen(root: Path, name: str | None) -> list[str]:
    """The suite of that name, or every one. Raises InputError if it has no records, with the nearest that has."""
    known = suites(root)
    if name is not None and name not in known:
        raise InputError(f"leaderboard {name}: {root} holds no records of a suite of that name; {plugins.suggest(name, known)}")
    return known if name is None else [name]


def index_of(root: Path, known: Mapping[str, index.Line | None]) -> str:
    """The index of all suites; those whose line is not known are read for it."""
    lines = [known[suite] if suite in known else index.line_in(root / suite) for suite in suites(root)]
    return index.page([line for line in lines if line])


def check(root: Path, wanted: Sequence[str] | None = None) -> list[str]:
    """A sentence for each file that is not what the records give: pages and data exactly, figures by the stamp that they carry.

    Of every suite, or of those wanted and the index.
    """
    differences, lines, expected = list[str](), dict[str, index.Line | None](), dict[Path, str]()
    asked = suites(root) if wanted is None else wanted
    for suite in asked:
        texts, drawn, board = render(root, suite)
        lines[suite] = index.line_of(board)
        expected |= texts
        for path, picture in drawn.items():
            if not path.is_file():
                differences.append(f"{path}: is missing")
            elif stamp_of(path.read_text(encoding="utf-8")) != picture.stamp():
                differences.append(f"{path}: was drawn from other data or by other code")
        differences += [f"{path}: is no figure of the page" for path in figures_left(root / suite, drawn)]
    expected = {root / "README.md": index_of(root, lines)} | expected
    for path, text in expected.items():
        if not path.is_file():
            differences.append(f"{path}: is missing")
        elif (found := path.read_text(encoding="utf-8")) != text:
            pairs = zip((found + "\0").split("\n"), (text + "\0").split("\n"), strict=False)
            line = next((number for number, (old, new) in enumerate(pairs, 1) if old != new), 0)
            differences.append(f"{path}: differs from what the records give, first in line {line}")
    known = {*expected, *(root / f"{suite}.md" for suite in suites(root))}
    differences += [f"{path}: has no records in {root / path.stem}" for path in strays(root, "*.md", known)]
    lost = [path for suite in asked for path in strays(root, f"{suite}/{latent_pages.FOLDER}/*.md", expected)]
    return differences + [f"{path}: is of no SAE in the records" for path in lost]


def strays(root: Path, pattern: str, expected: Container[Path]) -> list[Path]:
    """Pages that we made once and would not make now; what somebody else wrote is theirs."""
    return [path for path in sorted(root.glob(pattern)) if path not in expected and path.read_text(encoding="utf-8").startswith(GENERATED)]
