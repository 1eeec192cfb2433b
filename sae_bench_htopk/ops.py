"""The maths that variants share: choosing latents, decoding codes, and the one loss of the TopK family, in plain torch.

Codes are ragged rows: values [nnz], latents [nnz] and offsets [ends], ends = batch + 1; row b owns the entries offsets[b]:offsets[b+1].
Nothing here is ever [batch, k, d], and no gradient is ever [batch, latents].
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

# The gradient of embedding_bag's weights is this very product. Private, so it may go: then gathered_dots takes over.
bag_dots = getattr(torch.ops.aten, "_embedding_bag_per_sample_weights_backward", None)

Ragged = tuple[Int[Tensor, " nnz"], Int[Tensor, " ends"]]


def owners(offsets: Int[Tensor, " ends"]) -> Int[Tensor, " nnz"]:
    """The row that each code belongs to."""
    lengths = offsets.diff()
    return torch.repeat_interleave(torch.arange(len(lengths), device=offsets.device), lengths)


def ranks_in_row(offsets: Int[Tensor, " ends"]) -> Int[Tensor, " nnz"]:
    """The place of each code in its row, from 0."""
    return torch.arange(int(offsets[-1]), device=offsets.device) - offsets[:-1].repeat_interleave(offsets.diff())


def last_prefix(offsets: Int[Tensor, " ends"]) -> tuple[Float[Tensor, " nnz"], Float[Tensor, " batch"]]:
    """Weight 1 on each row's last code, or on the empty prefix where a row has none: (per code, per row)."""
    weights = torch.zeros(int(offsets[-1]) + 1, device=offsets.device)
    empty = offsets.diff() == 0
    weights[offsets[1:][~empty] - 1] = 1.0
    return weights[:-1], empty.float()


def sort_by_latent(latents: Int[Tensor, " nnz"], offsets: Int[Tensor, " ends"], size: int) -> Int[Tensor, " nnz"]:
    """The latents of each row in ascending order."""
    return (owners(offsets) * size + latents).sort().values % size


def choose_per_row(scores: Float[Tensor, "batch latents"], k: int) -> Ragged:
    """The k largest positive scores of each row, descending; a row with fewer positive scores gives fewer."""
    values, latents = scores.topk(min(k, scores.shape[1]), dim=1, sorted=True)
    kept = values > 0
    offsets = F.pad(kept.sum(1).cumsum(0), (1, 0))
    return latents[kept], offsets


def choose_per_batch(scores: Float[Tensor, "batch latents"], k: int) -> Ragged:
    """The batch * k largest positive scores of the whole batch, descending within each row (BatchTopK, arXiv:2412.06410)."""
    flat = scores.flatten()
    wanted = min(k * len(scores), flat.numel())
    candidates = (flat > 0).nonzero()[:, 0]
    if len(candidates) > wanted:
        candidates = candidates[flat[candidates].topk(wanted, sorted=False).indices]
    return descending(candidates, flat[candidates], scores.shape)


def choose_above(scores: Float[Tensor, "batch latents"], threshold: float) -> Ragged:
    """Every score above the threshold (and above 0), descending within each row."""
    flat = scores.flatten()
    candidates = (flat > max(threshold, 0.0)).nonzero()[:, 0]
    return descending(candidates, flat[candidates], scores.shape)


def descending(flat: Int[Tensor, " nnz"], scores: Float[Tensor, " nnz"], shape: torch.Size) -> Ragged:
    """Flat positions in a [batch, latents] matrix as ragged rows, by descending score; ties by latent."""
    flat, order = flat.sort()
    order = scores[order].argsort(descending=True, stable=True)
    row = flat[order] // shape[1]
    order = order[row.argsort(stable=True)]
    counts = torch.bincount(row, minlength=shape[0])
    return flat[order] % shape[1], F.pad(counts.cumsum(0), (1, 0))


