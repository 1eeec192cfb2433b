"""Bits per character of a language model on held-out files, beside xz and a 5-gram model over the same tokens."""

import lzma
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from sae_bench_htopk.text import Document


@torch.no_grad()
def bits(model: PreTrainedModel, encoded: np.ndarray, context: int, fresh: int) -> float:
    """Total bits of one document's tokens, each told once, in windows of `context` tokens that open with BOS and move by `fresh` tokens.

    The other tokens of a window are there to be read, not told: fresh = context - 1 lays the windows side by side.
    """
    width, total, pad = context - 1, 0.0, model.config.pad_token_id
    tokens = torch.from_numpy(encoded.astype(np.int64))
    moves = -(-max(len(tokens) - width, 0) // fresh)
    windows = F.pad(tokens, (0, width + moves * fresh - len(tokens)), value=pad).unfold(0, width, fresh)
    told = windows.clone()
    told[1:, : width - fresh] = pad
    inputs = F.pad(windows, (1, 0), value=model.config.bos_token_id)
    for part, target in zip(inputs.split(32), told.split(32), strict=True):
        logits = model(input_ids=part, use_cache=False).logits[:, :-1].float()
        total += F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=pad, reduction="sum").item()
    return total / math.log(2)


def five_gram_bits(train: Sequence[np.ndarray], held_out: Sequence[np.ndarray], vocabulary: int) -> list[float]:
    """Total bits of each held-out document under a token 5-gram model with Witten-Bell smoothing, counted on `train`."""
    counts: list[defaultdict[tuple[int, ...], Counter[int]]] = [defaultdict(Counter) for _ in range(5)]
    for document in train:
        tokens = document.tolist()
        for place, token in enumerate(tokens):
            for order in range(min(5, place + 1)):
                counts[order][tuple(tokens[place - order : place])][token] += 1
    totals = [{history: (sum(after.values()), len(after)) for history, after in level.items()} for level in counts]
    answer = []
    for document in held_out:
        tokens, total = document.tolist(), 0.0
        for place, token in enumerate(tokens):
            probability = 1 / vocabulary
            for order in range(min(5, place + 1)):
                history = tuple(tokens[place - order : place])
                if history in totals[order]:
                    seen, kinds = totals[order][history]
                    probability = (counts[order][history][token] + kinds * probability) / (seen + kinds)
            total -= math.log2(probability)
        answer.append(total)
    return answer


def compare(
    model: PreTrainedModel, train: Sequence[np.ndarray], documents: Sequence[Document], held_out: Sequence[np.ndarray], vocabulary: int, context: int
) -> list[Mapping[str, object]]:
    """Bits per character on held-out files beside xz and a 5-gram model: one row per distribution, the last for all."""
    sliding, apart = ([bits(model, tokens, context, fresh) for tokens in held_out] for fresh in (context // 4, context - 1))
    theirs = five_gram_bits(train, held_out, vocabulary)
    rows: list[Mapping[str, object]] = []
    for origin in [*sorted({document.origin for document in documents}), "all"]:
        picked = [index for index, document in enumerate(documents) if origin in (document.origin, "all")]
        text = "".join(documents[index].text for index in picked)
        packed = 8 * len(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
        rows.append({
            "distribution": origin, "files": len(picked), "characters": len(text),
            "model": sum(sliding[index] for index in picked) / len(text),
            "side by side": sum(apart[index] for index in picked) / len(text),
            "5-gram": sum(theirs[index] for index in picked) / len(text),
            "xz": packed / len(text),
        })  # fmt: skip
    return rows
