"""Readers that know their place: faults of a network lose no row and give none twice, and reading goes on from any saved state."""

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import pytest

from sae_bench_htopk import reader, windows
from sae_bench_htopk.corpus import Corpus
from sae_bench_htopk.split import part_documents
from sae_bench_htopk.text import Document, Files, Hub, TextError
from sae_bench_htopk.windows import Cut

ROWS, FILES = 1500, 3  # of each file; more than `datasets` decodes at once


def content(row: int) -> str:
    """The text of one row of all."""
    return " ".join(f"w{row}x{place}" for place in range(6))


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Parquet files that hold the rows in order."""
    folder = tmp_path_factory.mktemp("rows")
    for number in range(FILES):
        table = {"text": [content(number * ROWS + row) for row in range(ROWS)]}
        datasets.Dataset.from_dict(table).to_parquet(folder / f"{number}.parquet", batch_size=400)
    return [str(folder / f"{number}.parquet") for number in range(FILES)]


class Hubs:
    """Stands in for the hub: local files, streamed; each fault is raised once, instead of the row of its number."""

    def __init__(self, paths: list[str], faults: dict[int, Exception]) -> None:
        self.paths, self.faults, self.loads = paths, faults, 0
        self.load_dataset = datasets.load_dataset

    def __call__(self, path: str, name: str | None, **options: Any) -> datasets.IterableDataset:
        self.loads += 1
        if -self.loads in self.faults:
            raise self.faults[-self.loads]
        found = self.load_dataset("parquet", data_files=self.paths, split=options["split"], streaming=True)
        return found.map(self.passed)  # inside the iteration of `datasets`, as a read that fails is

    def passed(self, row: dict[str, str]) -> dict[str, str]:
        number = int(row["text"].split("x")[0][1:])
        if (fault := self.faults.pop(number, None)) is not None:
            raise fault
        return row


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
    """At the first row, at the ends of files and of what is decoded at once, twice in a row, and while the data set is opened."""
    places = [0, 1, 399, 400, 999, 1000, 1001, ROWS - 1, ROWS, 2 * ROWS + 7, FILES * ROWS - 1]
    faults: dict[int, Exception] = {place: ConnectionResetError(f"broken at {place}") for place in places} | {-1: TimeoutError("slow")}
    monkeypatch.setattr(datasets, "load_dataset", Hubs(paths, faults))
    rows = list(Hub("some/set", "abc").rows())
    assert [row.columns["text"] for row in rows] == [content(row) for row in range(FILES * ROWS)]
    assert [row.name for row in rows] == [f"some/set:{row}" for row in range(FILES * ROWS)]
    assert not {place for place in faults if place >= 0} and waits == [1, 2, 1, *[1] * 9]
    assert "some/set: broken at 1500; 1,500 rows were read, trying again in 1 s" in capsys.readouterr().err


def test_what_no_waiting_helps_is_said_at_once(paths: list[str], waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file, a column of another type, an error of the program: no second try."""
    for error in (ValueError("damaged"), FileNotFoundError("gone"), OSError(28, "No space left on device")):
        monkeypatch.setattr(datasets, "load_dataset", Hubs(paths, {3: error}))
        with pytest.raises(TextError, match=r"some/set .* at abc cannot be read: "):
            list(Hub("some/set", "abc").documents())
    assert not waits


@pytest.mark.parametrize("given", [0, 1, 1000, ROWS - 1, ROWS, ROWS + 1, FILES * ROWS - 1, FILES * ROWS])
@pytest.mark.parametrize("source", ["hub", "files"])
def test_reading_goes_on_from_a_state_that_was_json(source: str, given: int, paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and their names are those of reading without a break; also where another version of `datasets` has written the state."""
    if source == "hub":
        monkeypatch.setattr(datasets, "load_dataset", Hubs(paths, {}))
    chosen = Hub("some/set", "abc") if source == "hub" else Files(tuple(paths), "parquet")
    whole = [(row.name, row.columns["text"]) for row in chosen.rows()]
    assert len(whole) == FILES * ROWS
    first = chosen.rows()
    before = [(row.name, row.columns["text"]) for _, row in zip(range(given), first, strict=False)]
    state = json.loads(json.dumps(first.state()))
    assert before + [(row.name, row.columns["text"]) for row in chosen.rows(state)] == whole
    monkeypatch.setattr(datasets, "__version__", "other")
    assert before + [(row.name, row.columns["text"]) for row in chosen.rows(state)] == whole


def test_a_state_reads_no_file_before_its_own(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies before is not read again, so that going on is quick far into a data set."""
    seen: list[int] = []
    hub = Hubs(paths, {})
    monkeypatch.setattr(datasets, "load_dataset", hub)
    first = Hub("some/set", "abc").rows()
    for _ in range(2 * ROWS + 5):
        next(first)
    plain = hub.passed
    monkeypatch.setattr(hub, "passed", lambda row: seen.append(int(row["text"].split("x")[0][1:])) or plain(row))
    rest = list(Hub("some/set", "abc").rows(first.state()))
    assert len(rest) == ROWS - 5 and min(seen) >= 2 * ROWS - 1000  # what is decoded at once may begin before


def test_no_part_of_a_stream_reads_anothers_documents(paths: list[str], waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of each part hold tokens of its own documents alone, also behind faults and from a state on; together they are all."""
    monkeypatch.setattr(datasets, "load_dataset", Hubs(paths[:1], {row: ConnectionError("broken") for row in range(5, ROWS, 211)}))
    words = {word: number for number, word in enumerate(word for row in range(ROWS) for word in content(row).split())}
    corpus = Corpus(Hub("some/set", "abc"))

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
