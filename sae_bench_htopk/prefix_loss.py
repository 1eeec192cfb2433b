"""The one loss of the TopK family: a weighted sum of the errors that the prefixes of each row's codes leave, with its gradients.

With r_j = x - b_dec - the first j codes, the loss is sum_j omega_j ||r_j||^2 (HierarchicalTopK, arXiv:2505.24473, weighs all alike;
TopK the last alone). Its gradients for code i come from G_i = sum of omega_j r_j over j >= i: two sweeps over the codes, down with r,
up with r and G, in O(d) time for each code and O(d) memory for each row. Codes between two weighted prefixes go together: a level.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from sae_bench_htopk import ops

CACHED = 2**19  # numbers of r that stay in cache while many levels are swept


def prefix_loss(
    values: Float[Tensor, " nnz"],
    latents: Int[Tensor, " nnz"],
    offsets: Int[Tensor, " ends"],
    W_dec: Float[Tensor, "latents d"],
    b_dec: Float[Tensor, " d"],
    x: Float[Tensor, "batch d"],
    omega: Float[Tensor, " nnz"],
    omega_0: Float[Tensor, " batch"],
) -> tuple[Float[Tensor, ""], Float[Tensor, "batch d"]]:
    """Mean over the batch of sum_j omega_j ||r_j||^2, and the last x_hat, which carries no gradient.

    `omega` weighs the prefix that ends with each code, `omega_0` the empty prefix of each row. x and the weights get no gradient.
    """
    return PrefixLoss.apply(values, W_dec, b_dec, x, latents, offsets, omega, omega_0)  # type: ignore[no-any-return, no-untyped-call]


class PrefixLoss(torch.autograd.Function):
    """Down in the forward pass, up in the backward pass."""

    @staticmethod
    def forward(ctx, values, W_dec, b_dec, x, latents, offsets, omega, omega_0):  # type: ignore[no-untyped-def]
        """What each level of codes leaves over."""
        residual = x - b_dec
        ctx.empty = bool(omega_0.any())
        loss = residual.square().sum(1) @ omega_0 if ctx.empty else x.new_zeros(())
        ctx.parts = list(parts_of(latents, offsets, omega, x.shape[1]))
        for part in ctx.parts:
            left = residual[part.rows]
            for level in part.levels:
                add_codes(left, values[part.codes][level.place], level, W_dec, -1, W_dec.index_select(0, level.latents) if level.single else None)
                loss = loss + torch.linalg.vecdot(left, left) @ level.weight
        ctx.save_for_backward(values, W_dec, residual, omega_0)
        ctx.mark_non_differentiable(x_hat := x - residual)
        return loss / len(x), x_hat

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, _):  # type: ignore[no-untyped-def]
        """Each code's gradients from G at its level."""
        values, W_dec, residual, omega_0 = ctx.saved_tensors
        scale = gradient * (-2 / len(residual))
        d_values, d_W, d_b = torch.zeros_like(values), None, torch.zeros_like(W_dec[0])
        for part in ctx.parts:
            left = residual[part.rows].clone()
            G = torch.zeros_like(left)
            for number, level in reversed(list(enumerate(part.levels))):
                G.addcmul_(left, level.weight[:, None])
                own = values[part.codes][level.place]
                chosen = W_dec.index_select(0, level.latents) if level.single else None
                d_values[part.codes][level.place] = products(G, W_dec, level, chosen) * scale
                d_W = add_rows(d_W, own * scale, level, G, len(W_dec))
                if number or ctx.empty:
                    add_codes(left, own, level, W_dec, 1, chosen)
            if ctx.empty:
                G.addcmul_(left, omega_0[part.rows, None])
            d_b += G.sum(0)
        return d_values, torch.zeros_like(W_dec) if d_W is None else d_W, d_b * scale, None, None, None, None, None


class Level(NamedTuple):
    """The codes between one weighted prefix and the next, of all rows of a part."""

    place: Int[Tensor, " codes"] | slice  # among the part's codes; a slice if it is all of them
    latents: Int[Tensor, " codes"]
    rows: Int[Tensor, " codes"]
    ends: Int[Tensor, " ends"]
    weight: Float[Tensor, " rows"]  # of the prefix that ends with them; 0 where a row has none there
    single: bool  # each row has one code


class Part(NamedTuple):
    """Rows that are swept together, and their codes by level, the first one first."""

    rows: slice
    codes: slice
    levels: list[Level]