def decode(
    values: Float[Tensor, " nnz"], latents: Int[Tensor, " nnz"], offsets: Int[Tensor, " ends"], W_dec: Float[Tensor, "latents d"]
) -> Float[Tensor, "batch d"]:
    """sum of values_i * W_dec[latents_i] over each row; no bias."""
    if not len(latents):
        return W_dec.new_zeros(len(offsets) - 1, W_dec.shape[1])
    return F.embedding_bag(latents, W_dec, offsets, mode="sum", per_sample_weights=values, include_last_offset=True)


def dots(
    rows: Float[Tensor, "batch d"], table: Float[Tensor, "latents d"], latents: Int[Tensor, " nnz"], offsets: Int[Tensor, " ends"]
) -> Float[Tensor, " nnz"]:
    """rows[owner of i] . table[latents_i]: by torch's own kernel on a CPU, which gathers nothing, else by `gathered_dots`."""
    if bag_dots is not None and rows.device.type == "cpu" and len(latents):
        return bag_dots(rows.contiguous(), table.contiguous(), latents, offsets[:-1], owners(offsets), 0, -1)  # type: ignore[no-any-return]
    return gathered_dots(rows, table, latents, offsets)


def gathered_dots(
    rows: Float[Tensor, "batch d"], table: Float[Tensor, "latents d"], latents: Int[Tensor, " nnz"], offsets: Int[Tensor, " ends"]
) -> Float[Tensor, " nnz"]:
    """The same in public torch, in pieces that never gather more than 2^22 numbers."""
    owner, answer = owners(offsets), rows.new_empty(len(latents))
    piece = max(1, 2**22 // rows.shape[1])
    for start in range(0, len(latents), piece):
        part = slice(start, start + piece)
        answer[part] = torch.linalg.vecdot(rows.index_select(0, owner[part]), table.index_select(0, latents[part]))
    return answer


def scatter(
    weights: Float[Tensor, " nnz"], latents: Int[Tensor, " nnz"], offsets: Int[Tensor, " ends"], rows: Float[Tensor, "batch d"], size: int
) -> Float[Tensor, "size d"]:
    """For each latent the sum of weights_i * rows[owner of i] over its codes: `decode` with the roles of rows and latents exchanged."""
    order = latents.argsort(stable=True)
    ends = F.pad(torch.bincount(latents, minlength=size).cumsum(0), (1, 0))
    return decode(weights[order], owners(offsets)[order], ends, rows)


class Dots(torch.autograd.Function):
    """`dots` with the sparse gradients of both sides."""

    @staticmethod
    def forward(ctx, rows, table, latents, offsets):  # type: ignore[no-untyped-def]
        """The products at the chosen latents."""
        ctx.save_for_backward(rows, table, latents, offsets)
        return dots(rows, table, latents, offsets)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        """Gradients of rows and table from the codes alone."""
        rows, table, latents, offsets = ctx.saved_tensors
        d_rows = decode(gradient, latents, offsets, table) if ctx.needs_input_grad[0] else None
        d_table = scatter(gradient, latents, offsets, rows, len(table)) if ctx.needs_input_grad[1] else None
        return d_rows, d_table, None, None


def preactivations_at(
    centred: Float[Tensor, "batch d"],
    W_enc: Float[Tensor, "latents d"],
    b_enc: Float[Tensor, " latents"],
    latents: Int[Tensor, " nnz"],
    offsets: Int[Tensor, " ends"],
) -> Float[Tensor, " nnz"]:
    """W_enc[latent] . (x - b_dec) + b_enc[latent] at the chosen latents only, differentiable without a [batch, latents] gradient."""
    return Dots.apply(centred, W_enc, latents, offsets) + F.embedding(latents, b_enc[:, None])[:, 0]  # type: ignore[no-any-return, no-untyped-call]


class PrefixLoss(torch.autograd.Function):
    """The loss of `prefix_loss`; its gradients are made in the forward pass, since what comes from above is one number."""

    @staticmethod
    def forward(ctx, values, W_dec, b_dec, x, latents, offsets, omega, omega_0):  # type: ignore[no-untyped-def]
        """Two sweeps over the weighted prefixes: residuals down, their weighted suffix sums G up."""
        batch, owner = len(x), owners(offsets)
        places = by_level(level_of(omega, offsets))
        pieces = [(place, latents[place], owner[place]) for place in places]
        ends = [F.pad(torch.bincount(rows, minlength=batch).cumsum(0), (1, 0)) for _, _, rows in pieces]
        weights = [torch.zeros_like(omega_0).index_add_(0, rows, omega[place]) for place, _, rows in pieces]
        residual = x - b_dec
        loss = residual.square().sum(1) @ omega_0
        for (place, chosen, _), end, weight in zip(pieces, ends, weights, strict=True):
            residual -= decode(values[place], chosen, end, W_dec)
            loss = loss + residual.square().sum(1) @ weight
        x_hat, G = x - residual, torch.zeros_like(x)
        d_values, d_W = torch.zeros_like(values), torch.zeros_like(W_dec)
        for (place, chosen, rows), end, weight in zip(reversed(pieces), reversed(ends), reversed(weights), strict=True):
            G.addcmul_(residual, weight[:, None])
            d_values[place] = dots(G, W_dec, chosen, end) * (-2 / batch)
            add_rows(d_W, values[place] * (-2 / batch), chosen, rows, end, G)
            residual += decode(values[place], chosen, end, W_dec)
        d_b = (G + residual * omega_0[:, None]).sum(0) * (-2 / batch)
        ctx.save_for_backward(d_values, d_W, d_b)
        ctx.mark_non_differentiable(x_hat)
        return loss / batch, x_hat

    @staticmethod
    def backward(ctx, gradient, _):  # type: ignore[no-untyped-def]
        """Scales what the forward pass made."""
        d_values, d_W, d_b = ctx.saved_tensors
        return gradient * d_values, gradient * d_W, gradient * d_b, None, None, None, None, None


def level_of(omega: Float[Tensor, " nnz"], offsets: Int[Tensor, " ends"]) -> Int[Tensor, " nnz"]:
    """Which weighted prefix of its row first holds each code: the number of weighted codes before it."""
    weighted = (omega != 0).long()
    before = weighted.cumsum(0) - weighted
    first = F.pad(before, (0, 1))[offsets[:-1].clamp(max=max(len(omega) - 1, 0))] if len(omega) else offsets[:-1]
    return before - first.repeat_interleave(offsets.diff())


def by_level(level: Int[Tensor, " nnz"]) -> Sequence[Int[Tensor, " codes"]]:
    """The places of the codes of each level, in their order."""
    return level.argsort(stable=True).split(torch.bincount(level).tolist()) if len(level) else ()


def add_rows(
    total: Float[Tensor, "latents d"],
    weights: Float[Tensor, " codes"],
    latents: Int[Tensor, " codes"],
    rows: Int[Tensor, " codes"],
    ends: Int[Tensor, " ends"],
    G: Float[Tensor, "batch d"],
) -> None:
    """Adds weights_i * G[rows_i] to row latents_i of `total`, in place: by one sparse product if codes are many, else one by one."""
    if len(latents) >= len(total):
        total += scatter(weights, latents, ends, G, len(total))
    else:
        total.index_add_(0, latents, G.index_select(0, rows) * weights[:, None])


def pick(chosen: Bool[Tensor, " nnz"], latents: Int[Tensor, " nnz"], offsets: Int[Tensor, " ends"]) -> tuple[Tensor, Tensor, Tensor]:
    """The chosen codes as ragged rows of their own: (their places, their latents, their offsets)."""
    place = chosen.nonzero()[:, 0]
    return place, latents[place], F.pad(chosen.long().cumsum(0), (1, 0))[offsets]


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
    """Mean over the batch of sum_j omega_j ||r_j||^2, r_j = x - b_dec - the first j codes of the row; and the last x_hat.

    `omega` weighs the prefix that ends with each code, `omega_0` the empty prefix of each row. Every loss of the TopK family
    is a choice of omega. Time and memory are O(d) per code and O(d) per row. x_hat carries no gradient.
    """
    return PrefixLoss.apply(values, W_dec, b_dec, x, latents, offsets, omega, omega_0)  # type: ignore[no-any-return, no-untyped-call]


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
