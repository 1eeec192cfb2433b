"""One text source, read once: its three parts, their fingerprints, and token windows from each."""

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice
from typing import TypeAlias

from sae_bench_htopk.reader import Listed, Reader, State
from sae_bench_htopk.split import SPLIT_VERSION, Part, fingerprint, part_documents, split
from sae_bench_htopk.text import Document, Source, TextError
from sae_bench_htopk.windows import Cut, Encode, Position, Window, take

Ahead: TypeAlias = Callable[[Reader[Document]], Reader[Document]]


class Corpus:
    """The documents of a source, by part; a finite source is read and grouped once, an endless one streams."""

    def __init__(self, source: Source) -> None:
        """Reads nothing yet."""
        self.source = source

    @cached_property
    def parts(self) -> dict[Part, list[Document]]:
        """Every document of a finite source, each part in the hash order of its texts. Raises TextError if a part is empty."""
        parts: dict[Part, list[Document]] = {"train": [], "calibration": [], "held_out": []}
        for part, document in split(self.source):
            parts[part].append(document)
        if empty := [part for part, documents in parts.items() if not documents]:
            total = sum(map(len, parts.values()))
            named = ", ".join(self.source.identity())
            raise TextError(f"text: {total} documents of {named} leave none for {', '.join(empty)}; wanted enough for all three parts")
        for documents in parts.values():
            documents.sort(key=lambda document: hashlib.sha256(document.text.encode()).digest())
        return parts

    def documents(self, part: Part, state: State | None = None) -> Reader[Document]:
        """The documents of one part; from a reader's state on, if there is one."""
        return Listed(self.parts[part], state) if self.source.finite else part_documents(self.source, part, state)

    def fingerprint(self, part: Part) -> str:
        """16 hex digits: of the documents of a finite source, of the name and revision of an endless one."""
        if self.source.finite:
            return fingerprint(self.parts[part])
        named = json.dumps([SPLIT_VERSION, part, self.source.identity()], sort_keys=True)
        return hashlib.sha256(named.encode()).hexdigest()[:16]

    def windows(self, part: Part, encode: Encode, context: int, position: Position | None = None, ahead: Ahead | None = None) -> Cut:
        """Token windows of one part, from many documents in turn; from a position on, if there is one. `ahead` sees documents pass before `encode`."""
        documents = self.documents(part, position.documents if position else None)
        return Cut(ahead(documents) if ahead else documents, encode, context, position)

    def sample(self, part: Part, encode: Encode, context: int, tokens: int, documents: int | None) -> tuple[list[Window], list[str]]:
        """Windows that hold at least so many tokens, and the texts of their documents. Raises TextError if the part is too short."""
        texts: list[str] = []

        def remembered() -> Iterator[Document]:
            for document in islice(self.documents(part), documents):
                texts.append(document.text)
                yield document

        windows = take(Cut(remembered(), encode, context), tokens)
        held = sum(len(window.ids) for window in windows)
        if held < tokens:
            where = f"the {part} part holds" if documents is None else f"the first {documents} documents of the {part} part (text.{part}.documents) hold"
            raise TextError(f"text.{part}.tokens: {tokens:,} asked for, {where} {held:,}")
        used = max(window.document for window in windows) + 1
        return windows, texts[:used]

    def require(self, part: Part, encode: Encode, tokens: int, asked: int) -> None:
        """Raises TextError if a part of a finite source holds fewer tokens than are wanted for those asked; reads no further than it must."""
        held = 0
        for document in self.documents(part) if self.source.finite else ():
            held += len(encode(document.text)[0])
            if held >= tokens:
                return
        if self.source.finite:
            wanted = f"which wants {tokens:,} with what whole batches and massive norms leave over"
            raise TextError(f"{part}.tokens: {asked:,} asked for, {wanted}; the {part} part of the text holds {held:,}")
