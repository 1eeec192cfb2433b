"""A text as metrics are shown it: its windows of tokens, what its documents say there, and who knows its labels."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sae_bench_htopk.document_classes import Classes
from sae_bench_htopk.labelled_text import read
from sae_bench_htopk.labels import Labels
from sae_bench_htopk.tagged_words import Tagged
from sae_bench_htopk.text import Document, TextError
from sae_bench_htopk.windows import Cut, Encode, Window


class Shown(NamedTuple):
    """One text: held out, or labelled."""

    windows: list[Window]
    texts: list[str]
    labels: Labels | None = None

    @property
    def tokens(self) -> int:
        """How many there are in all windows."""
        return sum(len(window.ids) for window in self.windows)


def labelled(texts: Mapping[str, Classes | Tagged], encode: Encode, context: int) -> dict[str, Shown]:
    """Reads labelled texts, by name, and cuts the beginning of each document into windows. Raises TextError if one cannot be read."""
    return {name: shown(text, name, encode, context) for name, text in texts.items()}


def shown(text: Classes | Tagged, name: str, encode: Encode, context: int) -> Shown:
    """One labelled text: of each document no more than its first `length` tokens, and what these say.

    Near-duplicates are told by what is returned here: documents that open alike and differ later are one and the same to what is measured.
    """
    found, seen = read(text, name), dict[str, str]()

    def beginning(document: str) -> tuple[np.ndarray, np.ndarray]:
        ids, spans = encode(document)
        if spans is None:
            raise TextError(f"labelled.{name}: the tokenizer does not say where in a text its tokens stand, wanted one that does")
        seen[document] = document[: spans[: text.length, 1].max(initial=0)]
        return ids[: text.length], spans[: text.length]

    windows = list(Cut((Document(str(number), each, name) for number, each in enumerate(found.texts)), beginning, context))
    if not windows:
        raise TextError(f"labelled.{name}: its {len(found.texts)} documents hold no token")
    return Shown(windows, [seen[each] for each in found.texts], found.labels)
