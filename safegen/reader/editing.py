"""Edits of a text: take words out, and mend the grammar of the rest."""

from __future__ import annotations

import re
from collections.abc import Sequence

from safegen.reader.words import whole


def without(prompt: str, spans: Sequence[tuple[int, int]]) -> str:
    """Take the characters of `spans` out of the prompt, with the combining marks on their last letters."""
    for start, end in sorted((whole(prompt, span) for span in spans), reverse=True):
        prompt = prompt[:start] + prompt[end:]
    return " ".join(prompt.split())


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
    text = re.sub(r"\ban(?= [^aeiouh\W])", "a", text)
    return re.sub(r"\ba(?= [aeio])", "an", text)