def parts_of(latents: Int[Tensor, " nnz"], offsets: Int[Tensor, " ends"], omega: Float[Tensor, " nnz"], d: int) -> list[Part]:
    """All rows at once where levels are few, else as many as stay in cache."""
    batch, level, found = len(offsets) - 1, level_of(omega, offsets), []
    few = len(latents) >= 4 * batch * (int(level.max()) + 1 if len(level) else 1)
    size = max(batch if few else CACHED // d, 1)
    for start in range(0, batch, size):
        rows = slice(start, min(start + size, batch))
        ends = offsets[rows.start : rows.stop + 1]
        codes = slice(int(ends[0]), int(ends[-1]))
        found.append(Part(rows, codes, levels_of(latents[codes], ends - ends[0], omega[codes], level[codes])))
    return found


def levels_of(latents: Int[Tensor, " nnz"], offsets: Int[Tensor, " ends"], omega: Float[Tensor, " nnz"], level: Int[Tensor, " nnz"]) -> list[Level]:
    """Codes by their level."""
    batch, owner, found = len(offsets) - 1, ops.owners(offsets), []
    if len(level) and not int(level.max()):
        weight = omega.new_zeros(batch).index_add_(0, owner, omega)
        return [Level(slice(None), latents, owner, offsets, weight, bool((offsets.diff() == 1).all()))]
    for place in level.argsort(stable=True).split(torch.bincount(level).tolist()) if len(level) else ():
        rows = owner[place]
        counts = torch.bincount(rows, minlength=batch)
        weight = omega.new_zeros(batch).index_add_(0, rows, omega[place])
        found.append(Level(place, latents[place], rows, F.pad(counts.cumsum(0), (1, 0)), weight, bool((counts == 1).all())))
    return found


def level_of(omega: Float[Tensor, " nnz"], offsets: Int[Tensor, " ends"]) -> Int[Tensor, " nnz"]:
    """Which weighted prefix of its row first holds each code: the number of weighted codes before it."""
    weighted = (omega != 0).long()
    before = weighted.cumsum(0) - weighted
    first = F.pad(before, (0, 1))[offsets[:-1].clamp(max=max(len(omega) - 1, 0))] if len(omega) else offsets[:-1]
    return before - first.repeat_interleave(offsets.diff())


def add_codes(left: Tensor, values: Tensor, level: Level, W_dec: Tensor, sign: int, chosen: Tensor | None) -> None:
    """Adds the level's codes to each row of `left`, in place, or takes them away; `chosen` are their decoder rows where they are single."""
    if chosen is not None:
        left.addcmul_(chosen, values[:, None], value=sign)
    else:
        left.add_(ops.decode(values, level.latents, level.ends, W_dec), alpha=sign)


def products(rows: Tensor, W_dec: Tensor, level: Level, chosen: Tensor | None) -> Float[Tensor, " codes"]:
    """Each code's decoder row times its row of `rows`."""
    return ops.dots(rows, W_dec, level.latents, level.ends) if chosen is None else torch.linalg.vecdot(chosen, rows)


def add_rows(
    total: Float[Tensor, "latents d"] | None, weights: Float[Tensor, " codes"], level: Level, G: Float[Tensor, "rows d"], size: int
) -> Float[Tensor, "latents d"]:
    """Adds weights_i * G[rows_i] to row latents_i of `total` (None: of zeros): by one sparse product if codes are many, else one by one."""
    if len(weights) >= size:
        more = ops.scatter(weights, level.latents, level.ends, G, size)
        return more if total is None else total.add_(more)
    total = G.new_zeros(size, G.shape[1]) if total is None else total
    if level.single:
        return total.index_add_(0, level.latents, G * weights[:, None])
    for part in ops.pieces(len(weights), G.shape[1]):
        total.index_add_(0, level.latents[part], G.index_select(0, level.rows[part]) * weights[part, None])
    return total


def prefix_errors(
    values: Float[Tensor, " nnz"],
    latents: Int[Tensor, " nnz"],
    offsets: Int[Tensor, " ends"],
    W_dec: Float[Tensor, "latents d"],
    b_dec: Float[Tensor, " d"],
    x: Float[Tensor, "batch d"],
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " nnz"]]:
    """(||r_0||^2 of each row, ||r_j||^2 after each code), without gradients: what a row's error is at every k, in one sweep."""
    residual, after, lengths = x - b_dec, torch.empty_like(values), offsets.diff()
    before = torch.linalg.vecdot(residual, residual)
    size = max(CACHED // x.shape[1], 1) if x.device.type == "cpu" else max(len(x), 1)
    for rows in lengths.argsort(descending=True, stable=True).split(size):  # longest first: those that have a j-th code are always the first few
        left, start = residual[rows], offsets[rows]
        for code, longer in enumerate(lengths[rows].bincount().flip(0).cumsum(0).flip(0)[1:].tolist()):
            place, here = start[:longer] + code, left[:longer]
            here.addcmul_(W_dec.index_select(0, latents[place]), values[place, None], value=-1)
            after[place] = torch.linalg.vector_norm(here, dim=1).square()
    return before, after


def prefix_loss_reference(
    values: Float[Tensor, " nnz"],
    latents: Int[Tensor, " nnz"],
    offsets: Int[Tensor, " ends"],
    W_dec: Float[Tensor, "latents d"],
    b_dec: Float[Tensor, " d"],
    x: Float[Tensor, "batch d"],
    omega: Float[Tensor, " nnz"],
    omega_0: Float[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """The same loss as it stands in the papers, one row and one prefix at a time under plain autograd: the oracle of tests."""
    total = x.new_zeros(())
    for row in range(len(x)):
        residual = x[row] - b_dec
        total = total + omega_0[row] * residual.square().sum()
        for code in range(int(offsets[row]), int(offsets[row + 1])):
            residual = residual - values[code] * W_dec[latents[code]]
            total = total + omega[code] * residual.square().sum()
    return total / len(x)
