"""The strongest activations of every latent of one SAE, kept in one pass over all of the text, and the words around them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt64
from torch import Tensor

from sae_bench_htopk import ops
from sae_bench_htopk.contract import Codes
from sae_bench_htopk.transcript import NOTHING, Transcript

KEPT = 64  # codes of each latent, whatever the length of the text
PER_DOCUMENT = 8  # of them in one document, so that a text on which a latent fires all the time does not hide all others
BEFORE, AFTER = 12, 4  # tokens shown around the strongest


def by_value(latent: Int[np.ndarray, " nnz"], value: Float[np.ndarray, " nnz"], place: Int[np.ndarray, " nnz"]) -> Int[np.ndarray, " nnz"]:
    """The order by latent, then by falling value, of equal ones by place; values are positive, so that their bits rise as they do."""
    key: UInt64[np.ndarray, " nnz"] = latent.astype(np.uint64) << np.uint64(32) | np.uint64(2**32 - 1) - value.view(np.uint32)
    order = key.argsort()  # several times faster than by both keys
    same = np.flatnonzero(np.diff(key[order]) == 0)
    tied = np.union1d(same, same + 1)
    order[tied] = order[tied][np.lexsort((place[order[tied]], key[order[tied]]))]
    return order


def turns(group: Int[np.ndarray, " nnz"]) -> Int[np.ndarray, " nnz"]:
    """How many entries of the same group stand before each."""
    order = group.argsort(kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    turn = np.empty(len(group), dtype=np.int64)
    turn[order] = np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))
    return turn


@dataclass(eq=False)
class TopCodes:
    """Of every latent the codes of largest activation, so many in all and so many of one document; and how often it fires. Massive rows are left out.

    How the text is cut into batches does not matter: a code goes when enough others are before it, and with more text their number only grows.
    """

    latents: int
    kept: int = KEPT
    per_document: int = PER_DOCUMENT
    latent: Int[np.ndarray, " nnz"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # at most `kept` times each
    value: Float[np.ndarray, " nnz"] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    place: Int[np.ndarray, " nnz"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # document and position as one number
    rows: int = 0

    def __post_init__(self) -> None:
        self.fired = np.zeros(self.latents, dtype=np.int64)
        self.floor = np.zeros(self.latents, dtype=np.float32)  # the least kept value of a latent that has all it may keep; else 0

    def add(self, codes: Codes, document: Int[Tensor, " rows"], position: Int[Tensor, " rows"], massive: Bool[Tensor, " rows"]) -> None:
        """Takes in the codes of some more rows; what cannot enter any more is dropped where the codes are."""
        values, latents, owners = codes.values.detach().float(), codes.latents, ops.owners(codes.offsets)
        fires = (values > 0) & ~massive[owners]
        self.fired += torch.bincount(latents[fires], minlength=self.latents).cpu().numpy()
        self.rows += int((~massive).sum())
        enough = fires & (values >= torch.from_numpy(self.floor).to(values.device)[latents])
        place = (document.long() << 32 | position.long())[owners[enough]]
        self.merge(latents[enough].cpu().numpy().astype(np.int64), values[enough].cpu().numpy(), place.cpu().numpy())

    def merge(self, latent: Int[np.ndarray, " new"], value: Float[np.ndarray, " new"], place: Int[np.ndarray, " new"]) -> None:
        """Sorts new codes in among those of the same latents; the others stay as they are."""
        touched = np.zeros(self.latents, dtype=bool)
        touched[latent] = True
        old, rest = touched[self.latent], ~touched[self.latent]
        latent, value, place = (np.concatenate(pair) for pair in ((self.latent[old], latent), (self.value[old], value), (self.place[old], place)))
        order = by_value(latent, value, place)
        order = order[turns(latent[order] << 32 | place[order] >> 32) < self.per_document]
        turn = turns(latent[order])
        last, order = order[turn == self.kept - 1], order[turn < self.kept]
        self.floor[latent[last]] = value[last]
        self.latent, self.value, self.place = (
            np.concatenate((own[rest], new[order])) for own, new in ((self.latent, latent), (self.value, value), (self.place, place))
        )

    def of(self, latent: int) -> tuple[Float[np.ndarray, " codes"], Int[np.ndarray, " codes"], Int[np.ndarray, " codes"]]:
        """(values, documents, positions) of one latent's codes, the largest first."""
        here = np.flatnonzero(self.latent == latent)
        order = here[by_value(self.latent[here], self.value[here], self.place[here])]
        return self.value[order], self.place[order] >> 32, self.place[order] & (2**32 - 1)


def peaks(document: Int[np.ndarray, " codes"], position: Int[np.ndarray, " codes"], wanted: int) -> list[int]:
    """Which of a latent's codes, the largest first, are shown: the largest of each document; if those are too few, a second one that stands apart."""
    first, second = dict[int, int](), dict[int, int]()
    for index, (of, at) in enumerate(zip(document.tolist(), position.tolist(), strict=True)):
        if of not in first:
            first[of] = index
        elif of not in second and abs(at - int(position[first[of]])) > BEFORE + AFTER:
            second[of] = index
    return sorted([*first.values(), *second.values()][:wanted])


def shown(top: TopCodes, latent: int, transcript: Transcript, texts: Sequence[str], wanted: int) -> list[dict[str, object]]:
    """The contexts of a latent's strongest codes, of different documents as far as there are, and of none more than two; as JSON.

    `text` alternates between what is not marked and what is; `activations` are those of what is marked, and `peak` says which of them it is all about.
    """
    value, document, position = top.of(latent)
    found = []
    for index in peaks(document, position, wanted):
        here = document == document[index]
        strong = dict(zip(position[here].tolist(), value[here].tolist(), strict=True))
        if cut := context(transcript, texts[document[index]], int(document[index]), int(position[index]), strong):
            found.append({"document": int(document[index]), "text": cut[0], "activations": cut[1], "peak": cut[2]})
    return found


def context(transcript: Transcript, text: str, document: int, position: int, strong: Mapping[int, float]) -> tuple[list[str], list[float], int] | None:
    """The text around a token with it and its `strong` neighbours cut out, their activations, and its place; None if that in the text is not known."""
    positions = np.arange(position - BEFORE, position + AFTER + 1)
    index = transcript.find(np.full_like(positions, document), positions)
    gaps = np.flatnonzero(index == NOTHING)
    run = slice(max(gaps[gaps < BEFORE], default=-1) + 1, min(gaps[gaps > BEFORE], default=len(index)))
    spans = dict(zip(positions[run].tolist(), transcript.sorted[1].span[index[run]].tolist(), strict=True))
    spans = {at: (start, end) for at, (start, end) in spans.items() if start < end}
    if position not in spans:
        return None
    marked = [(*spans[position], strong[position])]
    for at in sorted(set(spans) & set(strong)):  # several tokens may share one character, which is marked once
        start, end = spans[at]
        if all(end <= other or start >= stop for other, stop, _ in marked):
            marked.append((start, end, strong[at]))
    peak, marked = marked[0], sorted(marked)
    ends = [min(start for start, _ in spans.values()), *(end for start, stop, _ in marked for end in (start, stop)), max(end for _, end in spans.values())]
    return [text[start:end] for start, end in pairwise(ends)], [float(f"{value:.4g}") for _, _, value in marked], marked.index(peak)
