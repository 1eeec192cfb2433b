"""Chooses the largest latents by a product in bfloat16 that proposes and a float32 one that decides, with a proof for each row.

With x = x' + dx and w = w' + dw, x' and w' rounded to bfloat16, the product x' . w' misses x . w by dx . w' + x . dw, so by no more than
||dx|| ||w'|| + ||x|| ||dw||, which are known and not guessed. k latents of a row have a rounded score of at least t, so that its k-th best
is truly at least t less what t may miss, and whatever truly reaches that has a rounded score of at least that less what it may miss
itself. All of these are proposed, as many as it takes, and are scored again in float32: none can be overlooked. Rows where the bound
is wide, as where a few dimensions are massive, are done in float32 as a whole, and counted. No margin is guessed, so there is none to
widen where many rows are done again. So the choice is that of float32 scores, up to the order in which float32 sums are added, and to
equal scores.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_bench_htopk import ops

ROUND = 2.0**-8  # a bfloat16 is within this share of what it stands for
SUM = 2.0**-23  # what one float32 addition may miss, as a share; twice the unit roundoff, for both products
LARGE = 2**15  # multiplications of a row for each latent wanted, below which float32 alone is as fast: from trials at 8 shapes on one CPU
FLOORS = (0.97, 0.8)  # shares of the last batch's threshold above which a batch's best are looked for, in turn
FAINT = 1e-12  # product of norms, below which float32 squares vanish and no bound is known
MOST = 16  # proposals for each one wanted, above which a row is done in float32: scoring them one by one would take longer
CHUNK = 512  # rows of scores that are made at a time, so that they stay in cache


def worth_it(x: Float[Tensor, "batch d"], W: Float[Tensor, "latents d"], k: int) -> bool:
    """Whether a product in bfloat16 is faster here by more than what proving costs: on a CPU that has it, for large encoders."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and W.numel() >= LARGE * k and has_bfloat16()


@cache
def has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16 itself; where torch does not say, no."""
    ask = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(ask and ask())


@dataclass
class Proposals:
    """What choosing came to so far, and what it remembers from batch to batch."""

    threshold: float | None = None  # the least chosen score of the last batch, where a batch shares its budget
    rows: int = 0
    redone: int = 0
    proposed: int = 0

    def floors(self) -> tuple[float, ...]:
        """Where to look for a batch's best, the highest first; nothing where the last batch says nothing."""
        return tuple(share * self.threshold for share in FLOORS) if self.threshold else ()

    def count(self, rows: int, redone: int, proposed: int) -> None:
        """Takes in one batch."""
        self.rows, self.redone, self.proposed = self.rows + rows, self.redone + redone, self.proposed + proposed

    def story(self) -> dict[str, float | int]:
        """For a record: how many rows were proposed in bfloat16 (0: all was float32), the share done in float32, and the mean number proposed."""
        proven = max(1, self.rows - self.redone)
        return {"bfloat16_rows": self.rows, "redone": self.redone / max(1, self.rows), "proposed_per_row": self.proposed / proven}


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
        (x16, norm_x, cut_x), (W16, norm_W, cut_W), b16 = cut(x), cut(W), b.bfloat16()
        widest = float(norm_W.max())
        cut_b = float((b - b16.float()).abs().max() + 2 * ROUND * b.abs().max())  # the product may be rounded before the bias is added, too
        sums = SUM * x.shape[1] * norm_x * widest
        error = cut_x * widest * (1 + ROUND) + norm_x * float(cut_W.max()) + cut_b + sums
        return cls(x, W, b, x16, W16, b16, torch.where(norm_x * widest > FAINT, error, torch.inf))

    def scores(self) -> Iterator[tuple[slice, Tensor]]:
        """(which rows, their [rows, latents] in bfloat16), all rows in turn."""
        for start in range(0, len(self.x), CHUNK):
            rows = slice(start, min(start + CHUNK, len(self.x)))
            yield rows, torch.addmm(self.b16, self.x16[rows], self.W16.T)

    def exact(self, latents: Int[Tensor, " nnz"], offsets: Int[Tensor, " ends"]) -> Float[Tensor, " nnz"]:
        """True scores at some latents of each row, in float32."""
        return ops.dots(self.x, self.W, latents, offsets) + self.b.index_select(0, latents)


