"""All that a plug-in may know: readings and codes, what a variant must define, what a metric is given and must answer.

Shapes: batch = activation vectors, d = their width, latents = dictionary size, nnz = all codes of a batch, ends = batch + 1,
rows = scored token positions, windows = token windows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sae_bench_htopk import choose, ops
from sae_bench_htopk.labels import Labels
from sae_bench_htopk.prefix_loss import prefix_loss

Selector: TypeAlias = Literal["row", "threshold", "ema"]
Cut: TypeAlias = Literal["before", "after"]
EMA = 0.999  # what a running threshold keeps of itself at each step (dictionary_learning)
Rank: TypeAlias = Literal["importance", "frequency", "spectrum", "random"]


@dataclass(frozen=True, order=True)
class Reading:
    """How a trained SAE is read: a budget of k codes, on how many latents, and how codes and latents are chosen."""

    k: int
    latents: int | None = None  # only the first so many latents of `rank`; None is the whole dictionary
    select: Selector = "row"  # at most k codes of each vector, a threshold calibrated to k on average, or training's own threshold
    cut: Cut = "before"  # drop latents before the choice of codes, or after it
    rank: Rank = "importance"


class Codes(NamedTuple):
    """Ragged rows of codes; row b owns the entries offsets[b]:offsets[b+1], by descending value * decoder norm."""

    values: Float[Tensor, " nnz"]
    latents: Int[Tensor, " nnz"]
    offsets: Int[Tensor, " ends"]

    def lengths(self) -> Int[Tensor, " batch"]:
        """The number of codes of each row."""
        return self.offsets.diff()

    def prefix(self, k: int) -> "Codes":
        """The first k codes of each row: a row reading at k, if this is one at more than k."""
        _, latents, offsets = ops.pick(kept := ops.ranks_in_row(self.offsets) < k, self.latents, self.offsets)
        return Codes(self.values[kept], latents, offsets)


class Step(NamedTuple):
    """What one training step gives the trainer: the squared error to minimise, the reconstruction, and which latents fired."""

    loss: Float[Tensor, ""]  # squared error per vector, a mean over vectors and over weighted prefixes
    x_hat: Float[Tensor, "batch d"]
    fired: Bool[Tensor, " latents"]


@dataclass(frozen=True)
class Statistics:
    """What is known of the stream before training, in the scaled units in which the mean squared norm is 1."""

    mean: Float[Tensor, " d"]
    covariance: Float[Tensor, "d d"]

    @property
    def total_variance(self) -> float:
        """Mean squared distance from the mean."""
        return float(self.covariance.diagonal().sum())


@dataclass
class Calibration:
    """What reading a trained SAE needs and training does not give: thresholds and ranks, found on calibration text."""

    thresholds: dict[Reading, float] = field(default_factory=dict)
    order: dict[Rank, Int[Tensor, " latents"]] = field(default_factory=dict)  # latents, the first to be kept first
    budget: int = 0  # the k that it was trained at, or the L0 that training came to
    ladders: dict[Reading, Float[Tensor, " k"]] = field(default_factory=dict)  # of readings by threshold: the thresholds of 1, 2, .. k
    use: dict[Rank, Float[Tensor, " latents"]] = field(default_factory=dict)  # a row's mean of (a ||w||)^2, and of firing, at that budget


class Variant(nn.Module, ABC):
    """An SAE objective. A subclass has a frozen dataclass `Config` and defines `step`; all else may stay as it is here.

    What it remembers from step to step is a parameter or a buffer: a run that was killed goes on with these alone.
    """

    Config: ClassVar[type[Any]]
    frozen: ClassVar[frozenset[str]] = frozenset()  # parameters that training leaves as they began
    auxk: ClassVar[bool] = True  # False: no loss on dead latents
    trained: ClassVar[bool] = True  # False: `start` makes it, no step is taken

    def __init__(self, config: Any, d: int, latents: int, seed: int) -> None:
        """Random unit decoder rows, encoder tied to them at the start, no biases."""
        super().__init__()
        self.config, self.calibration, self.proposals = config, Calibration(), choose.Proposals()
        self.unit_rows = False  # whether training keeps decoder rows at norm 1, so that scores need not be multiplied by norms
        self.following = True  # whether steps move the threshold that training keeps
        generator = torch.Generator().manual_seed(seed)
        W = nn.functional.normalize(torch.randn(latents, d, generator=generator), dim=1)
        self.W_enc, self.W_dec = nn.Parameter(W.clone()), nn.Parameter(W)
        self.b_enc, self.b_dec = nn.Parameter(torch.zeros(latents)), nn.Parameter(torch.zeros(d))
        self.ema_threshold: Tensor
        self.register_buffer("ema_threshold", torch.tensor(-1.0))  # below 0: none was kept

    @classmethod
    def trained_as(cls, config: Any) -> tuple[str, Mapping[str, object]] | None:
        """The (variant, its settings) whose weights this one reads, if it trains none of its own."""
        return None

    @classmethod
    def native(cls, config: Any) -> Selector:
        """The selector of its headline."""
        return "row"

    @classmethod
    def has_ema(cls, config: Any) -> bool:
        """Whether training keeps a running threshold, which is then one more way to read it at its own k."""
        return False

    @classmethod
    def budget(cls, config: Any) -> int | None:
        """The k that it is trained at; its ranks of latents are found there. None: training sets none, and its L0 is measured."""
        return int(config.k)

    def start(self, statistics: Statistics) -> None:
        """Called once before training; by default the decoder's bias begins at the mean."""
        with torch.no_grad():
            self.b_dec.copy_(statistics.mean)

    def step(self, x: Float[Tensor, "batch d"]) -> Step:
        """One training step's loss. A variant that is trained must define it."""
        raise TypeError(f"{type(self).__name__} defines no step and trained_as gives None: a variant needs one of the two")

    def shells(self) -> Int[Tensor, " latents"]:
        """The nested dictionary that each latent belongs to, the innermost 0; ranks keep inner shells first."""
        return torch.zeros(len(self.W_enc), dtype=torch.long)

    def noted(self) -> Mapping[str, float]:
        """What its training curve shows of the last step beside loss, error and dead latents."""
        return {}

    def activation(self, pre: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """From pre-activations to activations."""
        return pre.relu()

    def preactivations(self, x: Float[Tensor, "batch d"], latents: Int[Tensor, " kept"] | None = None) -> Float[Tensor, "batch kept"]:
        """W_enc (x - b_dec) + b_enc, of all latents or of some."""
        W, b = (self.W_enc, self.b_enc) if latents is None else (self.W_enc.index_select(0, latents), self.b_enc.index_select(0, latents))
        return ops.preactivations(x, self.b_dec, W, b)

    def activations_at(self, x: Float[Tensor, "batch d"], chosen: Codes) -> Float[Tensor, " nnz"]:
        """The values of chosen codes, with a gradient; no [batch, latents] one, unless a variant has pre-activations of its own."""
        if type(self).preactivations is not Variant.preactivations:
            return self.activation(self.preactivations(x))[ops.owners(chosen.offsets), chosen.latents]
        known = chosen.values if type(self).activation is Variant.activation else None  # what ReLU lets through, it leaves as it is
        return self.activation(ops.preactivations_at(x, self.b_dec, self.W_enc, self.b_enc, chosen.latents, chosen.offsets, known))

    @torch.no_grad()
    def scores(self, x: Float[Tensor, "batch d"], latents: Int[Tensor, " kept"] | None = None) -> Float[Tensor, "batch kept"]:
        """Activation times decoder norm: what codes are ordered and chosen by. Carries no gradient."""
        W = self.W_dec if latents is None else self.W_dec[latents]
        return self.activation(self.preactivations(x, latents)).mul_(W.norm(dim=1))

    @torch.no_grad()
    def chosen(self, x: Float[Tensor, "batch d"], k: int, of: Literal["row", "batch"] = "row") -> Codes:
        """What a training step reconstructs from: the codes of the k largest scores of each row, or of the batch * k largest of the batch."""
        scores, latents, offsets = self.highest(x, k, of)
        return Codes(scores if self.unit_rows else scores / self.W_dec.norm(dim=1)[latents], latents, offsets)

    def highest(self, x: Float[Tensor, "batch d"], k: int, of: Literal["row", "batch"]) -> ops.Ragged:
        """These scores, by the fastest way that gives them."""
        own = type(self)
        plain = own.activation is Variant.activation and own.preactivations is Variant.preactivations and own.scores is Variant.scores
        if plain and choose.worth_it(x, self.W_enc, k):
            pick, W, b = choose.per_row if of == "row" else choose.per_batch, self.W_enc, self.b_enc
            if not self.unit_rows:
                norms = self.W_dec.norm(dim=1)
                W, b = W * norms[:, None], b * norms
            return pick(x - self.b_dec, W, b, k, self.proposals)
        scores = self.preactivations(x) if plain and self.unit_rows else self.scores(x)
        return ops.choose_per_row(scores, k) if of == "row" else choose.per_batch_of(scores, k, self.proposals)

    def kept(self, reading: Reading) -> Int[Tensor, " kept"] | None:
        """The latents that a reading may use, ascending; None for all. Raises LookupError before calibration."""
        if reading.latents is None or reading.latents >= len(self.W_enc):
            return None
        if reading.rank not in self.calibration.order:
            raise LookupError(f"{type(self).__name__} is read at {reading.latents} latents by {reading.rank}, which calibration has not ranked")
        return self.calibration.order[reading.rank][: reading.latents].sort().values.to(self.W_enc.device)

    def threshold(self, reading: Reading) -> float:
        """What scores must exceed in a reading by threshold. Raises LookupError if it is not known."""
        if reading.select == "ema" and self.ema_threshold >= 0:
            return float(self.ema_threshold)
        if reading not in self.calibration.thresholds:
            raise LookupError(f"{type(self).__name__} is read by threshold at {reading}, which calibration has not seen")
        return self.calibration.thresholds[reading]

    @torch.no_grad()
    def follow(self, values: Float[Tensor, " nnz"], latents: Int[Tensor, " nnz"]) -> None:
        """Moves the threshold that training keeps towards the smallest positive score that a batch chose (dictionary_learning)."""
        if not self.following or not self.has_ema(self.config):
            return
        scores = values if self.unit_rows else values * self.W_dec.norm(dim=1)[latents]
        if bool((positive := scores[scores > 0]).numel()):
            least = positive.min()
            self.ema_threshold.copy_(least if self.ema_threshold < 0 else EMA * self.ema_threshold + (1 - EMA) * least)

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "batch d"], reading: Reading) -> Codes:
        """The codes of a reading, by descending value * decoder norm. Raises LookupError if its threshold was not calibrated."""
        among = self.kept(reading) if reading.cut == "before" else None
        scores = self.scores(x, among)
        if reading.select == "row":
            values, latents, offsets = ops.choose_per_row(scores, reading.k)
        else:
            values, latents, offsets = ops.choose_above(scores, self.threshold(reading))
        latents = latents if among is None else among[latents]
        codes = Codes(values / self.W_dec.norm(dim=1)[latents], latents, offsets)
        return codes if among is not None else self.dropped(codes, reading)

    def dropped(self, codes: Codes, reading: Reading) -> Codes:
        """Of codes that were chosen among all latents those on latents that a reading may use."""
        if (kept := self.kept(reading)) is None:
            return codes
        allowed = torch.zeros(len(self.W_enc), dtype=torch.bool, device=kept.device).index_fill_(0, kept, True)[codes.latents]
        _, latents, offsets = ops.pick(allowed, codes.latents, codes.offsets)
        return Codes(codes.values[allowed], latents, offsets)

    def decode(self, codes: Codes) -> Float[Tensor, "batch d"]:
        """b_dec plus the sum of value * decoder row over each row's codes."""
        return self.b_dec + ops.decode(*codes, self.W_dec)

    def loss_of(
        self,
        x: Float[Tensor, "batch d"],
        chosen: Codes,
        omega: Callable[[Codes], tuple[Float[Tensor, " nnz"], Float[Tensor, " batch"]]],
    ) -> Step:
        """The Step of the TopK family: codes chosen without a gradient, in their order, and `omega`, the weights of their prefixes."""
        values = self.activations_at(x, chosen)
        self.follow(values.detach(), chosen.latents)
        loss, x_hat = prefix_loss(values, chosen.latents, chosen.offsets, self.W_dec, self.b_dec, x, *omega(chosen))
        fired = torch.zeros(len(self.W_enc), dtype=torch.bool, device=x.device).index_fill_(0, chosen.latents, True)
        return Step(loss, x_hat, fired)


