"""Whether two trainings of one variant, from two seeds, found the same latents.

Two latents are alike by the cosine of their rows. A cosine keeps its sign: the opposite row is another feature. Only live latents
count, since dead ones still hold their initialisation, which is another for every seed. Many rows in few dimensions have near
neighbours by chance alone, so every number stands beside that of rows of random direction. It is a floor, not a null model:
rows of real SAEs crowd into some directions, and chance brings them nearer than that.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sae_bench_htopk.contract import Missing

Matching: TypeAlias = Literal["hungarian", "mutual"]
Pairs: TypeAlias = tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]
LIMIT = 16_384  # live latents up to which an assignment is made: 3 GB of cosines, and time that grows with their cube
CHUNK = 1024  # rows whose cosines to all of the other's are held at once
SHARED = 0.7  # cosine above which, in decoder and encoder, a pair counts as one latent


@dataclass(frozen=True)
class Weights:
    """What is compared of one SAE: the rows of its latents, of any norm, and which of them are live."""

    W_enc: Float[Tensor, "latents d"]
    W_dec: Float[Tensor, "latents d"]
    live: Bool[Tensor, " latents"]

    def missing(self, name: str) -> Missing | None:
        """The reason why `name`, which this is, can be compared with nothing."""
        if not bool(self.live.any()):
            return Missing(f"none of the {len(self.live)} latents of {name} is live")
        finite = self.W_enc.isfinite().all(1) & self.W_dec.isfinite().all(1)
        bad = int((self.live & ~finite).sum())
        return Missing(f"the weights of {bad} live latents of {name} are not finite") if bad else None

    def rows(self) -> "Rows":
        """The unit rows of the live latents."""
        return Rows(unit(self.W_enc[self.live]), unit(self.W_dec[self.live]))


@dataclass(frozen=True)
class Rows:
    """Unit rows of live latents."""

    enc: Float[Tensor, "live d"]
    dec: Float[Tensor, "live d"]

    @classmethod
    def random(cls, live: int, d: int, generator: torch.Generator, device: torch.device) -> "Rows":
        """Rows of random direction; the encoder is the decoder's, as in an SAE before training."""
        dec = unit(torch.randn(live, d, generator=generator)).to(device)
        return cls(dec, dec)


@dataclass(frozen=True)
class Agreement:
    """How alike two sets of latents are: cosines in -1..1, shares in 0..1.

    MMCS is the mean, over latents of one SAE, of the largest decoder cosine to any latent of the other (Sharkey, Braun and
    Millidge 2022, alignmentforum.org/posts/z6QQJbtpkEAX3Aojj). It is many-to-one, so the smaller of two dictionaries can be found
    whole in the larger while the way back is low.
    """

    mmcs_to: float  # each latent of the first looks for its like in the second
    mmcs_from: float  # each of the second in the first
    matched: float  # mean decoder cosine of matched pairs, no latent in two of them
    pairs: int
    shared: float  # pairs whose decoder cosine and encoder cosine are both above 0.7, over the smaller number of live latents


@dataclass(frozen=True)
class Stability(Agreement):
    """The agreement of two SAEs, and beside it that of as many random rows of the same width."""

    live: int  # latents of the first that were compared
    live_other: int
    matching: Matching
    floor: Agreement  # one draw; with its encoder tied to its decoder, so that `shared` is at its highest


def compare(one: Weights, other: Weights, limit: int = LIMIT, seed: int = 0) -> Stability | Missing:
    """Compares the live latents of two SAEs of one width d; their numbers of latents may differ. `seed` is that of the random floor.

    Up to `limit` live latents in each, pairs are the one-to-one assignment of decoder rows with the largest sum of cosines, as in
    Paulo and Belrose 2025 (arXiv:2501.16615), and every latent of the smaller set is in one. Their code assigns encoder rows a
    second time; that `shared` asks both cosines of one assignment's pairs is ours. Above `limit` pairs are mutual nearest
    neighbours by decoder cosine: latents that have none stay out, so that `matched` is a mean over fewer and better pairs
    (`pairs` says how many) and as a rule higher. Numbers of the two kinds are not to be compared.

    Missing if an SAE has no live latent, or weights of one that are not finite. A row of norm 0 has cosine 0 to all.
    Raises ValueError if the widths differ.
    """
    if one.W_dec.shape[1] != other.W_dec.shape[1]:
        raise ValueError(f"W_dec of two SAEs: rows of width {one.W_dec.shape[1]} and {other.W_dec.shape[1]}, wanted the same width")
    if reason := one.missing("the first SAE") or other.missing("the second SAE"):
        return reason
    a, b = one.rows(), other.rows()
    matching: Matching = "hungarian" if max(len(a.dec), len(b.dec)) <= limit else "mutual"
    floor = floor_of(len(a.dec), len(b.dec), a.dec.shape[1], matching, seed, a.dec.device)
    found = agreement(a, b, matching)
    return Stability(**vars(found), live=len(a.dec), live_other=len(b.dec), matching=matching, floor=floor)


