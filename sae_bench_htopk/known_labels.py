"""Labels that a data set gives: each document's class, or each word's tag, asked of the tokens that stand there.

A suite that names a labelled text asks for its labels, so all of them are in the headline on that text; how far tokens alone tell them is
measured beside it.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from sae_bench_htopk.labels import Label


class DocumentClasses:
    """One class for each document, which all of its tokens carry."""

    whole = True

    def __init__(self, classes: Sequence[str], members: Sequence[int]) -> None:
        """`members` has the place of each document's class among `classes`."""
        self.labels = tuple(Label(name, f"in a document of the class {name}") for name in classes)
        self.members = np.array(members, dtype=np.int64)

    def of(self, document: int, text: str, span: Int[np.ndarray, "tokens 2"]) -> Bool[np.ndarray, "tokens labels"]:
        """Those of the document, for each token."""
        return np.tile(np.arange(len(self.labels)) == self.members[document], (len(span), 1))


class WordTags:
    """A label for some of the words of each document, whose text is the words with a space between."""

    whole = False

    def __init__(self, names: Sequence[str], words: Sequence[Sequence[str]], tags: Sequence[Sequence[int | None]]) -> None:
        """`tags` has the place of each word's label among `names`, None for a word without one."""
        self.labels = tuple(Label(name, f"in a word with the tag {name}, which the token itself may give away") for name in names)
        lengths = [np.array([len(word) for word in each], dtype=np.int64) for each in words]
        self.ends = [(each + 1).cumsum() - 1 for each in lengths]
        self.starts = [end - length for end, length in zip(self.ends, lengths, strict=True)]
        self.tags = [np.array([len(names) if tag is None else tag for tag in each], dtype=np.int64) for each in tags]

    def of(self, document: int, text: str, span: Int[np.ndarray, "tokens 2"]) -> Bool[np.ndarray, "tokens labels"]:
        """The label of the first word that each token overlaps; none where it overlaps no word."""
        starts, ends, tags = self.starts[document], self.ends[document], self.tags[document]
        first = np.searchsorted(ends, span[:, 0], side="right")  # the first word that ends after the token begins
        beyond = first == len(ends)
        word = np.where(beyond, 0, first)
        overlaps = ~beyond & (starts[word] < span[:, 1]) & (span[:, 0] < span[:, 1])
        carries: np.ndarray = overlaps[:, None] & (tags[word][:, None] == np.arange(len(self.labels)))
        return carries
