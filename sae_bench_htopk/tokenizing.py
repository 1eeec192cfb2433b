"""Token ids of training text, made in this process or ahead of their use in others: the same ids in the same order whatever the number of processes."""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer

from sae_bench_htopk.reader import Reader, State
from sae_bench_htopk.text import Document, TextError

BATCH = 2**17  # characters that a process is given at once, or one document if that is longer
AHEAD = 2  # batches on their way for each process: so much text and so many ids are held beside the documents that are open

OF_PROCESS: list[Tokenizer] = []  # one, in a process that makes ids for another

Ids: TypeAlias = Int[np.ndarray, " tokens"]


def ids_of(tokenizer: Any, text: str) -> Ids:
    """Token ids alone; adds no special token and reads none in the text."""
    coded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
    return np.array(coded["input_ids"], dtype=np.int32)


class Tokenizing:
    """Makes ids of the texts that pass through `ahead` before `ids` is asked for them, while it is entered and has processes to do so."""

    def __init__(self, tokenizer: Any, workers: int) -> None:
        """A fast tokenizer of transformers; each of so many processes is given a copy of what is inside, and loads neither transformers nor torch."""
        self.tokenizer, self.workers = tokenizer, workers
        self.made: defaultdict[str, deque[tuple[Future[list[Ids | Exception]], int]]] = defaultdict(deque)
        self.pool: ProcessPoolExecutor | None = None
        self.inside: Path | None = None

    def __enter__(self) -> "Tokenizing":
        """Makes the processes ready to be started; a fresh interpreter each, since a copy of one with threads may stand still for ever.

        They read the tokenizer from a file: what is given them at their start goes through a pipe, which holds less than a tokenizer, and writing
        it to one that has died meanwhile would never end.
        """
        if self.workers:
            handle, name = tempfile.mkstemp(suffix=".tokenizer.json")
            self.inside = Path(name)
            with open(handle, "w", encoding="utf-8") as file:
                file.write(self.tokenizer.backend_tokenizer.to_str())
            self.pool = ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"), initializer=begin, initargs=(name,))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends them, whatever has happened."""
        if self.pool is not None:
            give_up_writing(self.pool)
            self.pool.shutdown(cancel_futures=True)
        if self.inside is not None:
            self.inside.unlink(missing_ok=True)
        self.pool = self.inside = None
        self.made.clear()

    def ids(self, text: str) -> tuple[Ids, None]:
        """The ids of a text. Raises what its process raised, or TextError if that is gone."""
        if not (waiting := self.made.get(text)):
            return ids_of(self.tokenizer, text), None
        future, place = waiting.popleft()
        if not waiting:
            del self.made[text]
        with self.saying():
            made = future.result()[place]
        if isinstance(made, Exception):
            raise made
        return made, None

    def ahead(self, documents: Reader[Document]) -> Reader[Document]:
        """The same documents, of which a few are read ahead and sent off; its state is that of the documents given."""
        self.made.clear()  # what an earlier reading that was broken off has left
        return documents if self.pool is None else Ahead(documents, self)

    def send(self, texts: Sequence[str]) -> None:
        """Has one process make the ids of some texts."""
        assert self.pool is not None
        with self.saying(), without_interrupts():  # the first times, it is this that starts a process
            future = self.pool.submit(ids_elsewhere, texts)
        for place, text in enumerate(texts):
            self.made[text].append((future, place))

    @contextmanager
    def saying(self) -> Iterator[None]:
        """Raises TextError where a process is gone."""
        try:
            yield
        except BrokenProcessPool as error:
            raise TextError(
                f"text.workers: {self.workers}, one of which could not be started, or was ended from outside, as a lack of memory does; "
                "wanted fewer of them, or 0"
            ) from error


@contextmanager
def without_interrupts() -> Iterator[None]:
    """A process that is started meanwhile never hears of Ctrl-C, not even before `begin`; here it is heard as ever, at the latest afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Ahead(Reader[Document]):
    """Documents in turn, those that come next being worked on."""

    def __init__(self, documents: Reader[Document], tokenizing: Tokenizing) -> None:
        """Reads nothing yet."""
        self.documents, self.tokenizing = documents, tokenizing
        self.batches: deque[deque[tuple[Document, State]]] = deque()
        self.before = documents.state()
        self.fault: Exception | None = None  # that reading ahead has met, and whose turn is behind all that was read

    def __next__(self) -> Document:
        """The next one, after so many more were sent off that every process has work."""
        while self.batches and not self.batches[0]:
            self.batches.popleft()
        while self.fault is None and len(self.batches) < AHEAD * self.tokenizing.workers and (batch := self.batch()):
            self.tokenizing.send([document.text for document, _ in batch])
            self.batches.append(batch)
        if not self.batches:
            if self.fault is None:
                raise StopIteration
            fault, self.fault = self.fault, None
            raise fault
        document, self.before = self.batches[0].popleft()
        return document

    def batch(self) -> deque[tuple[Document, State]]:
        """The next documents, each with the state behind it; none at the end, fewer before a fault."""
        batch, size = deque[tuple[Document, State]](), 0
        try:
            for document in self.documents:
                batch.append((document, self.documents.state()))
                if (size := size + len(document.text)) >= BATCH:
                    break
        except Exception as error:
            self.fault = error
        return batch

    def state(self) -> State:
        """Where reading stands behind the last document given."""
        return self.before


def give_up_writing(pool: ProcessPoolExecutor) -> None:
    """Ends what a pool writes to a process that is gone, for which Python before 3.12 waits for ever (gh-94777): it reads the same pipe itself."""
    if getattr(pool, "_broken", False) and (queue := getattr(pool, "_call_queue", None)) is not None:
        with suppress(OSError):  # its own thread may be closing it at the same moment
            queue._reader.close()


def begin(inside: str) -> None:
    """Of a process: it reads the tokenizer's file, leaves Ctrl-C to its parent, ends when that does, however it ends, and keeps to one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"

    def watch() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
            Path(inside).unlink(missing_ok=True)  # a parent that was killed has left it
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    OF_PROCESS.append(Tokenizer.from_file(inside))


def ids_elsewhere(texts: Sequence[str]) -> list[Ids | Exception]:
    """Of a process: the ids of some texts, as `ids_of` has transformers make them; in place of those of a text that has none, why."""
    tokenizer = OF_PROCESS[0]
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    made: list[Ids | Exception] = []
    for text in texts:
        try:
            made.append(np.array(tokenizer.encode_batch([text], add_special_tokens=False)[0].ids, dtype=np.int32))
        except Exception as error:  # of any kind, as it would be without processes
            made.append(error)
    return made
