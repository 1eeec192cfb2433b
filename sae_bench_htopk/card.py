"""Writes the model card of the embedded language model: what it is, how it was made, and how well it predicts, beside plain baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tabulate import tabulate

TEMPLATE = """---
library_name: transformers
license: apache-2.0
tags: [gemma2, python-code, sparse-autoencoders]
---
# pycode_gemma2

A Gemma-2 of {parameters:,} parameters ({layers} layers, width {hidden}, {vocabulary:,} byte-level BPE tokens, context {context}) that
predicts Python source code. It is the subject of this package's default suites: small enough for a laptop, and the same code
path in transformers (`Gemma2ForCausalLM`, soft-capped eager attention, sliding windows) as Gemma-2 2B. It is of no use for anything else.

## Made by

    python -m sae_bench_htopk pretrain --out sae_bench_htopk/assets/pycode_gemma2 --compile

on the training part of the text below: {settings}. {machine}.

## Text

The Python source of {distributions}, as pip installs it, without tests, tables of numbers, and files that say that they are
generated (by the names of folders and the first lines, so one that says neither slips through); near-duplicate files are grouped,
and the hash of a group decides between training, calibration and held-out text (`sae_bench_htopk/split.py`). Fingerprint of the
training part: {text}. The model never saw the calibration and held-out parts, which the suites use too.

## Bits per character on held-out files

Model: each token is told from the {least} to {most} tokens before it in its file (windows of {context} that move by {fresh}); side by side: the
same windows without overlap, each knowing nothing of the one before it. Weights in bfloat16, computed in float32. 5-gram: over the
same tokens, Witten-Bell smoothing, counted on the training part. xz: `xz -9e` over the held-out files of each row together.

{table}
"""


def card(recipe: Any, parameters: int, distributions: Mapping[str, str], text: str, machine: str, rows: Sequence[Mapping[str, object]]) -> str:
    """The card as Markdown; every number in it comes from the training that it describes."""
    settings = ", ".join(f"{key} {value}" for key, value in asdict(recipe).items())
    named = ", ".join(f"{name} {version}" for name, version in sorted(distributions.items()))
    table = tabulate(rows, headers="keys", tablefmt="github", floatfmt=".3f", intfmt=",")
    shape = {key: getattr(recipe, key) for key in ("layers", "hidden", "vocabulary", "context")}
    context = recipe.context
    shape |= {"fresh": context // 4, "least": context - 1 - context // 4, "most": context - 2}
    return TEMPLATE.format(parameters=parameters, distributions=named, text=text, machine=machine, settings=settings, table=table, **shape)
