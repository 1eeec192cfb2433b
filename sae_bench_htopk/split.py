"""The one split of documents into training, calibration and held-out text.

Documents that nearly repeat one another form a group, and the hash of the group alone says which part they belong to, so no text
is in two parts, whatever the order or the number of workers.
"""

import hashlib
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Literal, TypeAlias

import numpy as np

from sae_bench_htopk.reader import Changed, Listed, Reader, State
from sae_bench_htopk.text import Document, Hub, Source

Part: TypeAlias = Literal["train", "calibration", "held_out"]
SPLIT_VERSION = "1"
HELD_OUT_SHARE, CALIBRATION_SHARE = 0.08, 0.04
SHINGLE_WORDS, SKETCH_RATE, SAME_SHARE = 5, 16, 0.5
LEAST_SHARED = 4  # sampled runs of words that two texts must share, beside their share, to be near-duplicates
COMMON_SHINGLE = 40  # a run in more documents than this is compared between neighbours only: pairs grow with the square


def sketch(text: str) -> np.ndarray:
    """A sample of the hashes of all runs of five words, the same for the same text everywhere: uint64 [about words / 16]."""
    words = np.array([zlib.crc32(word.encode()) for word in re.findall(r"\w+", text)] or [0], dtype=np.uint64)
    words = np.pad(words, (0, max(0, SHINGLE_WORDS - len(words))))
    hashes = np.zeros(len(words) - SHINGLE_WORDS + 1, dtype=np.uint64)
    for place in range(SHINGLE_WORDS):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + words[place : place + len(hashes)]
    hashes ^= hashes >> np.uint64(29)
    hashes = np.unique(hashes * np.uint64(0xBF58476D1CE4E5B9))
    sampled = hashes[hashes % np.uint64(SKETCH_RATE) == 0]
    return sampled if len(sampled) >= 8 else hashes[:8]


def pairs(held: Sequence[int]) -> Iterator[tuple[int, int]]:
    """All pairs of the documents that hold a run of words; each with its next few if they are many, which still links a large family."""
    if len(held) <= COMMON_SHINGLE:
        yield from combinations(held, 2)
    else:
        yield from (pair for distance in (1, 2, 3) for pair in zip(held, held[distance:], strict=False))


def group_near_duplicates(documents: Sequence[Document]) -> list[str]:
    """One group name per document; documents that share half of the smaller one's sketch share a group. Order-independent."""
    sketches = [sketch(document.text) for document in documents]
    holders: defaultdict[int, list[int]] = defaultdict(list)
    for index, hashes in enumerate(sketches):
        for value in hashes.tolist():
            holders[value].append(index)
    digests = [hashlib.sha256(document.text.encode()).hexdigest() for document in documents]
    shared = Counter(pair for held in holders.values() for pair in pairs(sorted(held, key=digests.__getitem__)))
    leader = list(range(len(documents)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for (one, other), count in shared.items():
        if count >= max(LEAST_SHARED, SAME_SHARE * min(len(sketches[one]), len(sketches[other]))) or digests[one] == digests[other]:
            leader[find(one)] = find(other)
    name: dict[int, str] = {}
    for index, digest in enumerate(digests):
        name[find(index)] = min(digest, name.get(find(index), digest))
    return [name[find(index)] for index in range(len(documents))]


def part_of(group: str) -> Part:
    """The part that a group of documents belongs to: the only rule of the split, for every user of text."""
    digest = hashlib.sha256(f"{SPLIT_VERSION}/{group}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return "held_out" if place < HELD_OUT_SHARE else "calibration" if place < HELD_OUT_SHARE + CALIBRATION_SHARE else "train"


def split(source: Source) -> Iterator[tuple[Part, Document]]:
    """Yields every document with its part; a finite source is grouped as a whole."""
    if source.finite:
        documents = list(source.documents())
        yield from ((part_of(group), document) for group, document in zip(group_near_duplicates(documents), documents, strict=True))
    else:
        yield from ((part_alone(document), document) for document in source.documents())


def part_alone(document: Document) -> Part:
    """The part of a document of an endless source, which cannot be grouped as a whole.

    There a text's group is the smallest hash of its sketch, so equal texts always share a part, and near-duplicates do as often
    as their sketches are alike.
    """
    return part_of(str(sketch(document.text)[0]))


def part_documents(source: Source, part: Part, state: State | None = None) -> Reader[Document]:
    """The documents of one part: in the hash order of their text if the source is finite, else in the stream's order; from a reader's state on."""
    if isinstance(source, Hub):
        return Changed(source.documents(state), lambda document: document if part_alone(document) == part else None)
    chosen = (document for where, document in split(source) if where == part)
    return Listed(sorted(chosen, key=lambda document: hashlib.sha256(document.text.encode()).digest()), state)


def fingerprint(documents: Iterable[Document]) -> str:
    """16 hex digits of a set of documents, whatever their order."""
    digests = sorted(hashlib.sha256(document.text.encode()).hexdigest() for document in documents)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:16]
