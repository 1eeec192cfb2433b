"""Reads items in turn and knows its place: reading can go on from a state that was saved, and waits out faults of the network."""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from sae_bench_htopk.errors import InputError
from sae_bench_htopk.faults import transient, worded
from sae_bench_htopk.progress import note

Item = TypeVar("Item")
Other = TypeVar("Other")
State: TypeAlias = dict[str, Any]  # JSON

WAITS = (1, 2, 4, 8, 16, 32, 60)  # seconds before another try; one more try than waits, in a row without a new row
END = object()


class Reader(Iterator[Item]):
    """Items in turn; `state` says as JSON where it stands, behind the last item given."""

    @abstractmethod
    def state(self) -> State:
        """What is wanted to read on from here."""


class Listed(Reader[Item]):
    """A list's items."""

    def __init__(self, items: Sequence[Item], state: State | None = None) -> None:
        """From a state on, if there is one."""
        self.items, self.given = items, int(state["given"]) if state else 0

    def __next__(self) -> Item:
        """The next one."""
        if self.given >= len(self.items):
            raise StopIteration
        self.given += 1
        return self.items[self.given - 1]

    def state(self) -> State:
        """How many were given."""
        return {"given": self.given}


class Changed(Reader[Other], Generic[Item, Other]):
    """What a function makes of a reader's items, without those of which it makes None."""

    def __init__(self, reader: Reader[Item], change: Callable[[Item], Other | None]) -> None:
        """Reads nothing yet."""
        self.reader, self.change = reader, change

    def __next__(self) -> Other:
        """The next that is left."""
        while (changed := self.change(next(self.reader))) is None:
            pass
        return changed

    def state(self) -> State:
        """That of the reader."""
        return self.reader.state()


class InTurn(Reader[Item]):
    """The items of several readers, one reader after the other."""

    def __init__(self, opening: Sequence[Callable[[State | None], Reader[Item]]], state: State | None = None) -> None:
        """Opens each only when the one before has ended."""
        self.opening, self.place, self.inside = opening, int(state["place"]) if state else 0, state["inside"] if state else None
        self.reader: Reader[Item] | None = None

    def __next__(self) -> Item:
        """The next one of the reader that is open, or the first of the next."""
        while self.place < len(self.opening):
            if self.reader is None:
                self.reader = self.opening[self.place](self.inside)
            for item in self.reader:
                return item
            self.reader, self.inside, self.place = None, None, self.place + 1
        raise StopIteration

    def state(self) -> State:
        """Which reader is open, and where it stands."""
        return {"place": self.place, "inside": self.inside if self.reader is None else self.reader.state()}


class Numbered(NamedTuple):
    """One row of a data set, its number, and what the data set says of its columns."""

    number: int
    columns: Mapping[str, object]
    features: Mapping[str, object]


class Loaded(NamedTuple):
    """A data set that `datasets` streams, and which edition of it that is: a commit; None if it can have no other."""

    data: Any
    edition: str | None


class Mark(NamedTuple):
    """A place before a row that reading can begin at without reading what is before it: the beginning of a file, of parquet of a row group."""

    row: int  # how many rows are before it
    file: int  # how many files
    group: int  # how many row groups of its file; other files are one


class Rows(Reader[Numbered]):
    """The rows of one data set that `datasets` streams, none twice and none left out, whatever the network does."""

    def __init__(self, load: Callable[[str | None], Loaded], named: str, explain: Callable[[Exception, int], InputError], state: State | None = None) -> None:
        """`load` opens the data set, at an edition if it is given one; `explain` words an error that cannot be waited out, after so many rows."""
        self.load, self.named, self.explain = load, named, explain
        self.given, self.edition = (int(state["rows"]), state.get("edition")) if state else (0, None)
        self.mark = Mark(0, 0, 0)  # the last one that is not behind the next row to be given
        if state and "mark" in state and state["datasets"] == version():  # another version may divide files otherwise: rows are counted there
            self.mark = Mark(*state["mark"])
        self.data: Any = None
        self.features: Mapping[str, object] = {}
        self.open: Iterator[Mapping[str, object]] | None = None

    def __next__(self) -> Numbered:
        """The next row, after as many tries as it takes. Raises what `explain` makes of the error if they are all used up, or none would help."""
        for wait in (*WAITS, None):
            try:
                if self.open is None:
                    self.open = self.opened()
                row: Any = next(self.open, END)
                break
            except InputError:
                raise
            except Exception as error:  # datasets, pyarrow and the network raise many kinds
                self.open = None  # a generator that has raised gives nothing more
                if wait is None or not transient(error):
                    raise self.explain(error, self.given) from error
                note(f"{self.named}: {worded(error, 120)}; {self.given:,} rows were read, trying again in {wait} s")
                time.sleep(wait)
        if row is END:
            raise StopIteration
        self.given += 1
        return Numbered(self.given - 1, row, self.features)

    def opened(self) -> Iterator[Mapping[str, object]]:
        """The rows behind the last one given."""
        if self.data is None:
            self.data, self.edition = self.load(self.edition)
            self.features = self.data.features or {}
        rows = self.behind(self.mark)
        for _ in range(self.given - self.mark.row):
            next(rows, None)
        return rows

    def behind(self, mark: Mark) -> Iterator[Mapping[str, object]]:
        """The rows behind a mark, which moves along with them; a file is opened when its turn comes."""
        row, group, files = mark.row, mark.group, self.data.num_shards
        for number in range(mark.file, files):
            file = self.data.shard(files, number)
            if hasattr(file, "reshard"):  # a `datasets` that can divide a parquet file by its row groups
                file = file.reshard()
            for part in range(group, file.num_shards):
                self.mark = Mark(row, number, part)
                for columns in file.shard(file.num_shards, part):
                    yield columns
                    row += 1  # once the next row is asked for
            group = 0

    def state(self) -> State:
        """How many rows were given of which edition, and the last mark, which spares reading what lies before it."""
        return {"rows": self.given, "mark": list(self.mark), "datasets": version(), "edition": self.edition}


def version() -> str:
    """Of `datasets`."""
    import datasets  # heavy, and absent on some GPU machines

    return str(datasets.__version__)
