"""What every SAE is asked about a sample of held-out rows: which labels they carry, and in which third of the documents they stand."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Bool, Int

from sae_bench_htopk.contract import Missing
from sae_bench_htopk.labels import Label, Labels
from sae_bench_htopk.python_labels import PythonLabels
from sae_bench_htopk.sample import Sample, shuffled
from sae_bench_htopk.split import group_near_duplicates
from sae_bench_htopk.text import Document

CHOOSE, FIT, SCORE = 0, 1, 2  # the parts of the documents: no document is in two
LEAST = 30  # rows with a label, and rows asked without it, in each part of the documents
PYTHON = PythonLabels()  # what a text says of itself where nobody labelled it


def parts(texts: Sequence[str]) -> Int[np.ndarray, " documents"]:
    """CHOOSE, FIT or SCORE for each document: a third of the groups of near-duplicates each, dealt out in shuffled order."""
    groups = group_near_duplicates([Document("", text, "") for text in texts])
    place = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    part = np.empty(len(place), dtype=np.int64)
    part[shuffled(np.arange(len(place), dtype=np.uint64)).argsort()] = np.arange(len(place)) % 3
    return part[[place[group] for group in groups]]


@dataclass(frozen=True, eq=False)
class Questions:
    """What every SAE is asked: some rows, the labels that each carries, and the part of the documents that it is in."""

    labels: tuple[Label, ...]
    rows: Int[np.ndarray, " asked"]  # their places in the sample
    carries: Bool[np.ndarray, "asked labels"]
    document: Int[np.ndarray, " asked"]
    parts: Int[np.ndarray, " documents"]  # CHOOSE, FIT or SCORE for each document

    @cached_property
    def part(self) -> Int[np.ndarray, " asked"]:
        """CHOOSE, FIT or SCORE for each row."""
        return np.take(self.parts, self.document)

    def number(self, name: str) -> int:
        """The place of a label by its name."""
        return [label.name for label in self.labels].index(name)

    def asked(self, label: int) -> Bool[np.ndarray, " asked"]:
        """The rows that a label is asked of: all, or those that carry the label that it is within."""
        within = self.labels[label].within
        return np.ones(len(self.rows), dtype=bool) if within is None else self.carries[:, self.number(within)]

    def rows_of(self, label: int, part: int) -> Int[np.ndarray, " chosen"]:
        """The rows of one part that a label is asked of."""
        return np.flatnonzero(self.asked(label) & (self.part == part))

    def sides(self, labels: Sequence[int], part: int) -> tuple[Bool[np.ndarray, "rows chosen"], Bool[np.ndarray, "rows chosen"]]:
        """Of the rows of one part, which carry each of some labels, and which are asked and do not."""
        here = self.part == part
        asked = np.stack([self.asked(label) for label in labels], axis=1)[here]
        carries = self.carries[here][:, labels]
        return asked & carries, asked & ~carries

    @cached_property
    def fewest(self) -> Int[np.ndarray, " labels"]:
        """The least number of rows with a label, or of those asked without it, in any part."""
        found = []
        for label in range(len(self.labels)):
            asked, carries = self.asked(label), self.carries[:, label]
            found.append(min(int((side & (self.part == which)).sum()) for side in (asked & carries, asked & ~carries) for which in (CHOOSE, FIT, SCORE)))
        return np.array(found, dtype=np.int64)

    @property
    def tellable(self) -> list[int]:
        """The labels that have enough rows on both sides in each part."""
        return [label for label, rows in enumerate(self.fewest) if rows >= LEAST]

    @property
    def probed(self) -> list[int]:
        """Of these, the labels that probes are asked for: each that the token itself does not give away, and each asked of all rows."""
        return [label for label in self.tellable if self.labels[label].context or self.labels[label].within is None]

    @cached_property
    def shuffled(self) -> "Shuffled":
        """The same questions with each label dealt out anew, within each part, among the rows that it is asked of: answers that nothing can know."""
        dealt, random = self.carries.copy(), np.random.default_rng(0)
        for label in range(len(self.labels)):
            for part in (CHOOSE, FIT, SCORE):
                rows = self.rows_of(label, part)
                dealt[rows, label] = random.permutation(self.carries[rows, label])
        return Shuffled(self.labels, self.rows, dealt, self.document, self.parts, self)


@dataclass(frozen=True, eq=False)
class Shuffled(Questions):
    """Questions whose labels are dealt out anew; each is asked of the same rows as before."""

    true: Questions

    def asked(self, label: int) -> Bool[np.ndarray, " asked"]:
        """As in the questions that these were made of."""
        return self.true.asked(label)


@lru_cache(maxsize=2)
def questions_of(sample: Sample, texts: tuple[str, ...], labels: Labels | None) -> Questions | Missing:
    """The labels of the sampled rows that have any: those in documents of which something is known, whose place in the document is known."""
    source = PYTHON if labels is None else labels
    if not sample.pieces or not len(sample.order):
        return Missing("no held-out text")
    rows = sample.rows
    carries, known = np.zeros((len(rows.key), len(source.labels)), dtype=bool), np.zeros(len(rows.key), dtype=bool)
    for document in np.unique(rows.document):
        here = np.flatnonzero((rows.document == document) & (rows.span[:, 0] < rows.span[:, 1]))
        found = source.of(int(document), texts[document], rows.span[here])
        if found is not None:
            carries[here], known[here] = found, True
    if not known.any():
        return Missing("no held-out document has labels: none is Python source whose tokens have a known place in it, and nobody else labelled it")
    return worth_asking(Questions(source.labels, np.flatnonzero(known), carries[known], rows.document[known], parts(texts)))


def questions_of_documents(documents: Int[np.ndarray, " shown"], texts: tuple[str, ...], labels: Labels) -> Questions | Missing:
    """The labels of whole documents: of those that were shown, each that has any is one row."""
    found = {int(document): labels.of(int(document), texts[document], np.array([[0, len(texts[document])]])) for document in documents}
    known = np.array([document for document, carries in found.items() if carries is not None], dtype=np.int64)
    if not len(known):
        return Missing("no held-out document has labels")
    return worth_asking(Questions(labels.labels, known, np.concatenate([found[document] for document in known.tolist()]), known, parts(texts)))


def worth_asking(questions: Questions) -> Questions | Missing:
    """The questions, if any label has enough rows."""
    if not questions.tellable:
        return Missing(f"no label is on and off in at least {LEAST} sampled rows of each third of the {len(questions.parts)} documents")
    return questions
