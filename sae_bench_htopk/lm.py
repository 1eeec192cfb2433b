"""The frozen language model: its activations at one hook point, and what it predicts when something else stands there.

Decoder layers are found by their shape in any transformers model, so no code here names an architecture.
"""

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, cast, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sae_bench_htopk.checkpoint import ModelError, fingerprint, load_checkpoint
from sae_bench_htopk.contract import Outcome
from sae_bench_htopk.head import Clean, Head, replaced

Site: TypeAlias = Literal["resid_post", "resid_pre", "mlp_out", "attn_out"]
SUBMODULES: Mapping[str, tuple[str, ...]] = {"mlp_out": ("mlp",), "attn_out": ("self_attn", "attention", "attn")}


class Reached(Exception):
    """Ends a forward pass at the hook point; never leaves this module."""


@dataclass(frozen=True)
class Hook:
    """A point of the model: a layer, from 0, and its output, its input, or the raw output of its mlp or attention."""

    layer: int
    site: Site


class Captured(NamedTuple):
    """The activation at the hook point, and the hidden state from which the rest of the model can be run again."""

    entry: Float[Tensor, "windows context d"]  # the activation itself, or for mlp_out and attn_out the input of their layer
    activation: Float[Tensor, "windows context d"]


class SubjectModel:
    """A causal language model of transformers, frozen, with one hook point."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, hook: Hook) -> None:
        """Freezes `model` where it is. Raises ModelError if the hook point cannot be found in it."""
        self.model = cast(Any, model)  # transformers leaves most of its methods untyped
        self.model.eval().requires_grad_(False)
        self.tokenizer, self.hook = tokenizer, hook
        self.head = Head(model)
        self.base = self.head.base
        config = model.config.get_text_config()
        check_hook(hook, int(config.num_hidden_layers))
        self.blocks = find_layers(self.base, int(config.num_hidden_layers))
        self.d, self.layers, self.vocabulary = int(config.hidden_size), len(self.blocks), self.head.vocabulary
        self.context: int | None = getattr(config, "max_position_embeddings", None)  # None: the configuration names no limit
        self.layer = self.blocks[hook.layer]
        self.module = find_module(self.layer, hook)
        self.device = next(model.parameters()).device
        self.fingerprint = fingerprint(model)
        _, output = self.run_until(torch.zeros(1, 2, dtype=torch.long), self.blocks[0], self.blocks[0])
        self.returned = len(output) if isinstance(output, tuple) else None  # what a skipped layer must look like to its caller

    @classmethod
    def load(cls, path: str, revision: str | None, hook: Hook, device: str, dtype: torch.dtype) -> "SubjectModel":
        """The model of a packaged name, a local folder or a hub id; never runs code from it. Raises ModelError."""
        model, tokenizer = load_checkpoint(path, revision, dtype, lambda layers: check_hook(hook, layers))
        cast(nn.Module, model).to(device)
        return cls(model, tokenizer, hook)

    def verify_shape(self, d: int, layers: int, vocabulary: int, context: int | None = None, layer_weights: int | None = None) -> None:
        """Compares what a suite declares with the model; windows may be shorter than its context. Raises ModelError that names all that differ."""
        pairs = {"d": (d, self.d), "layers": (layers, self.layers), "vocab": (vocabulary, self.vocabulary)}
        if layer_weights is not None:
            pairs["layer_weights"] = layer_weights, sum(part.numel() for part in self.layer.parameters())
        wrong = [f"{name} is {given}, the model has {own}" for name, (given, own) in pairs.items() if given != own]
        if context is not None and self.context is not None and context > self.context:
            wrong.append(f"context is {context}, the model reads at most {self.context} tokens")
        if wrong:
            raise ModelError(f"model.shape: {'; '.join(wrong)}")

    @property
    def bos(self) -> int:
        """The id that opens every window: the tokenizer's BOS, or its EOS if it has none. Raises ModelError if it has neither."""
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        raise ModelError(f"{type(self.tokenizer).__name__}: no bos_token and no eos_token, wanted one of them to open every window")

    def encode(self, text: str) -> tuple[Int[np.ndarray, " tokens"], Int[np.ndarray, "tokens 2"]]:
        """Token ids and the first and last+1 character of each; adds no special token and reads none in the text."""
        if not self.tokenizer.is_fast:
            raise ModelError(f"{type(self.tokenizer).__name__}: a slow tokenizer, wanted one with a tokenizer.json, which knows character spans")
        # A "<bos>" that a document quotes is text: as the special id it would pass for the start of a window.
        coded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False)
        ids = np.array(coded["input_ids"], dtype=np.int64)
        if (largest := ids.max(initial=0)) >= self.vocabulary:
            raise ModelError(f"model.path: the tokenizer gives id {largest}, the model knows 0 to {self.vocabulary - 1}; they do not belong together")
        return ids, np.array(coded["offset_mapping"], dtype=np.int64).reshape(-1, 2)

    def embed(self, tokens: Int[Tensor, " tokens"]) -> Float[Tensor, "tokens width"]:
        """The input embeddings of some tokens, on the CPU."""
        table: Tensor = self.model.get_input_embeddings().weight
        return table.detach()[tokens.to(table.device)].float().cpu()

    def activations(self, tokens: Int[Tensor, "windows context"]) -> Float[Tensor, "windows context d"]:
        """The activations at the hook point; no layer after it runs."""
        return self.capture(tokens).activation

    @torch.no_grad()
    def capture(self, tokens: Int[Tensor, "windows context"]) -> Captured:
        """Runs the model up to the hook point, and nothing after it."""
        entry, output = self.run_until(tokens, self.layer, self.module)
        activation = output[0] if isinstance(output, tuple) else output
        return Captured(activation if self.module is self.layer else entry, activation)

    @torch.no_grad()
    def clean(self, captured: Captured, tokens: Int[Tensor, "windows context"]) -> Clean:
        """What the untouched model predicts; as in `outcomes`, only what follows the hook point runs."""
        return self.head.clean(self.run_on(captured, None, tokens), tokens.to(self.device))

    @torch.no_grad()
    def outcomes(self, captured: Captured, replacement: Float[Tensor, "windows context d"], tokens: Int[Tensor, "windows context"], clean: Clean) -> Outcome:
        """What comes of `replacement` at the hook point, at places [windows, context], of which the last column is 0.

        Logits are float32 whatever the model's dtype. `clean` is that of the same windows.
        """
        return self.head.outcomes(self.run_on(captured, replacement, tokens), tokens.to(self.device), clean)

    def run_on(self, captured: Captured, replacement: Float[Tensor, "windows context d"] | None, tokens: Int[Tensor, "windows context"]) -> Any:
        """What the base of the model returns with `replacement` at the hook point (None: the activation).

        Only what follows the hook point runs: layers before it hand on the entry.
        """
        tokens, value = tokens.to(self.device), captured.activation if replacement is None else replacement.to(captured.activation)
        inside = self.hook.site in SUBMODULES
        start = captured.entry if inside else value
        skipped = self.blocks[: self.hook.layer + (self.hook.site == "resid_post")]
        handed_on = start if self.returned is None else (start, *[None] * (self.returned - 1))
        with ExitStack() as stack:
            stack.enter_context(replaced({layer: lambda *_, **__: handed_on for layer in skipped}))
            if self.hook.site == "resid_pre":  # for layer 0 no layer before it hands anything on
                stack.enter_context(self.layer.register_forward_pre_hook(lambda _, args, kwargs: with_input(args, kwargs, start), with_kwargs=True))
            elif inside and self.module is not None:
                stack.enter_context(self.module.register_forward_hook(lambda _, __, out: (value, *out[1:]) if isinstance(out, tuple) else value))
            return self.base(input_ids=tokens, use_cache=False)

    @torch.no_grad()
    def run_until(self, tokens: Int[Tensor, "windows context"], layer: nn.Module, module: nn.Module | None) -> tuple[Tensor, Any]:
        """Runs until `module` has returned (None: until `layer` is entered): the input of `layer`, and what `module` returned."""
        seen: list[Any] = []

        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.append(args[0] if args else kwargs["hidden_states"])
            if module is None:
                raise Reached

        def leave(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            seen.append(output)
            raise Reached

        with layer.register_forward_pre_hook(enter, with_kwargs=True), (module or layer).register_forward_hook(leave), suppress(Reached):
            self.base(input_ids=tokens.to(self.device), use_cache=False)
        return seen[0], seen[-1]


def with_input(args: tuple[Any, ...], kwargs: dict[str, Any], hidden: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A layer's arguments with another hidden state."""
    return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})