def cut(rows: Float[Tensor, "rows d"]) -> tuple[Tensor, Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """(rows in bfloat16, their norms, the norms of what was cut off)."""
    rounded, norms, lost = rows.bfloat16(), rows.new_empty(len(rows)), rows.new_empty(len(rows))
    for part in torch.arange(len(rows)).split(CHUNK):
        some = slice(int(part[0]), int(part[-1]) + 1)
        torch.linalg.vector_norm(rows[some], dim=1, out=norms[some])
        torch.linalg.vector_norm(rows[some] - rounded[some], dim=1, out=lost[some])
    return rounded, norms, lost


def per_row(x: Float[Tensor, "batch d"], W: Float[Tensor, "latents d"], b: Float[Tensor, " latents"], k: int, proposals: Proposals) -> ops.Ragged:
    """The k largest positive x . W + b of each row, descending: what `ops.choose_per_row` gives of the full float32 scores."""
    wanted, rounded = min(k, len(W)), Rounded.of(x, W, b)
    found = proposed(rounded, MOST * wanted, lambda scores, error: (least := k_reach(scores, wanted)) - least.abs() * 2 * ROUND - error)
    counts = found.ends.diff()
    padded = x.new_full((len(x), max(wanted, int(counts.max()))), -torch.inf)
    padded[found.rows, ops.ranks_in_row(found.ends)] = found.scores
    values, place = padded.topk(wanted, sorted=True)
    latents = found.latents[(found.ends[:-1, None] + place).clamp_max(max(0, len(found.latents) - 1))] if len(found.latents) else place
    for part in found.unproven.split(CHUNK):
        values[part], latents[part] = torch.addmm(b, x[part], W.T).topk(wanted, sorted=True)
    proposals.count(len(x), len(found.unproven), len(found.latents))
    kept = values > 0
    return values[kept], latents[kept], F.pad(kept.sum(1).cumsum(0), (1, 0))


def k_reach(scores: Tensor, k: int) -> Float[Tensor, " rows"]:
    """A score that k latents of each row reach: the k-th largest of the maxima of groups, which is nearly the k-th largest of all."""
    group = 1
    while scores.shape[1] % (2 * group) == 0 and scores.shape[1] // (2 * group) >= 4 * k:
        group *= 2
    maxima = scores.view(len(scores), -1, group).amax(2) if group > 1 else scores
    return maxima.topk(k, sorted=False).values.min(1).values.float()


def per_batch(x: Float[Tensor, "batch d"], W: Float[Tensor, "latents d"], b: Float[Tensor, " latents"], k: int, proposals: Proposals) -> ops.Ragged:
    """The batch * k largest positive x . W + b of the batch: what `ops.choose_per_batch` gives of the full float32 scores.

    Looked for first are those a little below the least score that the last batch chose, then those further below; a first batch, or
    one whose scores fell more, is done in float32 as a whole.
    """
    rounded = Rounded.of(x, W, b) if proposals.threshold else None
    for floor in proposals.floors():
        assert rounded is not None
        found = proposed(rounded, MOST * k, lambda scores, error, floor=floor: torch.full_like(error, floor))  # type: ignore[misc]
        rows, latents, scores = found.rows, found.latents, found.scores
        for part in found.unproven.split(CHUNK):
            dense = torch.addmm(b, x[part], W.T)
            row, latent = (dense >= floor).nonzero(as_tuple=True)
            rows, latents, scores = torch.cat((rows, part[row])), torch.cat((latents, latent)), torch.cat((scores, dense[row, latent]))
        if int((scores >= floor).sum()) >= k * len(x):
            proposals.count(len(x), len(found.unproven), len(found.latents))
            return best_of(rows * len(W) + latents, scores, k, torch.Size((len(x), len(W))), proposals)
    proposals.count(len(x), len(x), 0)
    return per_batch_of(torch.addmm(b, x, W.T), k, proposals)


def per_batch_of(scores: Float[Tensor, "batch latents"], k: int, proposals: Proposals) -> ops.Ragged:
    """What `ops.choose_per_batch` gives of scores that are there; a floor that the last batch suggests spares it most of them."""
    for floor in proposals.floors():
        place = true_places(scores >= floor)
        if len(place) >= k * len(scores):
            return best_of(place, scores.flatten()[place], k, scores.shape, proposals)
    values, latents, offsets = ops.choose_per_batch(scores, k)
    proposals.threshold = float(values.min()) if len(values) == k * len(scores) else None
    return values, latents, offsets


def best_of(flat: Int[Tensor, " some"], scores: Float[Tensor, " some"], k: int, shape: torch.Size, proposals: Proposals) -> ops.Ragged:
    """The batch * k best of enough candidates, whose least is remembered."""
    best, place = scores.topk(k * shape[0], sorted=False)
    proposals.threshold = float(best.min())
    return ops.descending(flat[place], best, shape)


class Proposed(NamedTuple):
    """Latents that may be among the chosen, row by row, with their true scores; and the rows where too many may be."""

    rows: Int[Tensor, " nnz"]
    latents: Int[Tensor, " nnz"]
    scores: Float[Tensor, " nnz"]
    ends: Int[Tensor, " ends"]
    unproven: Int[Tensor, " some"]


def proposed(rounded: Rounded, most: int, least: Callable[[Tensor, Tensor], Float[Tensor, " rows"]]) -> Proposed:
    """Every latent that truly reaches `least` (of the rounded scores of some rows and their errors) of its row, and is positive.

    Rows where what is rounded may fall to less than half of that are left out, as unproven; so are those with more than `most`.
    """
    size, places, unproven = len(rounded.W), [], []
    for rows, scores in rounded.scores():
        error = rounded.error[rows]
        wanted = least(scores, error)
        floor = (wanted - error) / (1 + 2 * ROUND)  # what truly reaches `wanted` is at least this in bfloat16
        proven = floor > wanted / 2
        bar = (torch.where(proven, floor, torch.inf) * (1 - 2 * ROUND)).bfloat16()  # below it also when it is rounded up itself
        mask = scores > bar[:, None]
        place = true_places(mask)
        crowded = torch.bincount(place // size, minlength=len(mask)) > most
        if crowded.any():
            mask[crowded] = False
            proven, place = proven & ~crowded, true_places(mask)
        places.append(place + rows.start * size)
        unproven.append((~proven).nonzero()[:, 0] + rows.start)
    place = torch.cat(places)
    owner, latents = place // size, place % size
    ends = F.pad(torch.bincount(owner, minlength=len(rounded.x)).cumsum(0), (1, 0))
    return Proposed(owner, latents, rounded.exact(latents, ends), ends, torch.cat(unproven))


def true_places(mask: Bool[Tensor, "rows latents"]) -> Int[Tensor, " places"]:
    """The flat places of what is true, ascending: eight at a time, since little is, where eight fit."""
    if mask.numel() % 8:
        return mask.flatten().nonzero()[:, 0]
    some = mask.flatten().view(torch.int64).nonzero()[:, 0]
    which = mask.view(-1, 8)[some].nonzero()
    return some[which[:, 0]] * 8 + which[:, 1]
