"""Edits of a text: take words out, and mend the grammar of the rest."""

from __future__ import annotations

import re
from collections.abc import Sequence

from safegen.reader.grammar import agree
from safegen.reader.words import whole


def without(prompt: str, spans: Sequence[tuple[int, int]]) -> str:
    """Take the characters of `spans` out of the prompt, with the combining marks on their last letters.

    Spans may overlap.
    """
    gone = {place for span in spans for place in range(*whole(prompt, span))}
    return " ".join("".join(letter for place, letter in enumerate(prompt) if place not in gone).split())


def tidy(text: str) -> str:
    """Mend the grammar after words were taken out: no article or link without its noun, no doubled comma."""
    articles, links = r"(?:an?|the)", r"(?:and|with|of|next to|beside|near|by|or)"
    before = ""
    while text != before:
        before = text
        text = re.sub(rf"\b{articles}\s+(?={links}\b|in\b|on\b|at\b|,|$)", "", text)
        text = re.sub(rf"\b{links}\s+(?={links}\b|in\b|on\b|at\b|,|$)", "", text)
        text = re.sub(rf"(^|,)\s*{links}\b", r"\1", text)
        text = re.sub(rf"\b(?:{articles}|{links}|in|on|at)\s*$", "", text)
        text = re.sub(r"\s*,[\s,]*", ", ", text).strip(" ,")
        text = " ".join(text.split())
    return agree(text)
