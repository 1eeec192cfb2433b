"""Readers that know their place: faults of a network lose no row and give none twice, and reading goes on from any saved state."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets.packaged_modules.parquet.parquet import Parquet

from sae_bench_htopk import reader, windows
from sae_bench_htopk.corpus import Corpus
from sae_bench_htopk.split import part_documents
from sae_bench_htopk.text import Document, Files, Hub, TextError
from sae_bench_htopk.windows import Cut

ROWS, FILES, GROUP = 1500, 3, 400  # of each file; of each of its row groups but the last
COMMIT = "c" * 40


def content(row: int) -> str:
    """The text of one row of all."""
    return " ".join(f"w{row}x{place}" for place in range(6))


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Parquet files that hold the rows in order."""
    folder = tmp_path_factory.mktemp("rows")
    for number in range(FILES):
        table = {"text": [content(number * ROWS + row) for row in range(ROWS)]}
        datasets.Dataset.from_dict(table).to_parquet(folder / f"{number}.parquet", batch_size=GROUP)
    return [str(folder / f"{number}.parquet") for number in range(FILES)]


class Hubs:
    """Stands in for the hub: local files, streamed, of each commit; each fault is raised once, where `datasets` decodes the row of its number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, paths: list[str], faults: dict[int, Exception] | None = None, **commits: list[str]) -> None:
        self.paths, self.faults, self.commits, self.loads = paths, {} if faults is None else faults, commits, 0
        self.decoded: list[int] = []  # the number of the first row of each row group, whenever it was
        self.builder, self.tables = datasets.load_dataset_builder, Parquet._generate_tables
        monkeypatch.setattr(datasets, "load_dataset_builder", self.load)
        monkeypatch.setattr(Parquet, "_generate_tables", lambda builder, **chosen: self.passed(self.tables(builder, **chosen)))

    def load(self, path: str, name: str | None, revision: str) -> datasets.DatasetBuilder:
        self.loads += 1
        if -self.loads in self.faults:
            raise self.faults[-self.loads]
        return self.builder("parquet", data_files={"train": self.commits.get(revision, self.paths)})

    def passed(self, tables: Iterator[tuple[Any, pa.Table]]) -> Iterator[tuple[Any, pa.Table]]:
        for key, table in tables:
            numbers = [int(text.split("x")[0][1:]) for text in table["text"].to_pylist()]
            self.decoded.append(numbers[0])
            for place, number in enumerate(numbers):
                if (fault := self.faults.pop(number, None)) is not None:
                    if place:
                        yield key, table.slice(0, place)
                    raise fault
            yield key, table


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited, without waiting."""
    found: list[float] = []
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(reader.time, "sleep", found.append)
    return found