class Outcome(NamedTuple):
    """What comes of putting something else in the activation's place: one number for each row, 0 where it does not predict."""

    loss: Float[Tensor, "..."]  # cross-entropy of the next token, in nats
    kl: Float[Tensor, "..."]  # sum over the vocabulary of p log(p / q), in nats: p is what the untouched model predicts, q what it predicts now
    agrees: Float[Tensor, "..."]  # 1 where p's likeliest token is q's too, or is as likely as that one


@runtime_checkable
class Continuation(Protocol):
    """The rest of the language model after the hook point, for one batch of windows; a row predicts the token after it."""

    predicts: Bool[Tensor, " rows"]  # rows that are spliced and whose next token is real: losses are taken there and nowhere else

    @property
    def clean(self) -> Float[Tensor, " rows"]:
        """Cross-entropy in nats of the untouched model; 0 where a row does not predict, here and in the others."""

    @property
    def zero_ablated(self) -> Outcome:
        """With zeros in the activation's place, at every spliced row and at no other."""

    @property
    def mean_ablated(self) -> Outcome:
        """With the stream's mean activation in its place."""

    def spliced(self, x_hat: Float[Tensor, "rows d"]) -> Outcome:
        """With the reconstruction in its place."""


@dataclass(frozen=True)
class Text:
    """One batch of held-out text, the same for every SAE and reading."""

    x: Float[Tensor, "rows d"]  # activations in scaled units
    document: Int[Tensor, " rows"]  # index of the document, 0 to the number of documents - 1
    position: Int[Tensor, " rows"]  # place of the token in its document
    token: Int[Tensor, " rows"]
    span: Int[Tensor, "rows 2"]  # first and last+1 character of the token in its document
    massive: Bool[Tensor, " rows"]  # norms above the stream's limit: counted, and out of headline numbers
    texts: Sequence[str]  # the text of every held-out document
    model: Continuation
    embed: Callable[[Int[Tensor, " tokens"]], Float[Tensor, "tokens width"]] | None = None  # the language model's input embeddings
    labels: Labels | None = None  # who knows what its tokens are; None: nobody but the text itself


