"""Whether a passage contains an answer, by DPR's rule: what "top-k accuracy" on Natural Questions counts.

Text and answer are NFD-normalised, cut into tokens (runs of letters, digits and marks; any other visible character alone) and
lower-cased; an answer is there when its tokens follow one another in the text's. Only a passage's text counts, not its title.
Knows no run and no measure. (Source: DPR, dpr/data/qa_validation.py and dpr/utils/tokenizers.py.)
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import regex

TOKEN = regex.compile(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]")


class Answers:
    """The answers of one question, ready to be looked for in many texts."""

    def __init__(self, answers: Sequence[str]) -> None:
        self._wanted = [_joined(answer) for answer in answers]

    def are_in(self, text: str) -> bool:
        """Whether any of them is in the text. An answer without a token is in every text, as it is for DPR."""
        tokens = _joined(text)
        return any(wanted in tokens for wanted in self._wanted)


def _joined(text: str) -> str:
    """The tokens, each followed by a space, after a space: one sequence lies in another where its string does."""
    return " " + "".join(f"{token} " for token in TOKEN.findall(unicodedata.normalize("NFD", text))).lower()
