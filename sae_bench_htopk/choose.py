"""Chooses the largest latents by a product in bfloat16 that proposes and a float32 one that decides, with a proof for each row.

With x = x' + dx and w = w' + dw, x' and w' rounded to bfloat16, the product x' . w' misses x . w by dx . w' + x . dw, so by no more than
||dx|| ||w'|| + ||x|| ||dw||, which are known and not guessed. A latent that is not proposed has a rounded score of at most the least
that is, c; if the k-th best of the proposed ones, computed in float32, is above c by more than what c may miss, none was overlooked.
Rows where it is not are done again in float32. The margin of proposals grows where that happens in more than 1% of rows.
"""

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from sae_bench_htopk import ops

ROUND = 2.0**-8  # a bfloat16 is within this share of what it stands for
SUM = 2.0**-23  # what one float32 addition may miss, as a share; twice the unit roundoff, for both products
LARGE = 2**29  # multiplications of a batch, below which float32 alone is as fast; from one trial, tests/bench
CHUNK = 512  # rows of scores that are made at a time, so that they stay in cache
MOST_MARGIN = 512  # beyond it rows cannot be proven for another reason, massive dimensions, and more proposals only cost
REDO_LIMIT = 0.01  # share of rows done again, above which the margin grows


def worth_it(x: Float[Tensor, "batch d"], W: Float[Tensor, "latents d"]) -> bool:
    """Whether a product in bfloat16 is faster here by more than what proving costs: on a CPU that has it, for large products."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and len(x) * W.numel() >= LARGE and has_bfloat16()


@cache
def has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16 itself; where torch does not say, no."""
    ask = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(ask and ask())


