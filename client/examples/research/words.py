"""The words of questions and texts, by which pages are found and sentences chosen."""

import re
from collections.abc import Sequence

__all__ = ["count", "words_of"]

COMMON = frozenset(["does", "from", "have", "modules", "that", "there", "what", "when", "where", "which", "with"])
"""Words of questions that are in nearly every page."""


def words_of(question: str) -> list[str]:
    """Return the words of a question, without endings: `compressing` also finds `compress` and `compressed`."""
    words = re.findall(r"[a-z]{4,}", question.lower())
    return [re.sub(r"(ing|ed|es|s)$", "", word) for word in words if word not in COMMON]


def count(words: Sequence[str], text: str) -> int:
    """Return how many of the words are in a text."""
    lower = text.lower()
    return sum(word in lower for word in words)
