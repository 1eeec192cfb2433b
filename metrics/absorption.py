"""Feature absorption: where a label's own latents fall silent on one kind of its rows, and another latent carries the label's direction."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk.absorbing import Absorbed, Main, Pair, absorbed, main_latents, pairs
from sae_bench_htopk.contract import Batch, Column, Metric, Missing, Setting
from sae_bench_htopk.labels import Labels
from sae_bench_htopk.questions import Questions, questions_of
from sae_bench_htopk.sample import SampledCodes, rows_of, sampled

ROWS = 12_000
SHOWN = 5  # absorbing latents in the details of each group of rows
KINDS = ("rows", "silent", "absorbed", "fraction")
GROUPS = ("inside", "rest")  # rows with the inner label, and rows with none that is within the outer one


class Told(NamedTuple):
    """One SAE on one pair of labels."""

    pair: Pair
    main: Main
    found: Absorbed
    counts: Float[np.ndarray, "documents groups kinds"]  # sums over rows, by `GROUPS` and `KINDS`


class Absorption(Metric):
    """Feature absorption: how often a label's main latents are silent on rows of a label within it, while another latent carries the label's direction."""

    columns = (
        Column("absorption", "lower", "rows of a label within another (docstring, in string) where all main latents of the outer one are silent and one other "
               "latent carries its direction",
               formula="mean over pairs of the share of rows, of those a probe on x gets right, with no main latent and max a (w . p) >= 0.4 total, its "
               "cosine(w, p) >= 0.025, (x - b_dec) . p > 0; total = max(sum a (w . p), (x - b_dec) . p); p: weights, of length 1, of a logistic regression "
               "on x; pairs whose probe has F1 > 0.6 and gets 20 rows of 3 documents with the inner label right, and whose outer label has a main latent; "
               "these are chosen on rows without the inner label",
               source="Chanin et al. 2024 (arXiv:2409.14507) as SAEBench (arXiv:2503.09532) has it; labels, how main latents are chosen, the 20 rows, and "
               "b_dec and the codes' own sum in the total, which is x . p there: ours",
               pitfall="an SAE whose codes carry little of the direction, as an undertrained one, or whose main latents are broad by chance, looks good; main "
               "latents fire more easily among more codes: compare at equal L0; one latent for each inner label and none for the outer one counts too, and "
               "shows in absorption_rest; made for language models of 1B parameters and dictionaries of 16k latents or more: on smaller ones read it beside "
               "the controls", paired=True),
        Column("absorption_fraction", "lower", "the same by degrees: how much of the direction up to 3 other latents carry, beside main latents that may fire",
               formula="mean over pairs and rows of o / (o + m), m and o: a (w . p) summed over main latents, over the 3 others of cosine >= 0.1 that carry "
               "most, with o <= total - m; 0 where o < 0.4 total or m >= total; total as in absorption", source="SAEBench (arXiv:2503.09532); "
               "ours: as absorption", pitfall="as absorption"),
        Column("silent", "neither", "rows of these where all main latents are silent, absorbed or not: what absorption could come to",
               formula="mean over pairs of the share of rows", source="ours", pitfall="main latents that are bad are silent often, and everywhere"),
        Column("absorption_rest", "neither", "absorption on rows of the outer labels that carry none within them: what comes of bad main latents, or of none "
               "for the outer label as such", formula="as absorption, over the pairs that have such rows", source="ours"),
    )  # fmt: skip

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.codes, self.texts = SampledCodes.empty(ROWS), tuple[str, ...]()
        self.labels: Labels | None = None
        self.known: tuple[Questions, list[Told]] | Missing | None = None

    @classmethod
    def kept_bytes(cls, setting: Setting) -> tuple[int, int]:
        """The codes of the sample, of which up to twice as many rows are held until it is cut."""
        return 2 * ROWS * 12 * (setting.k or 0), 0

    def update(self, batch: Batch) -> None:
        """Keeps the codes of the rows that enter the sample; massive rows never do."""
        self.codes = sampled(self.codes, batch.text, batch.codes)
        self.texts, self.labels, self.known = tuple(batch.text.texts), batch.text.labels, None

    def told(self) -> tuple[Questions, list[Told]] | Missing:
        """What happened on every row, found once whatever weights are asked for, or the reason why nothing can be."""
        if self.known is None:
            self.known = self.find()
        return self.known

    def find(self) -> tuple[Questions, list[Told]] | Missing:
        """Main latents of every family, and what became of its direction on its rows."""
        if self.setting.W_dec is None or self.setting.b_dec is None:
            return Missing("the decoder or its bias is not known, so neither is what a latent carries, and of what")
        questions = questions_of(self.codes.sample, self.texts, self.labels)
        if isinstance(questions, Missing):
            return questions
        found = pairs(self.codes.sample, questions)
        if isinstance(found, Missing):
            return found
        told = self.of_pairs(found, questions, self.setting.W_dec.detach().float(), self.setting.b_dec.detach().cpu().double().numpy())
        return (questions, told) if told else Missing("no latent fires more on the rows of an outer label than on others")

    def of_pairs(self, found: tuple[Pair, ...], questions: Questions, W: Float[Tensor, "latents d"], b: Float[np.ndarray, " d"]) -> list[Told]:
        """All pairs whose outer label has a main latent."""
        norms = W.norm(dim=1).cpu().double().numpy()
        directions = torch.from_numpy(np.stack([pair.direction for pair in found])).to(W)
        carried, matrix = (W @ directions.T).cpu().double().numpy(), self.codes.matrix(self.setting.latents)[questions.rows]
        told = []
        for pair, carries in zip(found, carried.T, strict=True):
            if (main := main_latents(matrix, norms, questions, pair)).latents:
                cosine = np.divide(carries, norms, out=np.zeros_like(carries), where=norms > 0)
                codes, on_x = rows_of(self.codes.codes, questions.rows[pair.rows]), pair.on_x - float(b @ pair.direction)
                result = absorbed(codes, carries, cosine, main.latents, on_x)
                told.append(Told(pair, main, result, self.counted(pair, result, questions)))
        return told

    def counted(self, pair: Pair, found: Absorbed, questions: Questions) -> Float[np.ndarray, "documents groups kinds"]:
        """Sums over the rows of each document and group."""
        counts = np.zeros((self.setting.documents, len(GROUPS), len(KINDS)))
        rows = np.stack((np.ones(len(found.full)), found.silent, found.full, found.fraction), axis=1)
        np.add.at(counts, (questions.document[pair.rows], np.where(pair.inside, 0, 1)), rows)
        return counts

    def result(self, weights: Float[Tensor, " documents"] | None) -> Mapping[str, float | Missing]:
        """Rows count by their documents' weights; probes and main latents stay as they are."""
        return self.results((torch.ones(self.setting.documents) if weights is None else weights)[None])[0]

    def results(self, draws: Float[Tensor, "draws documents"]) -> list[Mapping[str, float | Missing]]:
        """Means over the pairs that have rows of any weight."""
        told = self.told()
        if isinstance(told, Missing):
            return [{column.name: told for column in self.columns} for _ in draws]
        sums = np.tensordot(draws.cpu().double().numpy(), np.stack([one.counts for one in told[1]], axis=1), 1)
        inside, rest = sums[:, :, 0], sums[:, :, 1]
        answers = [means(inside, kind) for kind in ("absorbed", "fraction", "silent")] + [means(rest, "absorbed")]
        return [dict(zip((column.name for column in self.columns), row, strict=True)) for row in zip(*answers, strict=True)]

    def details(self) -> Mapping[str, Any]:
        """For each label within another the other's main latents, what became of the rows, and which latents absorb them."""
        told = self.told()
        return {} if isinstance(told, Missing) else {told[0].labels[one.pair.inner].name: shown(one, told[0]) for one in told[1]}


