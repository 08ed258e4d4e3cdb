"""JSON captions: prompts that are a JSON object or list, as FLUX.2 and Ideogram take them.

The texts among a caption's values are read one by one and together, and repaired one by one. Keys are read and never
changed. So a repaired caption has the same keys, in the same order, and values of the same types.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from safegen.reader import editing

Span = tuple[int, int]
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],]|[^\s{}\[\],":]+')
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}(?:\\u[0-9a-fA-F]{4})*|.)")
_BEGINS = re.compile(r'\s*[\[\s]*(?:\{\s*"(?:[^"\\]|\\.)*"\s*:|\[\s*"(?:[^"\\]|\\.)*"\s*[,\]])')


@dataclass(frozen=True)
class Value:
    """One text among the values.

    Attributes:
        path: its place: `scene`, `subjects[0].action`.
        span: its characters in the caption, without the quotes.
        text: what it says.
        places: the place in the caption of every character of `text`.
    """

    path: str
    span: Span
    text: str
    places: tuple[int, ...]

    def within(self, span: Span) -> Span | None:
        """Find the part of `text` that a span of the caption covers."""
        covered = [i for i, place in enumerate(self.places) if span[0] <= place < span[1]]
        return (covered[0], covered[-1] + 1) if covered else None


@dataclass(frozen=True)
class Caption:
    """A caption, and the texts among its values in reading order."""

    text: str
    values: tuple[Value, ...]

    @property
    def prose(self) -> str:
        """The caption without the signs of JSON, every character in its place; keys are part of it."""
        left = re.sub(r'[{}\[\]":]', " ", self.text)
        for value in self.values:
            inside = _ESCAPE.sub(lambda m: m[0] if m[0][1] == "u" else " " * len(m[0]), self.text[slice(*value.span)])
            left = left[: value.span[0]] + inside + left[value.span[1] :]
        return left

    @property
    def hidden(self) -> list[Span]:
        """The characters that stand there as numbers, which nothing that reads text can read."""
        found = (match for match in _ESCAPE.finditer(self.text) if match[0][1] == "u")
        return [match.span() for match in found]

    def path(self, span: Span) -> str:
        """Name the value that a span begins in; a key or a sign has none."""
        return next((v.path for v in self.values if v.span[0] <= span[0] < v.span[1]), "")

    def replaced(self, texts: Sequence[str]) -> str:
        """Write the caption with other texts in the place of its own."""
        whole = self.text
        for value, text in reversed(list(zip(self.values, texts, strict=True))):
            if text != value.text:
                quoted = json.dumps(text, ensure_ascii=False)
                whole = whole[: value.span[0]] + quoted[1:-1] + whole[value.span[1] :]
        return whole


@functools.lru_cache(maxsize=256)
def parse(text: str) -> Caption | None:
    """Read a text as a caption; None where it is no JSON object or list."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return Caption(text, tuple(_values(text)))


def begins(text: str) -> bool:
    """Tell whether a text begins as a caption does: with a key, or with a list of texts."""
    return bool(_BEGINS.match(text))


def change_texts(text: str, change: Callable[[str], str]) -> str:
    """Change every text of a caption, or else the text itself."""
    caption = parse(text)
    return change(text) if caption is None else caption.replaced([change(value.text) for value in caption.values])


def take_out(text: str, spans: Sequence[Span]) -> str:
    """Take characters out of a text and mend its grammar; of a caption only those that stand in texts."""
    caption = parse(text)
    if caption is None:
        return editing.tidy(editing.without(text, spans))
    texts = []
    for value in caption.values:
        inside = [part for span in spans if (part := value.within(span)) is not None]
        texts.append(editing.tidy(editing.without(value.text, inside)) if inside else value.text)
    return caption.replaced(texts)


def spell_out(text: str) -> str:
    """Write the characters that stand as numbers in JSON as themselves, and its escaped white space as spaces."""
    return _ESCAPE.sub(lambda match: _spelled(match[0]), text)


def _spelled(escape: str) -> str:
    if escape[1] == "u":
        numbers = bytes.fromhex(escape.replace("\\u", ""))
        letters = numbers.decode("utf-16-be", "surrogatepass")
        return "".join("\\" + c if c in '"\\' else c if c >= " " else " " for c in letters)
    return {"n": " ", "r": " ", "t": " ", "b": " ", "f": " ", "/": "/"}.get(escape[1], escape)


def _values(text: str) -> Iterator[Value]:
    """Walk over valid JSON, and give its texts that are no keys."""
    stack: list[int | str | None] = []  # of every list the index, of every object the key, or None where one follows
    for match in _TOKEN.finditer(text):
        sign = match[0]
        if sign in "[{":
            stack.append(0 if sign == "[" else None)
        elif sign in "]}":
            stack.pop()
        elif sign == ",":
            place = stack[-1]
            stack[-1] = place + 1 if isinstance(place, int) else None
        elif sign[0] == '"':
            if stack[-1] is None:
                stack[-1] = json.loads(sign, strict=False)
            else:
                yield _value(stack, (match.start() + 1, match.end() - 1), sign)


def _value(stack: Sequence[int | str | None], span: Span, quoted: str) -> Value:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in stack).removeprefix(".")
    places: list[int] = []
    end = 0
    inside = quoted[1:-1]
    for escape in _ESCAPE.finditer(inside):
        places += range(span[0] + end, span[0] + escape.start())
        letters = json.loads(f'"{escape[0]}"', strict=False)
        places += [span[0] + escape.start()] * len(letters)
        end = escape.end()
    places += range(span[0] + end, span[1])
    return Value(path, span, json.loads(quoted, strict=False), tuple(places))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