class Missing(NamedTuple):
    """The reason why a number is not there."""

    reason: str


class Prefixes(NamedTuple):
    """One SAE at every budget up to a reading's k: the codes at k' are those of `codes` that enter at k' or before, a prefix of each row."""

    enters: Int[Tensor, " nnz"]  # the least budget at which each code is used, 1 to k
    before: Float[Tensor, " rows"]  # squared error of each row without any code
    after: Float[Tensor, " nnz"]  # squared error of the row with the codes up to this one


@dataclass(frozen=True)
class Batch:
    """One batch of text as one SAE reads it."""

    text: Text
    x_hat: Float[Tensor, "rows d"]
    codes: Codes
    prefixes: Callable[[], Prefixes | Missing] = lambda: Missing("the reading is not known")  # made when it is asked for


class Column(NamedTuple):
    """One number of a metric: its name, which way is better, and for readers what it means, its formula, its source and what misleads."""

    name: str
    better: Literal["higher", "lower", "neither"]
    meaning: str  # one line; this, formula, source and pitfall are words, which no key sees
    resampled: bool = True  # False: it has no interval, since it takes no weights or, as for the share of dead latents, they say nothing of its error
    formula: str = ""
    source: str = ""  # a paper or a library; "ours" where there is none
    pitfall: str = ""
    paired: bool = False  # True: its value under every draw of documents is kept in the record, so that two SAEs are compared document by document


