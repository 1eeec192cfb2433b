"""The maths that variants share: choosing latents, decoding codes, and products at chosen latents only, in plain torch.

Codes are ragged rows: values [nnz], latents [nnz] and offsets [ends], ends = batch + 1; row b owns the entries offsets[b]:offsets[b+1].
Nothing here is ever [batch, k, d], and no gradient is [batch, latents] where the latents are chosen ones.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

# The gradient of embedding_bag's weights is this very product. Private, so it may go: then gathered_dots takes over.
bag_dots = getattr(torch.ops.aten, "_embedding_bag_per_sample_weights_backward", None)

GATHERED = 2**22  # numbers of one gathered tensor

Ragged = tuple[Float[Tensor, " nnz"], Int[Tensor, " nnz"], Int[Tensor, " ends"]]  # scores, latents, offsets


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


def sort_by_latent(values: Float[Tensor, " nnz"], latents: Int[Tensor, " nnz"], offsets: Int[Tensor, " ends"], size: int) -> Ragged:
    """The codes of each row by latent, ascending."""
    flat, order = (owners(offsets) * size + latents).sort()
    return values[order], flat % size, offsets


def choose_per_row(scores: Float[Tensor, "batch latents"], k: int) -> Ragged:
    """The k largest positive scores of each row, descending; a row with fewer positive scores gives fewer."""
    values, latents = scores.topk(min(k, scores.shape[1]), dim=1, sorted=True)
    kept = values > 0
    return values[kept], latents[kept], F.pad(kept.sum(1).cumsum(0), (1, 0))


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
    flat, by_place = flat.sort()
    order = scores[by_place].argsort(descending=True, stable=True)
    row = flat[order] // shape[1]
    order = order[row.argsort(stable=True)]
    counts = torch.bincount(row, minlength=shape[0])
    return scores[by_place[order]], flat[order] % shape[1], F.pad(counts.cumsum(0), (1, 0))


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
    """rows[owner of i] . table[latents_i]: by torch's own kernel on a CPU, which gathers nothing, else by `gathered_dots`.

    Where codes are many they are taken latent by latent, so that each row of the large table comes into cache once.
    """
    if bag_dots is None or rows.device.type != "cpu" or not len(latents):
        return gathered_dots(rows, table, latents, offsets)
    rows, table, owner = rows.contiguous(), table.contiguous(), owners(offsets)
    if len(latents) < len(table):
        return bag_dots(rows, table, latents, offsets[:-1], owner, 0, -1)  # type: ignore[no-any-return]
    order = latents.int().argsort(stable=True)
    products = bag_dots(table, rows, owner[order], offsets[:-1], latents[order], 0, -1)
    return torch.empty_like(products).index_copy_(0, order, products)


def gathered_dots(
    rows: Float[Tensor, "batch d"], table: Float[Tensor, "latents d"], latents: Int[Tensor, " nnz"], offsets: Int[Tensor, " ends"]
) -> Float[Tensor, " nnz"]:
    """The same in public torch, in pieces."""
    owner, answer = owners(offsets), rows.new_empty(len(latents))
    for part in pieces(len(latents), rows.shape[1]):
        answer[part] = torch.linalg.vecdot(rows.index_select(0, owner[part]), table.index_select(0, latents[part]))
    return answer


def pieces(codes: int, d: int) -> Iterator[slice]:
    """Cuts codes so that a row of d numbers for each makes no tensor larger than that."""
    size = max(1, GATHERED // d)
    return (slice(start, start + size) for start in range(0, codes, size))


def scatter(
    weights: Float[Tensor, " nnz"], latents: Int[Tensor, " nnz"], offsets: Int[Tensor, " ends"], rows: Float[Tensor, "batch d"], size: int
) -> Float[Tensor, "size d"]:
    """For each latent the sum of weights_i * rows[owner of i] over its codes: `decode` with the roles of rows and latents exchanged."""
    order = latents.int().argsort(stable=True)  # int32 sorts in two thirds of the time
    ends = F.pad(torch.bincount(latents, minlength=size).cumsum(0), (1, 0))
    return decode(weights[order], owners(offsets)[order], ends, rows)


class Preactivations(torch.autograd.Function):
    """`preactivations` with its gradients; that of b_dec from sums over the batch, without a [batch, d] product."""

    @staticmethod
    def forward(ctx, x, b_dec, W_enc, b_enc):  # type: ignore[no-untyped-def]
        """One dense product."""
        centred = x - b_dec
        ctx.save_for_backward(centred, W_enc)
        return torch.addmm(b_enc, centred, W_enc.T)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        """As in `PreactivationsAt`; x is data as a rule, and then no product is made for it."""
        centred, W_enc = ctx.saved_tensors
        d_b_enc = gradient.sum(0)
        d_x = gradient @ W_enc if ctx.needs_input_grad[0] else None
        return d_x, -(d_b_enc @ W_enc), gradient.T @ centred, d_b_enc


def preactivations(
    x: Float[Tensor, "batch d"], b_dec: Float[Tensor, " d"], W_enc: Float[Tensor, "latents d"], b_enc: Float[Tensor, " latents"]
) -> Float[Tensor, "batch latents"]:
    """W_enc (x - b_dec) + b_enc."""
    return Preactivations.apply(x, b_dec, W_enc, b_enc)  # type: ignore[no-any-return, no-untyped-call]


class PreactivationsAt(torch.autograd.Function):
    """`preactivations_at` with sparse gradients: of the encoder by one sparse product, of both biases from sums over the batch."""

    @staticmethod
    def forward(ctx, x, b_dec, W_enc, b_enc, latents, offsets, known):  # type: ignore[no-untyped-def]
        """The pre-activations of the chosen latents, computed unless they are known."""
        centred = x - b_dec
        ctx.save_for_backward(centred, W_enc, latents, offsets)
        return dots(centred, W_enc, latents, offsets) + b_enc.index_select(0, latents) if known is None else known.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        """b_dec enters every pre-activation by way of the encoder's rows, so its gradient is the encoder's bias' times these."""
        centred, W_enc, latents, offsets = ctx.saved_tensors
        d_b_enc = torch.zeros_like(W_enc[:, 0]).index_add_(0, latents, gradient)
        return None, -(d_b_enc @ W_enc), scatter(gradient, latents, offsets, centred, len(W_enc)), d_b_enc, None, None, None


def preactivations_at(
    x: Float[Tensor, "batch d"],
    b_dec: Float[Tensor, " d"],
    W_enc: Float[Tensor, "latents d"],
    b_enc: Float[Tensor, " latents"],
    latents: Int[Tensor, " nnz"],
    offsets: Int[Tensor, " ends"],
    known: Float[Tensor, " nnz"] | None = None,
) -> Float[Tensor, " nnz"]:
    """W_enc[latent] . (x - b_dec) + b_enc[latent] at the chosen latents only, without a [batch, latents] gradient; x gets none.

    `known` are these numbers themselves, where choosing has made them.
    """
    return PreactivationsAt.apply(x, b_dec, W_enc, b_enc, latents, offsets, known)  # type: ignore[no-any-return, no-untyped-call]


def pick(chosen: Bool[Tensor, " nnz"], latents: Int[Tensor, " nnz"], offsets: Int[Tensor, " ends"]) -> tuple[Tensor, Tensor, Tensor]:
    """The chosen codes as ragged rows of their own: (their places, their latents, their offsets)."""
    place = chosen.nonzero()[:, 0]
    return place, latents[place], F.pad(chosen.long().cumsum(0), (1, 0))[offsets]
