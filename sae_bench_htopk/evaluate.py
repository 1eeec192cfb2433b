"""One pass over held-out text for all SAEs, readings and metrics: text outside, SAE inside, readings innermost."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import groupby

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_bench_htopk import ops
from sae_bench_htopk.asked import on
from sae_bench_htopk.contract import Batch, Codes, Metric, Missing, Outcome, Prefixes, Reading, Setting, Text, Variant
from sae_bench_htopk.head import Clean
from sae_bench_htopk.labels import Labels
from sae_bench_htopk.lm import Captured, SubjectModel
from sae_bench_htopk.prefix_loss import prefix_errors
from sae_bench_htopk.stream import Units
from sae_bench_htopk.windows import Windows


@dataclass
class Job:
    """One SAE as one variant reads it: its readings with the metrics wanted of each, by name, and why some have no numbers: at all, or on one text."""

    variant: Variant
    readings: Mapping[Reading, Mapping[str, type[Metric]]]
    absent: dict[Reading, str] = field(default_factory=dict)
    elsewhere: dict[tuple[str, Reading], str] = field(default_factory=dict)

    def on(self, text: str) -> "Job":
        """What is wanted of it on one text; what has no numbers elsewhere has none there, but what has none there may have some elsewhere."""
        wanted = on(text, {reading: list(metrics) for reading, metrics in self.readings.items()})
        return Job(self.variant, {reading: {name: self.readings[reading][name] for name in names} for reading, names in wanted.items()}, dict(self.absent))


class Splice:
    """The language model after the hook point, on one batch of windows; what every SAE shares is computed once."""

    def __init__(self, model: SubjectModel, windows: Windows, captured: Captured, units: Units, massive: Bool[Tensor, " rows"]) -> None:
        """BOS, padding and massive positions keep the clean activation in every run."""
        self.model, self.windows, self.captured, self.units = model, windows, captured, units
        self.replaced = windows.real.to(captured.activation.device).clone()
        self.replaced[self.replaced.clone()] = ~massive
        self.kept = ~massive
        followed = torch.zeros_like(windows.real)
        followed[:, :-1] = windows.real[:, 1:]
        self.predicts = followed.to(massive.device)[windows.real.to(massive.device)] & ~massive

    def scored(self, values: Float[Tensor, "windows context"]) -> Float[Tensor, " rows"]:
        """The values of real rows, 0 where a row does not predict."""
        return torch.where(self.predicts, values[self.windows.real.to(self.replaced.device)], 0.0)

    def outcome(self, raw: Float[Tensor, "rows d"]) -> Outcome:
        """With `raw`, in the model's own units, at replaced rows."""
        replacement = self.captured.activation.clone()
        replacement[self.replaced] = raw[self.kept].to(replacement.dtype)
        return Outcome(*map(self.scored, self.model.outcomes(self.captured, replacement, self.windows.tokens, self.untouched)))

    def spliced(self, x_hat: Float[Tensor, "rows d"]) -> Outcome:
        """With a reconstruction, given in scaled units."""
        return self.outcome(x_hat / self.units.scale)

    @cached_property
    def untouched(self) -> Clean:
        """What the model predicts if nothing is replaced."""
        return self.model.clean(self.captured, self.windows.tokens)

    @cached_property
    def clean(self) -> Float[Tensor, " rows"]:
        """The losses of the untouched model."""
        return self.scored(self.untouched.loss)

    @cached_property
    def zero_ablated(self) -> Outcome:
        """With zeros."""
        return self.outcome(torch.zeros(len(self.kept), self.captured.activation.shape[-1], device=self.kept.device))

    @cached_property
    def mean_ablated(self) -> Outcome:
        """With the stream's mean activation."""
        return self.spliced(self.units.statistics.mean.to(self.kept.device).expand(len(self.kept), -1))


def text_batch(model: SubjectModel, windows: Windows, units: Units, texts: Sequence[str], labels: Labels | None = None) -> Text:
    """What every SAE is given of some windows."""
    captured = model.capture(windows.tokens)
    real = windows.real.to(captured.activation.device)
    raw = captured.activation[real].float()
    massive = units.is_massive(raw)
    splice = Splice(model, windows, captured, units, massive)
    document, position, token, span = (part[windows.real].to(raw.device) for part in (windows.document, windows.position, windows.tokens, windows.span))
    return Text(raw * units.scale, document, position, token, span, massive, texts, splice, model.embed, labels)


