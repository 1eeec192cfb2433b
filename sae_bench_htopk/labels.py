"""What a probe can be asked of a token, or of a whole document: labels with a meaning, and who can say where they hold."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int


class Label(NamedTuple):
    """One yes-or-no question about a token."""

    name: str
    meaning: str
    context: bool = True  # whether it is in the headline: it takes more than the token itself to tell, or a suite chose its text for it
    within: str | None = None  # the label whose rows alone are asked, or None for all rows


@runtime_checkable
class Labels(Protocol):
    """Who knows the labels of a text."""

    labels: tuple[Label, ...]
    whole: bool  # whether they are those of whole documents (topic, language): then `of` says the same of every token of one

    def __hash__(self) -> int:
        """By identity, so that what is asked of a text is worked out once."""

    def of(self, document: int, text: str, span: Int[np.ndarray, "tokens 2"]) -> Bool[np.ndarray, "tokens labels"] | None:
        """Which labels each token carries, by its first and last+1 character in the text of the document; None if nothing is known of this one."""
