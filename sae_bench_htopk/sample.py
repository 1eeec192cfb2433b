"""A random sample of held-out rows that every SAE shares, and the codes of its rows as one SAE reads them."""

from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt64
from scipy import sparse
from torch import Tensor

from sae_bench_htopk import ops
from sae_bench_htopk.contract import Codes, Text


def shuffled(numbers: UInt64[np.ndarray, " rows"]) -> UInt64[np.ndarray, " rows"]:
    """Each number's place in a fixed shuffle of all 64-bit numbers (splitmix64): no two share one."""
    mixed: np.ndarray = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of held-out text and their keys, on the CPU."""

    key: UInt64[np.ndarray, " rows"]
    document: Int[np.ndarray, " rows"]
    position: Int[np.ndarray, " rows"]
    token: Int[np.ndarray, " rows"]
    span: Int[np.ndarray, "rows 2"]
    x: Float[Tensor, "rows d"]

    def take(self, index: Int[np.ndarray, " chosen"]) -> "Rows":
        """Some of the rows."""
        return Rows(self.key[index], self.document[index], self.position[index], self.token[index], self.span[index], self.x[index])


@dataclass(frozen=True, eq=False)
class Sample:
    """The `limit` rows of smallest key among all rows seen that are not massive: a random sample of the text that no cut into batches can change.

    It never changes: `grow` makes the next one, once per batch of text, so that all SAEs that see the same text share it.
    """

    limit: int
    pieces: tuple[Rows, ...] = ()
    bound: int = 2**64  # rows from this key on are surely not in it

    @classmethod
    @cache
    def empty(cls, limit: int) -> "Sample":
        """The sample of no text, where every SAE begins."""
        return cls(limit)

    @cached_property
    def seen(self) -> Rows:
        """All rows still held, in the order in which they came: those of the sample and some others."""
        names = ("key", "document", "position", "token", "span")
        key, document, position, token, span = (np.concatenate([getattr(piece, name) for piece in self.pieces]) for name in names)
        return Rows(key, document, position, token, span, torch.cat([piece.x for piece in self.pieces]))

    @cached_property
    def order(self) -> Int[np.ndarray, " rows"]:
        """Which of the rows in `seen` are the sample, by ascending key."""
        return self.seen.key.argsort()[: self.limit]

    @cached_property
    def rows(self) -> Rows:
        """The sample, by ascending key."""
        return self.seen.take(self.order)


@dataclass(frozen=True, eq=False)
class Growth:
    """What one batch of text does to a sample: the sample after it, the rows of the batch that enter, and which of those then held stay (None: all)."""

    sample: Sample
    entering: Int[np.ndarray, " entering"]
    kept: Int[np.ndarray, " kept"] | None


@lru_cache(maxsize=2)
def grow(
    sample: Sample,
    x: Float[Tensor, "batch d"],
    document: Int[Tensor, " batch"],
    position: Int[Tensor, " batch"],
    token: Int[Tensor, " batch"],
    span: Int[Tensor, "batch 2"],
    massive: Bool[Tensor, " batch"],
) -> Growth:
    """The sample after one more batch.

    Tensors are told apart by identity: the same text in the same tensors is looked at once, whatever the number of SAEs.
    """
    documents, positions, tokens, spans = (part.cpu().numpy() for part in (document, position, token, span))
    key = shuffled(documents.astype(np.uint64) << np.uint64(32) | positions.astype(np.uint64))
    entering = np.flatnonzero((key <= np.uint64(sample.bound - 1)) & ~massive.cpu().numpy())
    arrived = x[torch.from_numpy(entering).to(x.device)].float().cpu()
    new = Rows(key[entering], documents[entering], positions[entering], tokens[entering], spans[entering], arrived)
    grown = Sample(sample.limit, (*sample.pieces, new), sample.bound)
    if sum(len(piece.key) for piece in grown.pieces) <= 2 * sample.limit:
        return Growth(grown, entering, None)
    bound = int(grown.rows.key[-1]) + 1
    return Growth(Sample(sample.limit, (grown.rows,), bound), entering, grown.order)


def code_matrix(codes: Codes, rows: Int[np.ndarray, " chosen"], latents: int) -> sparse.csr_matrix:
    """The codes of some rows as a sparse [chosen, latents] matrix on the CPU."""
    values, indices, offsets = (part.cpu().numpy() for part in (codes.values.detach().float(), codes.latents, codes.offsets))
    return sparse.csr_matrix((values, indices, offsets), shape=(len(offsets) - 1, latents))[rows]


@dataclass(frozen=True, eq=False)
class SampledCodes:
    """One SAE's codes on a sample's rows. It never changes: `sampled` makes the next one, once per batch, so that the metrics of a reading share it."""

    sample: Sample
    pieces: tuple[Codes, ...] = ()  # on the CPU, of the rows in `sample.seen`; each row's codes by descending score

    @classmethod
    @cache
    def empty(cls, limit: int) -> "SampledCodes":
        """Those of no text, where every SAE begins."""
        return cls(Sample.empty(limit))

    @cached_property
    def codes(self) -> Codes:
        """Those of the sample's rows, by ascending key; each row's by descending score, so that prefixes are smaller budgets."""
        return rows_of(together(self.pieces), self.sample.order)

    def matrix(self, latents: int, first: int = 0, last: int | None = None) -> sparse.csr_matrix:
        """As a sparse [rows, latents] matrix; only the codes of rank `first` to `last` - 1 in their row, 0 being the largest."""
        rank = self.ranks
        inside = (rank >= first) & (rank < (len(rank) if last is None else last))
        owners = ops.owners(self.codes.offsets).numpy()[inside]
        values, columns = self.codes.values.numpy()[inside], self.codes.latents.numpy()[inside]
        return sparse.csr_matrix((values, (owners, columns)), shape=(len(self.codes.offsets) - 1, latents))

    @property
    def ranks(self) -> Int[np.ndarray, " nnz"]:
        """Each code's place in its row by score, from 0."""
        ranks: np.ndarray = ops.ranks_in_row(self.codes.offsets).numpy()
        return ranks


