"""The frozen classes of a suite: their fields are the keys of its YAML file, their types what may stand there.

A key is added by adding a field; `typed` reads it, checks it and words its errors from the type.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import product
from typing import Annotated, Any, Literal, TypeAlias

from sae_bench_htopk import plugins
from sae_bench_htopk.asked import HELD_OUT, named
from sae_bench_htopk.contract import Cut, Rank, Reading, Selector
from sae_bench_htopk.controls import CONTROLS
from sae_bench_htopk.declared import DECLARED, Contrasts
from sae_bench_htopk.document_classes import Classes
from sae_bench_htopk.labelled_source import LabelledSource
from sae_bench_htopk.lm import Hook
from sae_bench_htopk.strict_yaml import Value
from sae_bench_htopk.suite_types import DISTINCT, GIVEN, Count, Dictionary, Seed, Share, Title
from sae_bench_htopk.tagged_words import Tagged
from sae_bench_htopk.text import Files, Hub, Installed, Source
from sae_bench_htopk.trainer import Recipe
from sae_bench_htopk.typed import Names, Rule, build, record, required

SCHEMA = 1
SOURCES: dict[str, type[Source]] = {"installed": Installed, "files": Files, "hub": Hub}
LABELLED_SOURCES: dict[str, type[LabelledSource]] = {"files": Files, "hub": Hub}
LABELLED_KINDS: dict[str, type[Classes | Tagged]] = {"classes": Classes, "tags": Tagged}

MetricName: TypeAlias = Annotated[str, Names(lambda: plugins.names("metrics"))]
ControlName: TypeAlias = Annotated[str, Names(lambda: CONTROLS)]
SourceName: TypeAlias = Annotated[str, Names(lambda: SOURCES)]
LabelledSourceName: TypeAlias = Annotated[str, Names(lambda: LABELLED_SOURCES)]
LabelledKind: TypeAlias = Annotated[str, Names(lambda: LABELLED_KINDS)]


@dataclass(frozen=True)
class Shape:
    """The model's width, number of layers and vocabulary, so that a plan needs no model; a run verifies them."""

    d: Count
    layers: Count
    vocab: Count
    layer_weights: Count | None = None  # None: 12 d^2, the usual layer; gated ones have more. Only plans depend on it

    def of_layer(self) -> int:
        """The weights of one layer."""
        return self.layer_weights or 12 * self.d**2


@dataclass(frozen=True)
class Model:
    """The language model: an embedded one's name, a folder or a hub id; the hook point; tokens per window."""

    path: str
    hook: Hook
    shape: Shape
    revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    context: Annotated[int, Rule(lambda context: context >= 2, "at least 2 tokens, BOS and another")] = 256

    def __post_init__(self) -> None:
        if not 0 <= self.hook.layer < self.shape.layers:
            raise ValueError(f"hook.layer: {self.hook.layer}, wanted 0 to {self.shape.layers - 1}, since the model's shape has {self.shape.layers} layers")


@dataclass(frozen=True)
class HeldOut:
    """How much held-out text metrics see: tokens, and at most so many documents (None: as many as it takes)."""

    tokens: Count
    documents: Count | None = None


@dataclass(frozen=True)
class CalibrationText:
    """How much text finds thresholds and ranks."""

    tokens: Count


@dataclass(frozen=True)
class Text:
    """Where text comes from, and how many processes make tokens of what is trained on; in a file the source's own keys stand beside these."""

    source: Source
    held_out: HeldOut
    calibration: CalibrationText
    workers: Annotated[int, Rule(lambda workers: workers >= 0, "a whole number of at least 0")] = 0  # 0: the program itself; moves no number

    @classmethod
    def from_value(cls, value: Value) -> "Text":
        """`source` names the class whose fields the other keys are."""
        kind = SOURCES[required(value, "source", SourceName)]
        source = record(kind, value, beside=[field.name for field in fields(cls)])
        return record(cls, value, beside=["source", *(field.name for field in fields(kind))], source=source)


@dataclass(frozen=True)
class Labelled:
    """A text whose labels come with it; in a file the keys of its source and of its kind stand together."""

    text: Classes | Tagged

    @classmethod
    def from_value(cls, value: Value) -> "Labelled":
        """`source` and `kind` (classes, if none is named) name the classes whose fields the other keys are."""
        origin = LABELLED_SOURCES[required(value, "source", LabelledSourceName)]
        kind = LABELLED_KINDS[required(value, "kind", LabelledKind) if "kind" in value.data else "classes"]
        own, of_kind = [[part.name for part in fields(each)] for each in (origin, kind)]
        source = record(origin, value, beside=["source", "kind", *of_kind])
        return cls(text=record(kind, value, beside=["source", "kind", *own], source=source))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Read:
    """Readings as lists that multiply; None among `latents`, `all` in a file, is the whole dictionary."""

    k: Annotated[tuple[Count, ...], DISTINCT]
    latents: Annotated[tuple[Dictionary, ...], DISTINCT] = (None,)
    select: Annotated[tuple[Literal["row", "threshold"], ...], DISTINCT] = ("row", "threshold")
    cut: Annotated[tuple[Cut, ...], DISTINCT] = ("before",)
    rank: Annotated[tuple[Rank, ...], DISTINCT] = ("importance",)


