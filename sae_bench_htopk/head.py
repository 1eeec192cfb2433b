"""The end of the language model: what it predicts as the next token, and how far that is from what it predicts untouched."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from sae_bench_htopk.checkpoint import ModelError
from sae_bench_htopk.contract import Outcome

ROWS, LOGITS = 256, 2**26  # one chunk of logits: so many rows, which stay in a CPU's cache, and on other devices so many numbers if that is more
KEPT = 2**28  # bytes of clean log-probabilities that a batch may keep on any device; where they are more, each run makes them again, chunk by chunk
KEPT_SHARE = 0.25  # of a GPU's free memory, which they may keep if that is more


class Clean(NamedTuple):
    """What the untouched model predicts: what every other run of the same windows is compared with."""

    loss: Float[Tensor, "windows context"]  # cross-entropy of the next token, in nats; the last column is 0
    top: tuple[Int[Tensor, " _"], ...]  # in chunks, the likeliest next token
    log_p: tuple[Float[Tensor, "_ vocabulary"], ...]  # in chunks, log-probabilities; none if they would fill more than KEPT
    output: Any  # what the base of the model returned, from which log_p can be made again


class Head:
    """From the last hidden states to float32 logits, and from those to what is measured. Whole logits never exist, only chunks of rows."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Raises ModelError if transformers does not know its base model and its output embedding."""
        self.model = cast(Any, model)  # transformers leaves most of its methods untyped
        self.base: nn.Module = self.model.base_model
        self.embedding: nn.Module | None = self.model.get_output_embeddings()
        if self.base is model or self.embedding is None:
            raise ModelError(f"{type(model).__name__}: no causal language model of transformers, wanted a base model and an output embedding")
        self.vocabulary = int(model.config.get_text_config().vocab_size)

    def logits(self, Output: Callable[..., Any], rows: Float[Tensor, "rows d"]) -> Float[Tensor, "rows vocabulary"]:
        """Everything that the model does after its base: the head in float32, and soft-capping or scaling where it has them."""
        forwards: dict[nn.Module, Callable[..., Any]] = {self.base: lambda *_, **__: Output(last_hidden_state=rows[None])}
        if isinstance(head := self.embedding, nn.Linear) and head.weight.dtype != torch.float32:
            forwards[head] = lambda hidden: F.linear(hidden.float(), *self.weights)
        with replaced(forwards):
            return self.model(input_ids=torch.zeros(1, len(rows), dtype=torch.long, device=rows.device), use_cache=False).logits[0].float()  # type: ignore[no-any-return]

    @cached_property
    def weights(self) -> tuple[Tensor, Tensor | None]:
        """The output embedding in float32, cast once: for each chunk of 256 rows the cast added a quarter to the product's time on a CPU."""
        head = self.embedding
        assert isinstance(head, nn.Linear)
        return head.weight.float(), None if head.bias is None else head.bias.float()

    def size(self, rows: Tensor) -> int:
        """How many rows make a chunk on their device."""
        return ROWS if rows.device.type == "cpu" else max(ROWS, LOGITS // self.vocabulary)

    def chunks(self, output: Any) -> Iterator[Float[Tensor, "_ vocabulary"]]:
        """Yields the logits of all rows but each window's last, which predicts nothing that is there."""
        rows = output.last_hidden_state[:, :-1].flatten(0, 1)
        for part in rows.split(self.size(rows)):
            yield self.logits(type(output), part)

    def targets(self, tokens: Int[Tensor, "windows context"]) -> tuple[Int[Tensor, " _"], ...]:
        """The token after each of these rows, in the same chunks."""
        chunks: tuple[Tensor, ...] = tokens[:, 1:].flatten().long().split(self.size(tokens))
        return chunks

    def clean(self, output: Any, tokens: Int[Tensor, "windows context"]) -> Clean:
        """From what the base of the untouched model returned."""
        fits = 4 * tokens[:, 1:].numel() * self.vocabulary <= may_keep(tokens.device)
        losses, top, kept = [], [], []
        for logits, targets in zip(self.chunks(output), self.targets(tokens), strict=True):
            log_p = logits.log_softmax(1)
            losses.append(F.nll_loss(log_p, targets, reduction="none"))
            top.append(logits.argmax(1))
            if fits:
                kept.append(log_p)
        return Clean(as_windows(losses, tokens), tuple(top), tuple(kept), output)

    def outcomes(self, output: Any, tokens: Int[Tensor, "windows context"], clean: Clean) -> Outcome:
        """From what the base returned in another run of the same windows; places [windows, context], of which the last column is 0."""
        log_p: Iterable[Tensor] = clean.log_p or (logits.log_softmax(1) for logits in self.chunks(clean.output))
        parts = [compared(*part) for part in zip(log_p, clean.top, self.chunks(output), self.targets(tokens), strict=True)]
        return Outcome(*(as_windows(part, tokens) for part in zip(*parts, strict=True)))


def may_keep(device: torch.device) -> int:
    """Bytes of clean log-probabilities that may be kept. Whether they are kept or made again, they have the same bits."""
    return KEPT if device.type != "cuda" else max(KEPT, int(KEPT_SHARE * torch.cuda.mem_get_info(device)[0]))


def compared(
    log_p: Float[Tensor, "rows vocabulary"], top: Int[Tensor, " rows"], logits: Float[Tensor, "rows vocabulary"], targets: Int[Tensor, " rows"]
) -> Outcome:
    """Cross-entropy, divergence from the clean model and agreement with it, of each row."""
    log_q = logits.log_softmax(1)
    # The difference of logarithms comes first: summed apart, -H(p) and the cross-entropy of p and q would cancel: splicing x gave rows up to 1.4e-6, not 4e-7.
    kl = (log_p.exp() * (log_p - log_q)).sum(1)
    agrees = logits.gather(1, top[:, None])[:, 0] == logits.amax(1)  # fair to ties, of which argmax would see one alone
    return Outcome(F.nll_loss(log_q, targets, reduction="none"), kl, agrees.float())


def as_windows(chunks: Iterable[Float[Tensor, " _"]], tokens: Int[Tensor, "windows context"]) -> Float[Tensor, "windows context"]:
    """Joins chunks of rows, and gives each window its last place back, as 0."""
    return F.pad(torch.cat(tuple(chunks)).view(len(tokens), tokens.shape[1] - 1), (0, 1))


@contextmanager
def replaced(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Gives modules another `forward` inside a with block; what each had before comes back, whatever happens inside."""
    before = {module: vars(module).get("forward") for module in forwards}  # an instance has one of its own if accelerate placed it
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        for module, own in before.items():
            vars(module).pop("forward", None)
            if own is not None:
                module.forward = own