def means(sums: Float[np.ndarray, "draws pairs kinds"], kind: str) -> list[float | Missing]:
    """For each draw the mean over pairs of the share of rows."""
    rows, wanted = sums[:, :, 0], sums[:, :, KINDS.index(kind)]
    shares, seen = np.divide(wanted, rows, out=np.zeros_like(rows), where=rows > 0), (rows > 0).sum(1)
    return [
        float(some.sum() / count) if count else Missing("no row of any weight that a probe on x gets right") for some, count in zip(shares, seen, strict=True)
    ]


def shown(told: Told, questions: Questions) -> dict[str, Any]:
    """The details of one pair."""
    pair, main = told.pair, told.main
    groups, shares = dict[str, Any](), dict[str, float | None]()
    for index, (name, here) in enumerate(zip(GROUPS, (pair.inside, ~pair.inside), strict=True)):
        counts = dict(zip(KINDS, told.counts[:, index].sum(0).tolist(), strict=True))
        by = Counter(told.found.strongest[here & told.found.full].tolist())
        absorbers = [[latent, count / counts["rows"]] for latent, count in sorted(by.items(), key=lambda each: (-each[1], each[0]))[:SHOWN]]
        whole = {kind: int(counts[kind]) for kind in ("rows", "silent", "absorbed")}
        shares["absorbed" if name == "inside" else f"absorbed_{name}"] = counts["absorbed"] / counts["rows"] if counts["rows"] else None
        groups[name] = {**whole, "fraction": counts["fraction"] / counts["rows"] if counts["rows"] else None, "absorbers": absorbers}
    return {"within": questions.labels[pair.outer].name, "main_latents": main.latents, "main_f1": main.f1, "f1_on_x": pair.f1, **shares, **groups}
