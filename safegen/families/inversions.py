"""Textual inversions: a token of several vectors is several tokens to the encoder, and one word to a reader.

For every name of several vectors diffusers writes the names of the others behind it before it encodes
(`maybe_convert_prompt`). What it wrote there spells the name in the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from safegen.conditioning import Token
from safegen.errors import ModelError
from safegen.families.tokens import Text, tokens


def added(tokenizer: Any) -> int:
    """How many tokens stand behind all that the tokenizer came with: those that were added for inversions."""
    known = tokenizer.added_tokens_decoder
    last = max((number for number, token in known.items() if token.special), default=-1)
    return sum(not token.special and number > last for number, token in known.items())


def names(tokenizer: Any) -> list[str]:
    """Name the inversions, in letters as they were added; those of several vectors once."""
    known = [token.content for token in tokenizer.added_tokens_decoder.values() if not token.special]
    further = {f"{name}_{count}" for name in known for count in range(1, len(known))}
    return [name for name in known if name not in further]


def converted(pipe: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """The prompts as the pipeline hands them to a tokenizer."""
    if not hasattr(pipe, "maybe_convert_prompt") or not _behind(tokenizer):
        return list(prompts)  # as it would, but it takes every prompt apart first
    return list(pipe.maybe_convert_prompt(list(prompts), tokenizer))


def tokens_read(pipe: Any, tokenizer: Any, texts: Sequence[Text], longest: int) -> list[tuple[Token, ...]]:
    """`tokens` of the texts as the pipeline reads them, with spans in the prompts as they were typed.

    Raises:
        ModelError: what the pipeline made of a prompt cannot be traced back to it.
    """
    behind = _behind(tokenizer) if hasattr(pipe, "maybe_convert_prompt") else {}
    if not behind:
        return tokens(tokenizer, texts, longest)
    wholes = converted(pipe, tokenizer, [text.whole for text in texts])
    rows = tokens(tokenizer, [Text.plain(whole) for whole in wholes], longest)
    places = [_places(text.whole, whole, behind) for text, whole in zip(texts, wholes, strict=True)]
    return [tuple(_placed(token, where) for token in row) for row, where in zip(rows, places, strict=True)]


def _behind(tokenizer: Any) -> dict[str, str]:
    """By the name of every inversion of several vectors, what is written behind it; long names first."""
    known = tokenizer.added_tokens_encoder
    found: dict[str, str] = {}
    for name in sorted(known, key=len, reverse=True):
        count = 1
        while f"{name}_{count}" in known:
            found[name] = f"{found.get(name, '')} {name}_{count}"
            count += 1
    return found


def _places(prompt: str, whole: str, behind: Mapping[str, str]) -> list[tuple[int, int]]:
    """For every character of what is read, those of the prompt that it stands for; and for the end."""
    places: list[tuple[int, int]] = []
    at, written = 0, -1
    while len(places) < len(whole):
        names = (n for n, tail in behind.items() if prompt.endswith(n, 0, at) and whole.startswith(tail, len(places)))
        name = next(names, None) if written != at else None
        if name is not None:
            places += [(at - len(name), at)] * len(behind[name])
            written = at
        elif at < len(prompt) and prompt[at] == whole[len(places)]:
            places.append((at, at + 1))
            at += 1
        else:
            break
    if len(places) < len(whole) or at < len(prompt):
        raise ModelError(
            f"the names of several textual inversions lie inside one another: {', '.join(sorted(behind))}",
            "Give them names that do not; what the encoder reads could not be told from the prompt.",
        )
    return [*places, (at, at)]


def _placed(token: Token, places: Sequence[tuple[int, int]]) -> Token:
    if token.span is None:
        return token
    start, end = token.span
    last = places[end - 1][1] if end > start else places[start][0]
    return replace(token, span=(places[start][0], last))