class Setting(NamedTuple):
    """What a metric may know of the SAE and the held-out text before the first batch."""

    d: int
    latents: int  # of the dictionary
    usable: int  # of them, those that the reading may use
    documents: int
    k: int | None = None  # the reading's budget
    rows: tuple[int, ...] | None = None  # held-out rows of each document
    norms: Float[Tensor, " latents"] | None = None  # of decoder rows; None: all are 1
    statistics: Statistics | None = None  # of the text that was trained on
    shells: Int[Tensor, " latents"] | None = None  # the nested dictionary that each latent belongs to, the innermost 0; None: there is one
    W_dec: Float[Tensor, "latents d"] | None = None
    order: Int[Tensor, " latents"] | None = None  # latents by importance on calibration text, the first to be kept first, inner shells before outer ones
    b_dec: Float[Tensor, " d"] | None = None  # what the decoder adds to the sum of codes


class Metric(ABC):
    """Measures one SAE at one reading over all held-out text; keeps sums per document, and divides once."""

    columns: ClassVar[tuple[Column, ...]]

    def __init__(self, setting: Setting) -> None:
        """Called once for each SAE and reading."""
        self.setting = setting

    @classmethod
    def kept_bytes(cls, setting: Setting) -> tuple[int, int]:
        """About how much it keeps at one reading, on the host and where the activations are; no key sees it. 0: too little to count."""
        return 0, 0

    @abstractmethod
    def update(self, batch: Batch) -> None:
        """Takes in one batch; how the text is cut into batches must not matter."""

    @abstractmethod
    def result(self, weights: Float[Tensor, " documents"] | None) -> Mapping[str, float | Missing]:
        """Exactly the columns, with each document counted `weights` times (None: once)."""

    def results(self, draws: Float[Tensor, "draws documents"]) -> Sequence[Mapping[str, float | Missing]]:
        """`result` of each row of weights, the first of which counts every document once; a metric that can share work defines it anew."""
        return [self.result(draw) for draw in draws]

    def details(self) -> Mapping[str, Any]:
        """What a page may unfold, as JSON; called after `results`, so that its intervals can come from the same draws."""
        return {}