def check_hook(hook: Hook, layers: int) -> None:
    """Raises ModelError if no model of so many layers has the hook point."""
    if not 0 <= hook.layer < layers:
        raise ModelError(f"model.hook.layer: {hook.layer}, wanted 0 to {layers - 1}: the model has {layers} layers")
    if hook.site not in get_args(Site):
        raise ModelError(f"model.hook.site: {hook.site!r}, wanted one of {', '.join(get_args(Site))}")


def find_layers(base: nn.Module, layers: int) -> nn.ModuleList:
    """The one ModuleList with as many modules, all of one class, as the configuration says there are layers. Raises ModelError."""
    lists = {name: module for name, module in base.named_modules() if isinstance(module, nn.ModuleList)}
    fitting = [name for name, module in lists.items() if len(module) == layers and len(set(map(type, module))) == 1]
    outer = [name for name in fitting if not any(name.startswith(f"{other}.") for other in fitting)]  # a layer's experts may be as many
    if len(outer) != 1:
        found = ", ".join(f"{name} ({len(module)} of {'/'.join(sorted({type(item).__name__ for item in module}))})" for name, module in lists.items())
        raise ModelError(f"{type(base).__name__}: looked for one nn.ModuleList of {layers} modules of one class, found {found or 'no nn.ModuleList'}")
    return lists[outer[0]]


def find_module(layer: nn.Module, hook: Hook) -> nn.Module | None:
    """The module whose output is the activation; None for resid_pre, which is an input. Raises ModelError that names what exists."""
    if hook.site in ("resid_pre", "resid_post"):
        return layer if hook.site == "resid_post" else None
    children, wanted = dict(layer.named_children()), SUBMODULES[hook.site]
    for name in wanted:
        if name in children:
            return children[name]
    raise ModelError(f"model.hook.site: {hook.site} is the output of {' or '.join(wanted)}, but {type(layer).__name__} has {', '.join(children)}")
