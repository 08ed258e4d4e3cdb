"""Textual inversions: one with several vectors is several tokens to the encoder, and one word to people.

Diffusers' `maybe_convert_prompt` is meant to write the names of the other vectors after the name of the first. It
looks for that name in the letters in which it was added. But most tokenizers lower-case what they read, names of
inversions included. So a name with a capital is never found, and only the first vector is read. `spell_out` asks the
tokenizer instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, overload

from safegen.conditioning import Token
from safegen.errors import ModelError
from safegen.families.tokens import Text, tokens

Span = tuple[int, int]


def count_added(tokenizer: Any) -> int:
    """Count the tokens that were added for inversions: those after the tokenizer's own."""
    known = tokenizer.added_tokens_decoder
    last = max((number for number, token in known.items() if token.special), default=-1)
    return sum(not token.special and number > last for number, token in known.items())


def found(tokenizer: Any, text: str) -> list[Span]:
    """Find the inversions in a text, in any letters that the tokenizer takes for their names."""
    learned = {number for number, token in tokenizer.added_tokens_decoder.items() if not token.special}
    return [span for number, span in _read(tokenizer, text) if number in learned] if learned else []


@overload
def spell_out(prompt: str, tokenizer: Any) -> str: ...
@overload
def spell_out(prompt: list[str], tokenizer: Any) -> list[str]: ...
def spell_out(prompt: str | list[str], tokenizer: Any) -> str | list[str]:
    """Write the names of the other vectors after the name of the first; replaces `maybe_convert_prompt`."""
    if not isinstance(prompt, str):
        return [spell_out(one, tokenizer) for one in prompt]
    whole, at = "", 0
    for (_, end), tail in _written(tokenizer, prompt):
        whole, at = f"{whole}{prompt[at:end]}{tail}", end
    return whole + prompt[at:]


def convert(pipe: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """Give the prompts as the pipeline hands them to a tokenizer."""
    if not hasattr(pipe, "maybe_convert_prompt") or not _behind(tokenizer):
        return list(prompts)  # the pipeline would give the same, but slowly
    return list(pipe.maybe_convert_prompt(list(prompts), tokenizer))


def tokens_read(pipe: Any, tokenizer: Any, texts: Sequence[Text], longest: int) -> list[tuple[Token, ...]]:
    """Give the `tokens` of the texts as the pipeline reads them, with spans in the prompts as they were typed.

    Raises:
        ModelError: the pipeline's text cannot be traced back to the prompt.
    """
    if not hasattr(pipe, "maybe_convert_prompt") or not _behind(tokenizer):
        return tokens(tokenizer, texts, longest)
    wholes = convert(pipe, tokenizer, [text.whole for text in texts])
    rows = tokens(tokenizer, [Text.plain(whole) for whole in wholes], longest)
    places = [_places(tokenizer, text.whole, whole) for text, whole in zip(texts, wholes, strict=True)]
    return [tuple(_placed(token, where) for token in row) for row, where in zip(rows, places, strict=True)]


def _behind(tokenizer: Any) -> dict[int, str]:
    """Give the text to write after every inversion of several vectors, by the inversion's first token."""
    known = tokenizer.added_tokens_encoder
    behind = {}
    for name, number in known.items():
        tail, count = "", 1
        while f"{name}_{count}" in known:
            tail, count = f"{tail} {name}_{count}", count + 1
        if tail:
            behind[number] = tail
    return behind


def _read(tokenizer: Any, text: str) -> Iterator[tuple[int, Span]]:
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return zip(read["input_ids"], read["offset_mapping"], strict=True)


def _written(tokenizer: Any, prompt: str) -> list[tuple[Span, str]]:
    """Find where a prompt names an inversion of several vectors, with the text to write after it."""
    behind = _behind(tokenizer)
    return [(span, behind[number]) for number, span in _read(tokenizer, prompt) if number in behind] if behind else []


def _places(tokenizer: Any, prompt: str, whole: str) -> list[Span]:
    """Give the prompt's span for every character of the text that is read, and for its end.

    Pipelines that safegen did not load may have left out the added names.
    """
    single = [(at, at + 1) for at in range(len(prompt))]
    if whole == prompt:
        return [*single, (len(prompt), len(prompt))]
    places: list[Span] = []
    text, at = "", 0
    for (start, end), tail in _written(tokenizer, prompt):
        text, places, at = text + prompt[at:end], places + single[at:end], end
        if whole.startswith(tail, len(text)):
            text, places = text + tail, places + [(start, end)] * len(tail)
    if text + prompt[at:] != whole:
        raise ModelError(
            f"the names of textual inversions in {prompt[:60]!r} lie inside one another",
            "Give them names that do not; what the encoder reads could not be told from the prompt.",
        )
    return [*places, *single[at:], (len(prompt), len(prompt))]


def _placed(token: Token, places: Sequence[tuple[int, int]]) -> Token:
    if token.span is None:
        return token
    start, end = token.span
    last = places[end - 1][1] if end > start else places[start][0]
    return replace(token, span=(places[start][0], last))