@lru_cache(maxsize=64)
def floor_of(live: int, live_other: int, d: int, matching: Matching, seed: int, device: torch.device) -> Agreement:
    """The agreement of so many random rows with so many others: the same for all pairs of these sizes, so made once."""
    generator = torch.Generator().manual_seed(seed)
    one, other = (Rows.random(size, d, generator, device) for size in (live, live_other))
    return agreement(one, other, matching)


def agreement(a: Rows, b: Rows, matching: Matching) -> Agreement:
    """All numbers of two sets of unit rows, neither empty."""
    nearest = Nearest.of(a.dec, b.dec)
    i, j = assigned(a.dec, b.dec) if matching == "hungarian" else nearest.mutual()
    dec, enc = ((left[i] * right[j]).sum(1) for left, right in ((a.dec, b.dec), (a.enc, b.enc)))
    shared = int(((dec > SHARED) & (enc > SHARED)).sum()) / min(len(a.dec), len(b.dec))
    return Agreement(mean(nearest.to_cosine), mean(nearest.from_cosine), mean(dec), len(i), shared)


@dataclass(frozen=True)
class Nearest:
    """For each row of both sets, the nearest row of the other and its cosine; of equally near ones the first."""

    to_cosine: Float[Tensor, " a"]
    to_row: Int[Tensor, " a"]
    from_cosine: Float[Tensor, " b"]
    from_row: Int[Tensor, " b"]

    @classmethod
    def of(cls, a: Float[Tensor, "a d"], b: Float[Tensor, "b d"]) -> "Nearest":
        """Of unit rows; no more than CHUNK rows' cosines are held at once."""
        best, row = a.new_full((len(b),), -torch.inf), torch.zeros(len(b), dtype=torch.long, device=b.device)
        cosines, rows = [], []
        for start, chunk in chunks(a, b):
            cosine, nearest = chunk.max(1)
            cosines.append(cosine)
            rows.append(nearest)
            cosine, nearest = chunk.max(0)
            better = cosine > best
            best, row = torch.where(better, cosine, best), torch.where(better, nearest + start, row)
        return cls(torch.cat(cosines), torch.cat(rows), best, row)

    def mutual(self) -> Pairs:
        """The pairs that are each other's nearest; one at least, since both ways take the first of equals."""
        i = torch.arange(len(self.to_row), device=self.to_row.device)
        i = i[self.from_row[self.to_row] == i]
        return i, self.to_row[i]


def chunks(a: Float[Tensor, "a d"], b: Float[Tensor, "b d"]) -> Iterator[tuple[int, Float[Tensor, "rows b"]]]:
    """The first row of each chunk of `a`, and the chunk's cosines to `b`."""
    for start in range(0, len(a), CHUNK):
        yield start, a[start : start + CHUNK] @ b.T


def assigned(a: Float[Tensor, "a d"], b: Float[Tensor, "b d"]) -> Pairs:
    """The min(a, b) pairs with the largest sum of cosines, no row in two of them."""
    cost = (a @ b.T).neg_().double().cpu().numpy()  # to minimise: scipy copies what it is to maximise
    i, j = (torch.from_numpy(index).to(a.device) for index in linear_sum_assignment(cost))
    return i, j


def unit(rows: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
    """Rows of norm 1 in float32; a row of zeros stays so. In double, where the square of a small weight does not vanish."""
    rows = rows.detach().double()
    norms = rows.norm(dim=1, keepdim=True)
    return torch.where(norms > 0, rows / norms, 0.0).float()


def mean(values: Float[Tensor, " values"]) -> float:
    """Summed in float64."""
    return float(values.double().mean())
