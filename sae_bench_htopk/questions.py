"""What every SAE is asked about a sample of held-out rows: which labels they carry, and in which third of the documents they stand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product

import numpy as np
from jaxtyping import Bool, Int

from sae_bench_htopk.contract import Missing
from sae_bench_htopk.labels import Label, Labels
from sae_bench_htopk.python_labels import PythonLabels
from sae_bench_htopk.sample import Sample, shuffled
from sae_bench_htopk.split import group_near_duplicates
from sae_bench_htopk.text import Document
from sae_bench_htopk.transcript import Transcript

CHOOSE, FIT, SCORE = 0, 1, 2  # the parts of the documents: no document is in two
LEAST = 30  # rows with a label, and rows asked without it, in each part of the documents
LEAST_DOCUMENTS = 3  # that these rows stand in, near-duplicates being one: what sets one document apart from others is no label
SHUFFLES = 3  # of the labels
PYTHON = PythonLabels()  # what a text says of itself where nobody labelled it


def groups_of(texts: Sequence[str]) -> Int[np.ndarray, " documents"]:
    """A number for each document that its near-duplicates have, too: from 0, by first document."""
    groups = group_near_duplicates([Document("", text, "") for text in texts])
    place = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    return np.array([place[group] for group in groups], dtype=np.int64)


def thirds(groups: Int[np.ndarray, " documents"]) -> Int[np.ndarray, " documents"]:
    """CHOOSE, FIT or SCORE for each document: a third of the groups of near-duplicates each, dealt out in shuffled order."""
    part = np.empty(groups.max(initial=-1) + 1, dtype=np.int64)
    part[shuffled(np.arange(len(part), dtype=np.uint64)).argsort()] = np.arange(len(part)) % 3
    return np.take(part, groups)


def parts(texts: Sequence[str]) -> Int[np.ndarray, " documents"]:
    """CHOOSE, FIT or SCORE for each document by its text."""
    return thirds(groups_of(texts))


@dataclass(frozen=True, eq=False)
class Questions:
    """What every SAE is asked: some rows, the labels that each carries, and the part of the documents that it is in."""

    labels: tuple[Label, ...]
    rows: Int[np.ndarray, " asked"]  # their places in the sample
    carries: Bool[np.ndarray, "asked labels"]
    document: Int[np.ndarray, " asked"]
    position: Int[np.ndarray, " asked"] | None  # in their documents; None where rows are whole documents
    groups: Int[np.ndarray, " documents"]  # a number that near-duplicates share

    @cached_property
    def parts(self) -> Int[np.ndarray, " documents"]:
        """CHOOSE, FIT or SCORE for each document."""
        return thirds(self.groups)

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

    def rows_of(self, label: int, *parts: int) -> Int[np.ndarray, " chosen"]:
        """The rows of some parts that a label is asked of."""
        return np.flatnonzero(self.asked(label) & np.isin((CHOOSE, FIT, SCORE), parts)[self.part])

    def sides(self, labels: Sequence[int], part: int) -> tuple[Bool[np.ndarray, "rows chosen"], Bool[np.ndarray, "rows chosen"]]:
        """Of the rows of one part, which carry each of some labels, and which are asked and do not."""
        here = self.part == part
        asked = np.stack([self.asked(label) for label in labels], axis=1)[here]
        carries = self.carries[here][:, labels]
        return asked & carries, asked & ~carries

    @cached_property
    def tellable(self) -> list[int]:
        """The labels that have enough rows of enough documents on both sides in each part."""
        return [label for label in range(len(self.labels)) if all(self.enough(label, part) for part in (CHOOSE, FIT, SCORE))]

    def enough(self, label: int, part: int) -> bool:
        """Whether a part has LEAST rows of LEAST_DOCUMENTS documents that carry a label, and as many that are asked and do not."""
        rows = self.rows_of(label, part)
        sides = (rows[self.carries[rows, label] == side] for side in (True, False))
        return all(len(side) >= LEAST and len(np.unique(self.groups[self.document[side]])) >= LEAST_DOCUMENTS for side in sides)

    @property
    def probed(self) -> list[int]:
        """Of these, the labels that probes are asked for: each that the token itself does not give away, and each asked of all rows."""
        return [label for label in self.tellable if self.labels[label].context or self.labels[label].within is None]

    @cached_property
    def shuffled(self) -> "tuple[Shuffled, ...]":
        """SHUFFLES times the same questions with answers that nothing can know."""
        random = np.random.default_rng(0)
        return tuple(Shuffled(self.labels, self.rows, self.dealt(random), self.document, self.position, self.groups, self) for _ in range(SHUFFLES))

    def dealt(self, random: np.random.Generator) -> Bool[np.ndarray, "asked labels"]:
        """Each label dealt out anew, within each part, among the rows that it is asked of: moved on together, so that runs of rows stay runs.

        Rows of a document are alike and so are their labels: dealt out one by one, labels would be told by chance far less than true ones
        are. Whole documents have no neighbours, and their labels are dealt out one by one.
        """
        dealt = self.carries.copy()
        for label, part in product(range(len(self.labels)), (CHOOSE, FIT, SCORE)):
            rows = self.rows_of(label, part)
            if self.position is None:
                dealt[rows, label] = random.permutation(self.carries[rows, label])
                continue
            rows = rows[np.lexsort((self.position[rows], self.document[rows]))]
            quarter = len(rows) // 4  # the least that labels move, round the part's end: nearer they would still be true
            dealt[rows, label] = np.roll(self.carries[rows, label], random.integers(quarter, max(len(rows) - quarter, quarter + 1)))
        return dealt


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
    carries, known = answers(rows.document, rows.span, texts, source)
    if not known.any():
        return Missing("no held-out document has labels: none is Python source whose tokens have a known place in it, and nobody else labelled it")
    return worth_asking(Questions(source.labels, np.flatnonzero(known), carries[known], rows.document[known], rows.position[known], groups_of(texts)))


def answers(
    document: Int[np.ndarray, " rows"], span: Int[np.ndarray, "rows 2"], texts: Sequence[str], labels: Labels
) -> tuple[Bool[np.ndarray, "rows labels"], Bool[np.ndarray, " rows"]]:
    """Which labels each row carries, and whether anything is known of it."""
    carries, known = np.zeros((len(document), len(labels.labels)), dtype=bool), np.zeros(len(document), dtype=bool)
    placed = np.flatnonzero(span[:, 0] < span[:, 1])
    placed = placed[document[placed].argsort(kind="stable")]
    for here in np.split(placed, np.flatnonzero(np.diff(document[placed])) + 1):
        found = labels.of(int(document[here[0]]), texts[document[here[0]]], span[here]) if len(here) else None
        if found is not None:
            carries[here], known[here] = found, True
    return carries, known


def of_every_token(questions: Questions, transcript: Transcript, texts: tuple[str, ...], labels: Labels | None) -> Questions:
    """The same questions of all tokens that were shown of documents that are not scored: the rows are places in `transcript.sorted`."""
    shown = transcript.sorted[1]
    rows = np.flatnonzero(questions.parts[shown.document] != SCORE)
    carries, known = answers(shown.document[rows], shown.span[rows], texts, PYTHON if labels is None else labels)
    rows = rows[known]
    return replace(questions, rows=rows, carries=carries[known], document=shown.document[rows], position=shown.position[rows])


def questions_of_documents(documents: Int[np.ndarray, " shown"], texts: tuple[str, ...], labels: Labels) -> Questions | Missing:
    """The labels of whole documents: of those that were shown, each that has any is one row."""
    found = {int(document): labels.of(int(document), texts[document], np.array([[0, len(texts[document])]])) for document in documents}
    known = np.array([document for document, carries in found.items() if carries is not None], dtype=np.int64)
    if not len(known):
        return Missing("no held-out document has labels")
    return worth_asking(Questions(labels.labels, known, np.concatenate([found[document] for document in known.tolist()]), known, None, groups_of(texts)))


def worth_asking(questions: Questions) -> Questions | Missing:
    """The questions, if any label has enough rows."""
    if not questions.tellable:
        wanted = f"at least {LEAST} sampled rows, of {LEAST_DOCUMENTS} documents, of each third"
        return Missing(f"no label is on and off in {wanted} of the {len(questions.parts)} documents")
    return questions
