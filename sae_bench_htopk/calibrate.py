"""Finds what reading an SAE needs beyond its weights: thresholds that give k codes on average, and ranks of its latents."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_bench_htopk.contract import Calibration, Codes, Rank, Reading, Selector, Variant

CHUNK = 2048  # rows at a time: their scores, [chunk, latents], are the largest tensor made
SHIFT = 12  # a positive float's upper 20 bits are its bin: 2048 bins from each power of two to the next
BINS = 2**31 >> SHIFT


def calibrate(variant: Variant, readings: Sequence[Reading], x: Float[Tensor, "rows d"], native: Selector, budget: int | None, seed: int = 0) -> None:
    """Sets `variant.calibration` for these readings, from calibration activations in scaled units; scores are never kept.

    A `budget` of None is measured: the mean number of positive scores.

    With cut="after" the threshold is that of the whole dictionary, so fewer than k codes are left: one found among the kept
    latents alone would make the reading the same as with cut="before".
    """
    every = score_histogram(variant, x, None) if budget is None else None
    budget = max(1, round(int(every.sum()) / len(x))) if every is not None else budget
    assert budget is not None
    variant.calibration = Calibration(budget=budget)
    whole = [reading for reading in readings if reading.select == "threshold" and (reading.latents is None or reading.cut == "after")]
    at_home = Reading(budget, select=native)
    if native == "threshold":
        whole = [*whole, at_home]
    if whole:
        histogram = score_histogram(variant, x, None) if every is None else every
        for reading in whole:
            keep(variant, reading, histogram, len(x))
    variant.calibration.use = usage(variant, x, at_home)
    for rank in sorted({"importance", *(reading.rank for reading in readings if reading.latents is not None)}):  # metrics ask for shells of any SAE
        variant.calibration.order[rank] = order_of(variant, rank, seed)
    inside = [reading for reading in readings if reading.select == "threshold" and reading.latents is not None and reading.cut == "before"]
    for latents, rank in sorted({(reading.latents or 0, reading.rank) for reading in inside}):
        histogram = score_histogram(variant, x, variant.kept(Reading(1, latents, rank=rank)))
        for reading in inside:
            if (reading.latents, reading.rank) == (latents, rank):
                keep(variant, reading, histogram, len(x))


@torch.no_grad()
def score_histogram(variant: Variant, x: Float[Tensor, "rows d"], latents: Int[Tensor, " kept"] | None) -> Int[Tensor, " bins"]:
    """How many scores of all rows fall into each bin of their upper bits; scores of 0 and below are left out."""
    histogram = torch.zeros(BINS, dtype=torch.long, device=x.device)
    for part in x.split(CHUNK):
        scores = variant.scores(part, latents).float()
        histogram += torch.bincount(scores[scores > 0].view(torch.int32) >> SHIFT, minlength=BINS)
    return histogram


def keep(variant: Variant, reading: Reading, histogram: Int[Tensor, " bins"], rows: int) -> None:
    """The reading's threshold, and those of every budget below its own."""
    ladder = thresholds_for(histogram, torch.arange(1, reading.k + 1, device=histogram.device) * rows)
    variant.calibration.ladders[reading] = ladder
    variant.calibration.thresholds[reading] = float(ladder[-1])


def thresholds_for(histogram: Int[Tensor, " bins"], wanted: Int[Tensor, " k"]) -> Float[Tensor, " k"]:
    """For each number the score above which so many scores lie, to one part in 2048; 0 if there are fewer."""
    above = histogram.flip(0).cumsum(0)  # scores in the highest bin, in it or the next, ...
    place = torch.searchsorted(above, wanted)  # the first of which there are enough
    low = (BINS - 1 - place).clamp_min(0)
    here = histogram[low]
    share = 1 - (wanted - (above[place.clamp_max(BINS - 1)] - here)) / here.clamp_min(1)
    ends = [(bins.int() << SHIFT).view(torch.float32) for bins in (low, low + 1)]
    return torch.where(place < BINS, ends[0] + share * (ends[1] - ends[0]), 0.0)


def order_of(variant: Variant, rank: Rank, seed: int) -> Int[Tensor, " latents"]:
    """Latents by rank, the first to be kept first. Inner shells come before outer ones, but for the random order, which is the null."""
    size = len(variant.W_enc)
    if rank == "random":
        return torch.randperm(size, generator=torch.Generator().manual_seed(seed)).to(variant.W_enc.device)
    key = spectrum(variant) if rank == "spectrum" else variant.calibration.use[rank]
    order = key.argsort(descending=True, stable=True)
    return order[variant.shells().to(order.device)[order].argsort(stable=True)]


@torch.no_grad()
def spectrum(variant: Variant) -> Float[Tensor, " latents"]:
    """w C w for each decoder row w, C the mean of w w^T: how much of the decoder's spectrum a latent's direction carries. Ours."""
    W = variant.W_dec.double()
    return (W @ (W.T @ W) * W).sum(1) / len(W)


def usage(variant: Variant, x: Float[Tensor, "rows d"], at_home: Reading) -> dict[Rank, Float[Tensor, " latents"]]:
    """Means over rows of (a ||w||)^2, and of firing, as the SAE is read at its trained k (arXiv:2505.00190 ranks by both)."""
    worth, fired = torch.zeros(2, len(variant.W_enc), dtype=torch.float64, device=x.device)
    norms = variant.W_dec.detach().norm(dim=1)
    for part in codes_of(variant, x, at_home):
        worth.index_add_(0, part.latents, (part.values * norms[part.latents]).double().square())
        fired.index_add_(0, part.latents, torch.ones_like(part.values, dtype=torch.float64))
    return {"importance": worth / len(x), "frequency": fired / len(x)}


def codes_of(variant: Variant, x: Float[Tensor, "rows d"], reading: Reading) -> Iterator[Codes]:
    """Yields the codes of a reading, chunk by chunk."""
    for part in x.split(CHUNK):
        yield variant.encode(part, reading)
