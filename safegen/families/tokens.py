"""Tokens: a name for every position of an encoder's output, from the tokenizer's own character offsets."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from safegen.conditioning import Position, Token
from safegen.errors import ModelError


@dataclass(frozen=True)
class Text:
    """A prompt as an encoder reads it, with what a chat template puts around it."""

    whole: str
    start: int  # of the prompt in `whole`
    end: int
    templated: bool = False

    @classmethod
    def plain(cls, prompt: str) -> Text:
        return cls(prompt, 0, len(prompt))

    @classmethod
    def inside(cls, head: str, prompt: str, whole: str) -> Text:
        """Find the prompt after `head` in a rendered template; templates may strip the prompt.

        Raises:
            ModelError: the prompt is not there.
        """
        start = whole.find(prompt.strip(), len(head) if whole.startswith(head) else 0)
        if start < 0:
            raise ModelError("the chat template changes the prompt", "Its words could not be told from the template's.")
        return cls(whole, start, start + len(prompt.strip()), templated=True)

    @property
    def prompt(self) -> str:
        return self.whole[self.start : self.end]


def tokens(tokenizer: Any, texts: Sequence[Text], longest: int) -> list[tuple[Token, ...]]:
    """Give the tokens of every text, cut at `longest`, without pads; spans count from the prompt's beginning."""
    wholes = [text.whole for text in texts]
    encoded = tokenizer(
        wholes, truncation=True, max_length=longest, return_offsets_mapping=True, return_attention_mask=False
    )
    return [
        _row(tokenizer, text, ids, offsets)
        for text, ids, offsets in zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def pad_tokens(tokenizer: Any, row: tuple[Token, ...], length: int, position: Position) -> tuple[Token, ...]:
    """Fill a row up with pads, on the side where the tokenizer puts them."""
    pads = (Token("[pad]", position),) * (length - len(row))
    return (*pads, *row) if tokenizer.padding_side == "left" else (*row, *pads)


def find_unseen(text: Text, row: Sequence[Token]) -> str:
    """Give the end of the prompt that no token spells, because the encoder's window is full."""
    seen = max((token.span[1] for token in row if token.span), default=0)
    return text.prompt[seen:].strip()


def _row(tokenizer: Any, text: Text, ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> tuple[Token, ...]:
    specials = set(tokenizer.all_special_ids)
    # Whatever name a tokenizer has for them: the special tokens that it puts before any text.
    openers = set(itertools.takewhile(specials.__contains__, tokenizer("a")["input_ids"]))
    openers |= {tokenizer.bos_token_id, getattr(tokenizer, "cls_token_id", None)}
    row, covered = [], text.start
    for token, (start, end) in zip(ids, offsets, strict=True):
        empty = start == end
        if empty and token in specials:
            row.append(_outside(text, before=token in openers))
        elif (start, end) != (0, 0) and (end <= text.start or start >= text.end) and text.templated:
            row.append(_outside(text, before=end <= text.start))
        else:
            # Byte-level tokens may share a character, and some tokens include a space: no character is spelled twice.
            left, right = max(start, covered), min(end, text.end)
            while left < right and text.whole[left].isspace():
                left += 1
            while left < right and text.whole[right - 1].isspace():
                right -= 1
            covered = max(covered, right)
            left = min(left, right)
            span = (left - text.start, right - text.start)
            row.append(Token(text.whole[left:right], Position.TOKEN, span))
    return tuple(row)


def _outside(text: Text, *, before: bool) -> Token:
    if not before:
        return Token("[end]", Position.END)
    return Token("[template]", Position.TEMPLATE) if text.templated else Token("[start]", Position.START)
