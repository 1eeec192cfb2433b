"""Trains the small language model that comes with the package: a Gemma-2 of 3 million parameters on Python source.

    python -m sae_bench_htopk pretrain --out sae_bench_htopk/assets/pycode_gemma2
"""

import lzma
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast

from sae_bench_htopk.text import Document, Installed, fingerprint, part_documents

SPECIAL = ("<pad>", "<eos>", "<bos>")
PAD, EOS, BOS = range(3)


@dataclass(frozen=True)
class Recipe:
    """How the embedded model is trained; the defaults made the committed weights."""

    tokens: int = 18_000_000
    vocabulary: int = 4096
    context: int = 256
    hidden: int = 192
    layers: int = 6
    heads: int = 3
    mlp: int = 576
    batch: int = 16  # windows of `context` tokens
    matrix_rate: float = 6e-3  # Muon, its updates scaled to the size of AdamW's; better than AdamW in a trial of 0.8M tokens
    vector_rate: float = 4e-3  # AdamW: embeddings and norms
    decay: float = 0.1  # of the matrices
    warm_up: int = 100  # steps; then a straight line to zero
    seed: int = 0


def train_tokenizer(documents: Sequence[Document], size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of `size` tokens, with <pad>, <eos> and <bos> as 0, 1 and 2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((document.text for document in documents), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=SPECIAL[PAD], eos_token=SPECIAL[EOS], bos_token=SPECIAL[BOS])


def build_model(recipe: Recipe) -> Gemma2ForCausalLM:
    """A Gemma-2 with random weights from the recipe's seed; soft-capping needs eager attention."""
    torch.manual_seed(recipe.seed)
    config = Gemma2Config(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.mlp,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=1,
        head_dim=recipe.hidden // recipe.heads,
        query_pre_attn_scalar=recipe.hidden // recipe.heads,
        max_position_embeddings=recipe.context,
        sliding_window=recipe.context // 2,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=BOS,
        attn_implementation="eager",
    )
    return Gemma2ForCausalLM(config)


def training_windows(encoded: Sequence[np.ndarray], recipe: Recipe) -> Iterator[Tensor]:
    """Yields batches of token windows [batch, context], every window opened by BOS, documents in a new order each epoch."""
    random = np.random.default_rng(recipe.seed)
    width = recipe.context - 1
    while True:
        joined = np.concatenate([np.concatenate(([BOS], encoded[index])) for index in random.permutation(len(encoded))])
        joined = joined[random.integers(width) :]
        windows = joined[: len(joined) // width * width].reshape(-1, width)
        windows = np.pad(windows, ((0, 0), (1, 0)), constant_values=BOS)[random.permutation(len(windows))]
        for start in range(0, len(windows) - recipe.batch + 1, recipe.batch):
            yield torch.from_numpy(windows[start : start + recipe.batch].astype(np.int64))


def next_token_loss(model: torch.nn.Module, windows: Tensor) -> Tensor:
    """Mean cross-entropy in nats of every token after the first, under bf16 autocast."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=windows, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), windows[:, 1:].flatten(), ignore_index=PAD)


def optimize(model: Gemma2ForCausalLM, batches: Iterator[Tensor], recipe: Recipe, compiled: bool, say: Callable[[str], None]) -> None:
    """Trains in place: Muon on the matrices of the layers, AdamW on the rest, one linear decay to zero."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=recipe.matrix_rate, weight_decay=recipe.decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=recipe.vector_rate, weight_decay=0.0, betas=(0.9, 0.98), fused=True),
    ]
    steps = math.ceil(recipe.tokens / (recipe.batch * recipe.context))
    shape = [lambda step: min((step + 1) / recipe.warm_up, (steps - step) / steps)] * 2
    schedules = [torch.optim.lr_scheduler.LambdaLR(*pair) for pair in zip(optimizers, shape, strict=True)]
    forward = torch.compile(model) if compiled else model
    running, clock = 0.0, time.monotonic()
    for step in range(steps):
        loss = next_token_loss(forward, next(batches))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 49 or step == steps - 1:
            seen = (step + 1) * recipe.batch * recipe.context
            say(f"{seen / 1e6:.2f}M tokens, loss {running:.3f} nats a token, {seen / (time.monotonic() - clock):,.0f} tokens/s")


@torch.no_grad()
def bits(model: Gemma2ForCausalLM, encoded: np.ndarray, context: int) -> float:
    """Total bits of one document's tokens, in separate windows that each open with BOS and share no context."""
    width, total = context - 1, 0.0
    padded = np.pad(encoded.astype(np.int64), (0, -len(encoded) % width), constant_values=PAD).reshape(-1, width)
    windows = torch.from_numpy(np.pad(padded, ((0, 0), (1, 0)), constant_values=BOS))
    for part in windows.split(32):
        logits = model(input_ids=part, use_cache=False).logits[:, :-1].float()
        total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), ignore_index=PAD, reduction="sum").item()
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


def compare(model: Gemma2ForCausalLM, train: Sequence[np.ndarray], documents: Sequence[Document], held_out: Sequence[np.ndarray], recipe: Recipe) -> list[Mapping[str, object]]:
    """Bits per character on held-out files beside xz and a 5-gram model: one row per distribution, the last for all."""
    ours = [bits(model, tokens, recipe.context) for tokens in held_out]
    theirs = five_gram_bits(train, held_out, recipe.vocabulary)
    rows: list[Mapping[str, object]] = []
    for origin in [*sorted({document.origin for document in documents}), "all"]:
        picked = [index for index, document in enumerate(documents) if origin in (document.origin, "all")]
        text = "".join(documents[index].text for index in picked)
        packed = 8 * len(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
        rows.append({
            "distribution": origin, "files": len(picked), "characters": len(text),
            "model": sum(ours[index] for index in picked) / len(text),
            "5-gram": sum(theirs[index] for index in picked) / len(text),
            "xz": packed / len(text),
        })  # fmt: skip
    return rows


def pretrain(source: Installed, out: Path, recipe: Recipe, compiled: bool, say: Callable[[str], None]) -> list[Mapping[str, object]]:
    """Trains tokenizer and model on the training part, writes both to `out`, and returns the table of bits per character."""
    train, held_out = list(part_documents(source, "train")), list(part_documents(source, "held_out"))
    tokenizer = train_tokenizer(train, recipe.vocabulary)
    encode = lambda documents: [np.array(ids, dtype=np.int32) for ids in tokenizer([d.text for d in documents], add_special_tokens=False)["input_ids"]]  # noqa: E731
    encoded = encode(train)
    say(f"{len(train)} files, {sum(map(len, encoded)):,} tokens to train on, text {fingerprint(train)}")
    model = build_model(recipe)
    optimize(model, training_windows(encoded, recipe), recipe, compiled, say)
    model = model.to(torch.bfloat16)
    model.config.pycode = {"recipe": asdict(recipe), "text": fingerprint(train), "distributions": dict(source.distributions)}
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return compare(model.float().eval(), encoded, held_out, encode(held_out), recipe)