@dataclass(frozen=True)
class Sae:
    """One SAE to train, or to read from another's weights, and how it is read."""

    variant: str
    config: Any  # the variant's own frozen Config
    latents: int
    seed: int
    read: tuple[Read, ...]
    rate: float | None = None  # its own learning rate; None: the recipe's

    def readings(self) -> tuple[Reading, ...]:
        """What is asked for, and of a variant that keeps a running threshold one reading by it, at its own k on its whole dictionary."""
        kind = plugins.variant(self.variant)
        by_threshold = any("threshold" in read.select for read in self.read)
        own = kind.budget(self.config) if kind.has_ema(self.config) and by_threshold else None
        return self.asked() + (() if own is None else (Reading(own, select="ema"),))

    def asked(self) -> tuple[Reading, ...]:
        """The readings of every product, each once."""
        return tuple(dict.fromkeys(reading for read in self.read for reading in self.multiplied(read)))

    def multiplied(self, read: Read) -> tuple[Reading, ...]:
        """The product of one `read` less what makes no sense: more latents than there are, k beyond the usable ones, repetitions."""
        found = []
        for k, latents, select, cut, rank in product(read.k, read.latents, read.select, read.cut, read.rank):
            whole = latents is None or latents == self.latents  # nothing is cut, so cut and rank say nothing
            usable = self.latents if latents is None or cut == "after" else latents
            if (latents or 0) <= self.latents and k <= usable:
                found.append(Reading(k, None, select) if whole else Reading(k, latents, select, cut, rank))
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Only:
    """The readings and seeds that a costly metric is limited to; None does not limit, "native" is each variant's own selector.

    A number of latents is that in use: of a larger dictionary cut down to it, or of one trained at that size and read whole.
    """

    k: Annotated[tuple[Count, ...] | None, GIVEN] = None
    latents: Annotated[tuple[Dictionary, ...] | None, GIVEN] = None
    select: Annotated[tuple[Literal["native", "row", "threshold", "ema"], ...] | None, GIVEN] = None
    cut: Annotated[tuple[Cut, ...] | None, GIVEN] = None
    rank: Annotated[tuple[Rank, ...] | None, GIVEN] = None
    seeds: Annotated[tuple[Seed, ...] | None, GIVEN] = None

    def allows(self, reading: Reading, native: Selector, seed: int, size: int) -> bool:
        """Whether a reading is within every limit; `native` is the variant's own selector, `seed` and `size` are those of the SAE."""
        limits = ((self.k, reading.k), (self.cut, reading.cut), (self.rank, reading.rank), (self.seeds, seed))
        selects = {reading.select, "native"} if reading.select == native else {reading.select}
        in_use = {reading.latents, reading.latents or size}
        ways = ((self.select, selects), (self.latents, in_use))
        return all(limit is None or value in limit for limit, value in limits) and all(limit is None or not way.isdisjoint(limit) for limit, way in ways)


@dataclass(frozen=True)
class Limits:
    """What a costly metric is limited to: a reading must be within one of these."""

    any_of: tuple[Only, ...]

    @classmethod
    def from_value(cls, value: Value) -> "Limits":
        """One mapping, or a list of them."""
        return cls(build(tuple[Only, ...], value) if isinstance(value.data, list) else (build(Only, value),))

    def allows(self, reading: Reading, native: Selector, seed: int, size: int) -> bool:
        """Whether any of them does."""
        return any(only.allows(reading, native, seed, size) for only in self.any_of)


@dataclass(frozen=True)
class MetricUse:
    """A metric, the texts that it is measured on, and the readings that it is limited to."""

    name: str
    on: Annotated[tuple[str, ...], DISTINCT] = (HELD_OUT,)  # held-out text, and labelled texts of the suite by name
    only: Limits | None = None

    @classmethod
    def from_value(cls, value: Value) -> "MetricUse":
        """A name, or {metric: name, on: [...], only: {...}}."""
        if not isinstance(value.data, dict):
            return cls(build(MetricName, value))
        return record(cls, value, beside=["metric"], name=required(value, "metric", MetricName))

    def names(self) -> tuple[str, ...]:
        """What is measured, by name: once for each text."""
        return tuple(named(self.name, text) for text in self.on)


@dataclass(frozen=True)
class Shorter:
    """The suite's SAEs trained once more, on fewer tokens with a schedule of their own: whether more text changes what is best."""

    tokens: Count
    seeds: Annotated[tuple[Seed, ...], DISTINCT]  # of the suite's
    metrics: tuple[MetricUse, ...]  # of the suite's, limited anew


@dataclass(frozen=True)
class Snapshots:
    """How often training is saved, so that a run that is killed goes on from there; no number depends on it."""

    minutes: Annotated[float, Rule(lambda minutes: minutes > 0, "a number above 0")] = 10.0


@dataclass(frozen=True)
class Blocks:
    """Where blocks of activations wait to be trained on, on a GPU machine; no number depends on it."""

    on: Literal["device", "pinned"] = "device"  # pinned: the host's memory, for a GPU that has no room for them


@dataclass(frozen=True)
class Suite:
    """All that a run is told; `saes` has sweeps and seeds multiplied out."""

    name: str
    title: Title
    model: Model
    text: Text
    train: Recipe
    seeds: Annotated[tuple[Seed, ...], DISTINCT]
    saes: tuple[Sae, ...]
    read: Read
    metrics: tuple[MetricUse, ...]
    controls: Annotated[tuple[ControlName, ...], DISTINCT]
    labelled: Mapping[str, Labelled] = field(default_factory=dict)
    demonstration: bool = False
    checkpoints: Annotated[tuple[Share, ...], DISTINCT] = ()  # of the training tokens, after which SAEs are kept as well, to be measured beside the whole
    shorter: Shorter | None = None
    snapshot: Snapshots = Snapshots()
    blocks: Blocks = Blocks()
    contrasts: Annotated[Contrasts | None, DECLARED] = None  # the primary ones; no number depends on them
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        for name in self.labelled:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name == HELD_OUT:  # columns of records are called by it
                raise ValueError(f"labelled: {name}, wanted names of small letters, digits and _, and not {HELD_OUT}")
