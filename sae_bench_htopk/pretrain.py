"""Trains the small language model that comes with the package: a Gemma-2 of 5 million parameters on Python source.

python -m sae_bench_htopk pretrain --out sae_bench_htopk/assets/pycode_gemma2
"""

import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast

from sae_bench_htopk.bits import compare
from sae_bench_htopk.card import card
from sae_bench_htopk.split import fingerprint, part_documents
from sae_bench_htopk.text import Document, Installed

SPECIAL = ("<pad>", "<eos>", "<bos>")
PAD, EOS, BOS = range(3)


@dataclass(frozen=True)
class Recipe:
    """How the embedded model is trained; the defaults made the committed weights."""

    tokens: int = 25_000_000
    vocabulary: int = 4096
    context: int = 256
    hidden: int = 192
    layers: int = 8
    heads: int = 2
    mlp: int = 768
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
    wrap: Any = PreTrainedTokenizerFast  # transformers leaves it untyped
    return wrap(tokenizer_object=tokenizer, pad_token=SPECIAL[PAD], eos_token=SPECIAL[EOS], bos_token=SPECIAL[BOS])  # type: ignore[no-any-return]


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
        attn_implementation="eager",  # type: ignore[call-arg]
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


def next_token_loss(model: Gemma2ForCausalLM, windows: Tensor) -> Tensor:
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
    loss_of = torch.compile(next_token_loss) if compiled else next_token_loss
    running, clock = 0.0, time.monotonic()
    for step in range(steps):
        loss = loss_of(model, next(batches))
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


def pretrain(source: Installed, out: Path, recipe: Recipe, compiled: bool, say: Callable[[str], None]) -> str:
    """Trains tokenizer and model on the training part, writes both and their card to `out`, and returns the card."""
    train, held_out = list(part_documents(source, "train")), list(part_documents(source, "held_out"))
    tokenizer = train_tokenizer(train, recipe.vocabulary)

    def encode(documents: Sequence[Document]) -> list[np.ndarray]:
        texts = [document.text for document in documents]
        coded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)  # a "<bos>" that a file quotes is text
        return [np.array(ids, dtype=np.int32) for ids in coded["input_ids"]]

    encoded = encode(train)
    say(f"{len(train)} files, {sum(map(len, encoded)):,} tokens to train on, text {fingerprint(train)}")
    model = build_model(recipe)
    clock = time.monotonic()
    optimize(model, training_windows(encoded, recipe), recipe, compiled, say)
    machine = f"It took {(time.monotonic() - clock) / 60:.0f} minutes on {os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}"
    model.bfloat16()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    rows = compare(model.float().eval(), encoded, held_out, encode(held_out), recipe.vocabulary, recipe.context)  # type: ignore[no-untyped-call]
    text = card(recipe, model.num_parameters(), source.distributions, fingerprint(train), machine, rows)
    (out / "README.md").write_text(text, encoding="utf-8")
    return text