@dataclass
class Proposals:
    """How many latents more than k are proposed for each row, and what that came to so far."""

    margin: int = 32
    threshold: float | None = None  # the least chosen score of the last batch, where a batch shares its budget
    rows: int = 0
    redone: int = 0

    def count(self, rows: int, redone: int, most: int) -> None:
        """Takes in one batch; the next one has a wider margin if too many rows were done again."""
        self.rows, self.redone = self.rows + rows, self.redone + redone
        if redone > REDO_LIMIT * rows:
            self.margin = min(most, MOST_MARGIN, self.margin + self.margin // 2 + 1)

    def rate(self) -> float:
        """The share of rows that were done again in float32, over all batches."""
        return self.redone / max(1, self.rows)


@dataclass(frozen=True)
class Rounded:
    """Rows x and encoder rows W in bfloat16, and how far each row's scores may be from the true ones."""

    x: Float[Tensor, "batch d"]
    W: Float[Tensor, "latents d"]
    b: Float[Tensor, " latents"]
    x16: Tensor
    W16: Tensor
    b16: Tensor
    error: Float[Tensor, " batch"]

    @classmethod
    def of(cls, x: Tensor, W: Tensor, b: Tensor) -> "Rounded":
        """Rounds, and bounds what rounding did: by Cauchy and Schwarz from the norms of the parts that were cut off."""
        x16, W16, b16 = x.bfloat16(), W.bfloat16(), b.bfloat16()
        widest = float(W.norm(dim=1).max())
        cut_x, norm_x = (x - x16.float()).norm(dim=1), x.norm(dim=1)
        cut_b = float((b - b16.float()).abs().max())
        sums = SUM * x.shape[1] * norm_x * widest
        return cls(x, W, b, x16, W16, b16, cut_x * widest * (1 + ROUND) + norm_x * widest * ROUND + cut_b + sums)

    def scores(self, rows: slice) -> Tensor:
        """[rows, latents] in bfloat16."""
        return torch.addmm(self.b16, self.x16[rows], self.W16.T)

    def exact(self, latents: Int[Tensor, " nnz"], offsets: Int[Tensor, " ends"], rows: slice = slice(None)) -> Float[Tensor, " nnz"]:
        """True scores at some latents, in float32."""
        return ops.dots(self.x[rows], self.W, latents, offsets) + self.b.index_select(0, latents)

    def reach(self, least: Float[Tensor, " rows"], rows: slice = slice(None)) -> Float[Tensor, " rows"]:
        """The most that a latent may truly score whose bfloat16 score is at most `least`."""
        return least.float().clamp_min(0) * (1 + 2 * ROUND) + self.error[rows]


def per_row(x: Float[Tensor, "batch d"], W: Float[Tensor, "latents d"], b: Float[Tensor, " latents"], k: int, proposals: Proposals) -> ops.Ragged:
    """The k largest positive x . W + b of each row, descending: what `ops.choose_per_row` gives of the full float32 scores."""
    size, wanted = len(W), min(k, len(W))
    rounded, proposed = Rounded.of(x, W, b), min(size, k + proposals.margin)
    values, latents = x.new_empty(len(x), wanted), torch.empty(len(x), wanted, dtype=torch.long, device=x.device)
    redo = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for start in range(0, len(x), CHUNK):
        rows = slice(start, min(start + CHUNK, len(x)))
        least, found = rounded.scores(rows).topk(proposed, sorted=True)
        ends = torch.arange(0, found.numel() + 1, proposed, device=x.device)
        true = rounded.exact(found.flatten(), ends, rows).view_as(found)
        values[rows], place = true.topk(wanted, sorted=True)
        latents[rows] = found.gather(1, place)
        if proposed < size:
            redo[rows] = values[rows, -1].clamp_min(0) < rounded.reach(least[:, -1], rows)
    again = redo.nonzero()[:, 0]
    for part in again.split(CHUNK):
        values[part], latents[part] = torch.addmm(b, x[part], W.T).topk(wanted, sorted=True)
    proposals.count(len(x), len(again), size - wanted)
    kept = values > 0
    return latents[kept], F.pad(kept.sum(1).cumsum(0), (1, 0))


def per_batch(x: Float[Tensor, "batch d"], W: Float[Tensor, "latents d"], b: Float[Tensor, " latents"], k: int, proposals: Proposals) -> ops.Ragged:
    """The batch * k largest positive x . W + b of the batch: what `ops.choose_per_batch` gives of the full float32 scores.

    Looked for first are those a little below the least score that the last batch chose, then those further below; a first batch, or
    one whose scores fell more, is done in float32 as a whole.
    """
    wanted, shape = k * len(x), torch.Size((len(x), len(W)))
    if proposals.threshold:
        rounded = Rounded.of(x, W, b)
        for share in (0.97, 0.8):
            flat, true, redone = all_above(rounded, share * proposals.threshold)
            if len(flat) >= wanted:
                best, place = true.topk(wanted, sorted=False)
                proposals.threshold = float(best.min())
                proposals.count(len(x), redone, len(W))
                return ops.descending(flat[place], best, shape)
    scores = torch.addmm(b, x, W.T).relu_()
    latents, offsets = ops.choose_per_batch(scores, k)
    proposals.count(len(x), len(x) if proposals.threshold else 0, len(W))
    proposals.threshold = float(scores[ops.owners(offsets), latents].min()) if len(latents) == wanted else None
    return latents, offsets


def all_above(rounded: Rounded, least: float) -> tuple[Int[Tensor, " nnz"], Float[Tensor, " nnz"], int]:
    """Every score of at least `least`: its place in the flattened [batch, latents], its true value, and how many rows were done in float32.

    Those are the rows where a score of `least` may round to one that is not positive, as where a few dimensions are massive.
    """
    size = len(rounded.W)
    floor = (least - rounded.error) / (1 + 2 * ROUND)  # what truly reaches `least` is above this in bfloat16
    flat, true = [], []
    for start in range(0, len(rounded.x), CHUNK):
        rows = slice(start, start + CHUNK)
        near = (rounded.scores(rows).float() > floor[rows, None]) & (floor[rows, None] > 0)
        place = near.flatten().nonzero()[:, 0]
        ends = F.pad(near.sum(1).cumsum(0), (1, 0))
        values = rounded.exact(place % size, ends, rows)
        flat.append(place[values >= least] + start * size)
        true.append(values[values >= least])
    again = (floor <= 0).nonzero()[:, 0]
    for part in again.split(CHUNK):
        scores = torch.addmm(rounded.b, rounded.x[part], rounded.W.T)
        row, latent = (scores >= least).nonzero(as_tuple=True)
        flat.append(part[row] * size + latent)
        true.append(scores[row, latent])
    return torch.cat(flat), torch.cat(true), len(again)
