"""Small made-up text as an SAE reads it, and metrics that have seen it."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sae_bench_htopk import plugins
from sae_bench_htopk.contract import Batch, Codes, Metric, Missing, Outcome, Prefixes, Setting, Statistics, Text

D, LATENTS, DOCUMENTS, RANK = 12, 40, 9, 5
SPECTRUM = torch.arange(D, 0, -1.0)  # variances of the channels, by what a reading is told: the first are the principal components
ROWS = torch.randn(LATENTS, D, generator=torch.Generator().manual_seed(9))  # of a decoder that fits nothing: what codes come to, one after the other
EMBEDDINGS = torch.randn(50, 16, generator=torch.Generator().manual_seed(4))
SOURCE = (
    'import os\nclass A:\n    """Text of it."""\n    def f(self, x):\n        # a note on x\n        return g(x, "word", h(x))\nb = len(os.sep) + 100\n' * 6
)
STRING = re.compile(r'"""[^"]*"""|"[^"]*"')


@dataclass
class Rest:
    """A language model whose loss, and by twice as much what it predicts, moves with the squared distance from the true activation."""

    x: Tensor
    predicts: Tensor
    clean: Tensor

    def spliced(self, x_hat: Tensor) -> Outcome:
        error = (self.x - x_hat).square().mean(1)
        return Outcome(*(part * self.predicts for part in (self.clean + error, 2 * error, (error < 0.25).float())))

    @property
    def zero_ablated(self) -> Outcome:
        return self.spliced(torch.zeros_like(self.x))

    @property
    def mean_ablated(self) -> Outcome:
        return self.spliced(torch.full_like(self.x, 0.1))


def embed(tokens: Tensor) -> Tensor:
    """Of a language model that embeds tokens at random."""
    return EMBEDDINGS[tokens]


def read(x: Tensor, x_hat: Tensor, document: Tensor, codes: Tensor, texts: list[str], massive: Tensor | None = None) -> Batch:
    """A batch of these rows; `codes` is dense [rows, latents]. Tokens are the runs of three characters of their document's text."""
    position = (torch.nn.functional.one_hot(document).cumsum(0) - 1).gather(1, document[:, None])[:, 0]
    massive = torch.zeros(len(x), dtype=torch.bool) if massive is None else massive
    predicts = position % 7 != 6
    rest = Rest(x, predicts, torch.linspace(1, 2, len(x)) * predicts)
    span = torch.stack((3 * position, 3 * position + 3), dim=1)
    return whole(Text(x, document, position, position % 50, span, massive, texts, rest, embed), x_hat, ragged(codes))


def whole(text: Text, x_hat: Tensor, codes: Codes) -> Batch:
    """A batch whose prefixes are those of codes on `ROWS`, one row and one code at a time; from the budget RANK on all enter together."""

    def prefixes() -> Prefixes:
        if text.x.shape[1] != D:  # cases by hand in fewer dimensions, of other metrics
            raise AssertionError("ROWS do not fit these rows")
        after, ends = [], codes.offsets.tolist()
        for row, (start, end) in enumerate(itertools.pairwise(ends)):
            sums = (codes.values[start:end, None].double() * ROWS[codes.latents[start:end]]).cumsum(0)
            after.append((text.x[row].double() - sums).square().sum(1))
        enters = torch.cat([torch.arange(1, length + 1).clamp_max(RANK) for length in codes.lengths().tolist()])
        return Prefixes(enters, text.x.double().square().sum(1), torch.cat(after))

    return Batch(text, x_hat, codes, prefixes)


def ragged(dense: Tensor) -> Codes:
    """The nonzero codes of each row, largest first."""
    order = dense.argsort(dim=1, descending=True)
    values = dense.gather(1, order)
    offsets = torch.nn.functional.pad((values > 0).sum(1).cumsum(0), (1, 0))
    return Codes(values[values > 0], order[values > 0], offsets)


def turned(word: str, places: int) -> str:
    """Another word for each document, so that none is a near-duplicate of another."""
    return "".join(chr((ord(letter) - ord("a") + places) % 26 + ord("a")) for letter in word.lower())


def in_string(text: str, start: int) -> bool:
    """Whether the token of three characters that starts there touches a string."""
    return any(found.start() < start + 3 and start < found.end() for found in STRING.finditer(text))


def made_up(seed: int = 0, rows: int = 100, documents: int = DOCUMENTS) -> Batch:
    """Documents of `rows` rows each, in turns; one row in twenty is massive; codes are random, as often as 1 / latent. x shows which rows are in strings."""
    random = torch.Generator().manual_seed(seed)
    count = rows * documents
    x = torch.randn(count, D, generator=random) + 2
    texts = [re.sub(r"\b(Text|it|A|f|x|note|on|g|word|h|b)\b", lambda found, index=index: turned(found[0], index), SOURCE) for index in range(documents)]
    x[:, 0] += 6 * torch.tensor([in_string(texts[row % documents], 3 * (row // documents)) for row in range(count)])
    massive = torch.arange(count) % 20 == 7
    x[massive] *= 50
    x_hat = x + 0.5 * torch.randn(count, D, generator=random)
    codes = torch.rand(count, LATENTS, generator=random) * (torch.rand(count, LATENTS, generator=random) < 1 / torch.arange(1, LATENTS + 1))
    codes[:, 20] = 0  # a dead latent, and one that fires on massive rows only
    codes[:, 21] = massive.float()
    return read(x, x_hat, torch.arange(count) % documents, codes, texts, massive)


def part(batch: Batch, rows: Tensor) -> Batch:
    """Some rows of a batch, in the order given."""
    text, dense = batch.text, torch.zeros(len(batch.x_hat), LATENTS)
    owners = torch.arange(len(dense)).repeat_interleave(batch.codes.lengths())
    dense[owners, batch.codes.latents] = batch.codes.values
    rest = Rest(text.x[rows], text.model.predicts[rows], text.model.clean[rows])
    fields = (text.x, text.document, text.position, text.token, text.span, text.massive)
    return whole(Text(*(field[rows] for field in fields), text.texts, rest, text.embed), batch.x_hat[rows], ragged(dense[rows]))


def measured(name: str, batches: list[Batch], documents: int = DOCUMENTS, norms: Tensor | None = None) -> Metric:
    """A metric that has seen all batches."""
    rows = torch.cat([batch.text.document for batch in batches]).bincount(minlength=documents)
    d, statistics = batches[0].text.x.shape[1], Statistics(torch.full((batches[0].text.x.shape[1],), 2.0), SPECTRUM[: batches[0].text.x.shape[1]].diag())
    setting = Setting(d, LATENTS, LATENTS, documents, RANK, tuple(rows.tolist()), norms, statistics, W_dec=ROWS[:, :d], b_dec=statistics.mean)
    metric = plugins.metric(name)(setting)
    for batch in batches:
        metric.update(batch)
    return metric


def numbers(name: str, batch: Batch, weights: Tensor | None = None) -> Mapping[str, float | Missing]:
    """What a metric says of one batch."""
    return measured(name, [batch]).result(weights)