def nested(readings: Iterable[Reading]) -> Iterator[list[Reading]]:
    """Groups readings of which each holds the codes of the one before it, the widest last."""

    def kin(reading: Reading) -> tuple[int, str, str, str]:
        return reading.latents or 0, reading.select, reading.cut, reading.rank

    for _, group in groupby(sorted(readings, key=lambda reading: (*kin(reading), reading.k)), kin):
        yield list(group)


@torch.no_grad()
def encode_all(variant: Variant, x: Float[Tensor, "rows d"], readings: Iterable[Reading]) -> Iterator[tuple[Reading, Codes]]:
    """Yields the codes of each reading; a nested group is encoded once, at its widest, and cut down from there."""
    shared: dict[Reading, Codes] = {}  # rows of the whole dictionary, from which every cut after the choice drops its own latents
    for group in nested(readings):
        last = group[-1]
        late = last.select == "row" and last.cut == "after"  # the codes at k are no prefix of those at more, but they are before latents are dropped
        source = Reading(last.k) if late else last
        widest = shared[source] if source in shared else variant.encode(x, source)
        if source == Reading(last.k):
            shared[source] = widest
        worth = widest.values * variant.W_dec.norm(dim=1)[widest.latents]
        for reading in group:
            if late:
                yield reading, variant.dropped(widest.prefix(reading.k), reading)
            elif reading == last:
                yield reading, widest
            elif reading.select == "row":
                yield reading, widest.prefix(reading.k)
            else:
                kept = worth > variant.calibration.thresholds[reading]
                _, latents, offsets = ops.pick(kept, widest.latents, widest.offsets)
                yield reading, Codes(widest.values[kept], latents, offsets)


def empty(
    model: SubjectModel, jobs: Sequence[Job], documents: int, rows: Sequence[int] | None = None, units: Units | None = None
) -> dict[tuple[int, Reading], dict[str, Metric]]:
    """New metrics for every job and reading, by (index of the job, reading); `rows` are those of each document."""
    held: dict[tuple[int, Reading], dict[str, Metric]] = {}
    lengths, statistics = None if rows is None else tuple(rows), None if units is None else units.statistics
    for index, job in enumerate(jobs):
        W_dec, shells, order = job.variant.W_dec.detach(), job.variant.shells(), job.variant.calibration.order.get("importance")
        norms = W_dec.norm(dim=1)
        for reading, wanted in job.readings.items():
            usable = min(reading.latents or len(norms), len(norms))
            setting = Setting(model.d, len(norms), usable, documents, reading.k, lengths, norms, statistics, shells, W_dec, order, job.variant.b_dec.detach())
            held[index, reading] = {name: kind(setting) for name, kind in wanted.items()}
    return held


@torch.no_grad()
def measure(
    model: SubjectModel,
    windows: Windows,
    units: Units,
    texts: Sequence[str],
    jobs: Sequence[Job],
    held: Mapping[tuple[int, Reading], dict[str, Metric]],
    labels: Labels | None = None,
) -> None:
    """Shows one batch of windows to every job at every reading, and updates its metrics.

    A reading whose codes or reconstructions are no numbers is read no further; it is in `absent` from then on, and spoils no other.
    """
    text = text_batch(model, windows, units, texts, labels)
    for index, job in enumerate(jobs):
        for reading, codes in encode_all(job.variant, text.x, [reading for reading in job.readings if reading not in job.absent]):
            x_hat = job.variant.decode(codes)
            if bad := int((~x_hat.isfinite().all(1)).sum()):
                job.absent[reading] = f"x_hat is not finite in {bad} of {len(x_hat)} rows"
                continue
            batch = Batch(text, x_hat, codes, partial(prefixes, job.variant, reading, codes, text.x))
            for metric in held[index, reading].values():
                metric.update(batch)


@torch.no_grad()
def prefixes(variant: Variant, reading: Reading, codes: Codes, x: Float[Tensor, "rows d"]) -> Prefixes | Missing:
    """What the SAE comes to at every budget below the reading's own, from its codes alone."""
    if reading.select == "ema" or (reading.select == "row" and reading.cut == "after" and reading.latents):
        return Missing("what is chosen among all and then dropped, or by one threshold alone, has no smaller budgets inside")
    enters = ops.ranks_in_row(codes.offsets) + 1
    if reading.select == "threshold":
        worth = codes.values * variant.W_dec.norm(dim=1)[codes.latents]
        below = torch.searchsorted(variant.calibration.ladders[reading].flip(0), worth)  # thresholds fall from budget to budget
        enters = (reading.k + 1 - below).clamp_max(reading.k)  # worth was divided by a norm and multiplied again: it may be a last bit too low
    return Prefixes(enters, *prefix_errors(*codes, variant.W_dec, variant.b_dec, x))