def together(pieces: tuple[Codes, ...]) -> Codes:
    """The rows of all pieces, one piece after the other."""
    lengths = torch.cat([piece.lengths() for piece in pieces])
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    return Codes(torch.cat([piece.values for piece in pieces]), torch.cat([piece.latents for piece in pieces]), offsets)


def rows_of(codes: Codes, rows: Int[np.ndarray, " chosen"]) -> Codes:
    """Some rows of codes, in the order given."""
    index = torch.from_numpy(rows).to(codes.offsets.device)
    lengths = codes.lengths()[index]
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    place = (codes.offsets[index] - offsets[:-1]).repeat_interleave(lengths) + torch.arange(int(offsets[-1]), device=index.device)
    return Codes(codes.values[place], codes.latents[place], offsets)


def sampled(before: SampledCodes, text: Text, codes: Codes) -> SampledCodes:
    """The sample's codes after one more batch, of which `codes` are those of one SAE at one reading."""
    growth = grow(before.sample, text.x, text.document, text.position, text.token, text.span, text.massive)
    return after(before, growth, codes.values, codes.latents, codes.offsets)


@lru_cache(maxsize=2)
def after(before: SampledCodes, growth: Growth, values: Float[Tensor, " nnz"], latents: Int[Tensor, " nnz"], offsets: Int[Tensor, " ends"]) -> SampledCodes:
    """Tensors are told apart by identity, as in `grow`."""
    arrived = Codes(*(part.cpu() for part in rows_of(Codes(values.detach().float(), latents, offsets), growth.entering)))
    pieces = (*before.pieces, arrived)
    return SampledCodes(growth.sample, pieces if growth.kept is None else (rows_of(together(pieces), growth.kept),))