def test_faults_lose_no_row_and_give_none_twice(
    paths: list[str], waits: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the first row, at the ends of files and of row groups, twice in a row, and while the data set is opened."""
    places = [0, 1, 399, 400, 999, 1000, 1001, 1200, ROWS - 1, ROWS, 2 * ROWS + 7, FILES * ROWS - 1]
    faults: dict[int, Exception] = {place: ConnectionResetError(f"broken at {place}") for place in places} | {-1: TimeoutError("slow")}
    Hubs(monkeypatch, paths, faults)
    rows = list(Hub("some/set", COMMIT).rows())
    assert [row.columns["text"] for row in rows] == [content(row) for row in range(FILES * ROWS)]
    assert [row.name for row in rows] == [f"some/set:{row}" for row in range(FILES * ROWS)]
    assert not {place for place in faults if place >= 0} and waits == [1, 2, 1, *[1] * 10]
    assert "some/set: broken at 1500; 1,500 rows were read, trying again in 1 s" in capsys.readouterr().err


def test_what_no_waiting_helps_is_said_at_once(paths: list[str], waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file, a column of another type, an error of the program: no second try."""
    for error in (ValueError("damaged"), FileNotFoundError("gone"), OSError(28, "No space left on device")):
        Hubs(monkeypatch, paths, {3: error})
        with pytest.raises(TextError, match=r"some/set .* at c{40} cannot be read: "):
            list(Hub("some/set", COMMIT).documents())
    assert not waits


@pytest.mark.parametrize("given", [0, 1, 1000, ROWS - 1, ROWS, ROWS + 1, FILES * ROWS - 1, FILES * ROWS])
@pytest.mark.parametrize("source", ["hub", "files"])
def test_reading_goes_on_from_a_state_that_was_json(source: str, given: int, paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and their names are those of reading without a break; also where another version of `datasets` has written the state."""
    if source == "hub":
        Hubs(monkeypatch, paths)
    chosen = Hub("some/set", COMMIT) if source == "hub" else Files(tuple(paths), "parquet")
    whole = [(row.name, row.columns["text"]) for row in chosen.rows()]
    assert len(whole) == FILES * ROWS
    first = chosen.rows()
    before = [(row.name, row.columns["text"]) for _, row in zip(range(given), first, strict=False)]
    state = json.loads(json.dumps(first.state()))
    assert before + [(row.name, row.columns["text"]) for row in chosen.rows(state)] == whole
    monkeypatch.setattr(datasets, "__version__", "other")
    assert before + [(row.name, row.columns["text"]) for row in chosen.rows(state)] == whole


def test_what_lies_before_is_not_decoded_again(paths: list[str], waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """No file and no row group before that of the place, be it that of a state or of a fault: going on is quick far into a large file."""
    groups = [file * ROWS + row for file in range(FILES) for row in range(0, ROWS, GROUP)]
    hub = Hubs(monkeypatch, paths)
    first = Hub("some/set", COMMIT).rows()
    for _ in range(2 * ROWS + 905):
        next(first)
    assert hub.decoded == groups[:-1]
    hub.decoded.clear()
    assert len(list(Hub("some/set", COMMIT).rows(first.state()))) == ROWS - 905
    assert hub.decoded == groups[-2:]
    hub.decoded.clear()
    hub.faults[2 * ROWS + 905] = ConnectionResetError()
    assert len(list(Hub("some/set", COMMIT).rows())) == FILES * ROWS
    assert hub.decoded == sorted([*groups, groups[-2]]) and waits == [1]
    hub.decoded.clear()
    local = Files(tuple(paths), "parquet")
    place = local.rows()
    for _ in range(905):
        next(place)
    hub.decoded.clear()
    next(local.rows(place.state()))
    assert hub.decoded == [2 * GROUP]


def test_a_file_may_be_empty(paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it stands, and whatever the state that was saved before it."""
    pq.ParquetWriter(tmp_path / "empty.parquet", pa.schema({"text": pa.string()})).close()
    Hubs(monkeypatch, [str(tmp_path / "empty.parquet"), paths[0], str(tmp_path / "empty.parquet"), paths[1]])
    rows = Hub("some/set", COMMIT).rows()
    for given in range(2 * ROWS):
        if given in (0, 1, ROWS - 1, ROWS, ROWS + 1):
            assert len(list(Hub("some/set", COMMIT).rows(json.loads(json.dumps(rows.state()))))) == 2 * ROWS - given
        assert next(rows).columns["text"] == content(given)


def test_reading_goes_on_at_the_commit_that_was_read(paths: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A branch that has moved meanwhile leads to no row twice; one source is of one commit, however often it is read."""
    asked: list[str] = []
    now = ["a" * 40]

    def info(api: object, path: str, revision: str) -> SimpleNamespace:
        asked.append(f"{path}@{revision}")
        return SimpleNamespace(sha=now[0])

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    Hubs(monkeypatch, [], **{"a" * 40: paths, "b" * 40: [paths[2], *paths]})
    source = Hub("some/set", "main")
    first = source.rows()
    before = [next(first).columns["text"] for _ in range(ROWS + 50)]
    now[0] = "b" * 40
    assert len(list(source.rows())) == FILES * ROWS and asked == ["some/set@main"]
    state = json.loads(json.dumps(first.state()))
    assert not capsys.readouterr().err
    rest = [row.columns["text"] for row in Hub("some/set", "main").rows(state)]
    assert before + rest == [content(row) for row in range(FILES * ROWS)]
    assert f"some/set: main is {'b' * 40} now; reading goes on at {'a' * 40}" in capsys.readouterr().err
    assert len(list(Hub("some/set", "main").rows())) == (FILES + 1) * ROWS


def test_columns_are_described_once(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Making their description takes longer than reading a row does."""
    Hubs(monkeypatch, paths)
    assert len({id(row.features) for row in list(Hub("some/set", COMMIT).rows())}) == 1


def test_no_part_of_a_stream_reads_anothers_documents(paths: list[str], waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of each part hold tokens of its own documents alone, also behind faults and from a state on; together they are all."""
    Hubs(monkeypatch, paths[:1], {row: ConnectionError("broken") for row in range(5, ROWS, 211)})
    words = {word: number for number, word in enumerate(word for row in range(ROWS) for word in content(row).split())}
    corpus = Corpus(Hub("some/set", COMMIT))

    def encode(text: str) -> tuple[Any, None]:
        return np.array([words[word] for word in text.split()]), None

    held = {part: {int(token) for window in corpus.windows(part, encode, 5) for token in window.ids} for part in ("train", "calibration", "held_out")}  # type: ignore[arg-type]
    assert all(held.values()) and sum(map(len, held.values())) == len(words)
    assert len(set.union(*held.values())) == len(words)
    train = part_documents(corpus.source, "train")
    before = [next(train).text for _ in range(500)]
    rest = [document.text for document in corpus.documents("train", json.loads(json.dumps(train.state())))]
    assert {words[word] for text in before + rest for word in text.split()} == held["train"] and len(before + rest) == len(set(before + rest))


def test_a_finite_part_goes_on_too(paths: list[str]) -> None:
    """Its documents are in one list."""
    corpus = Corpus(Files((paths[0],), "parquet"))
    whole = [document.name for document in corpus.documents("train")]
    first = corpus.documents("train")
    before = [next(first).name for _ in range(20)]
    assert before + [document.name for document in corpus.documents("train", first.state())] == whole and len(whole) > 100


def test_long_documents_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a stream of long documents no more is held than the tokens of those that are open, never their texts."""
    size, opened = 1_000_000, 8
    monkeypatch.setattr(windows, "OPEN_DOCUMENTS", opened)

    def documents() -> Iterator[Document]:
        for number in range(40):
            yield Document(str(number), chr(97 + number % 26) * size, "made")

    def encode(text: str) -> tuple[np.ndarray, None]:
        return np.full(len(text) // 4, ord(text[0]), dtype=np.int32), None  # as many bytes as the text has

    tracemalloc.start()
    count = sum(len(window.ids) for window in Cut(documents(), encode, 1025))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 40 * size // 4
    assert most < (opened + 4) * size
