"""Emphasis: marks of weight in a prompt, in the syntax of the web UIs, and their effect on an embedding.

`(word:1.3)` gives the words a weight, `[word]` divides it by 1.1, and `((word))` multiplies it by 1.1 for each
bracket. Marks nest, and `\\(` is a bracket. A single `(word)` is how English writes an aside, so it counts as
1.1 only in a prompt that has another mark as well; without marks a text is left as it is. Some brackets are text:
those without their other half or around nothing; ratios and times, `(16:9)`; indices, `a[0]`; and what means
something else in other tools: `[a:b:0.5]`, `[a|b]`, `(a)1.3`, `(a)++` (see `dialects`).

`<lora:name:0.8>` does not describe the picture: it is taken out, and kept beside the text.

A weight multiplies the states of its words. The mean of the embedding is not restored afterwards, as the web
UIs did at first: that divides by a mean near zero, breaks pictures of SDXL (AUTOMATIC1111
stable-diffusion-webui, pull request 14874), and would scale states that the guard has repaired.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

STEP = 1.1
MOST = 2.0  # beyond this weight, states are unlike any that an encoder makes
LONGEST = 16  # the most characters that a number and the spaces and colon around it take
_SIGN = re.compile(r"\\[\\()\[\]]|[()\[\]]")
_NUMBER = re.compile(r":\s*(-?(?:\d(?:\.\d*)?|\.\d+))\s*$")  # 10 and more are no weights, but times, verses, sizes
_RATIO = re.compile(r"\d\s*:\s*\d\s*$")
_TIME = re.compile(r"\s*\d+\s*:\s*\d+\s*")
_CHANGES = re.compile(r":\s*(?:\d+\.?\d*|\.\d+)\s*$|\|")  # in web UIs, square brackets with it change while drawing
_COMPEL = re.compile(r"\d|\+|-(?!\w)")  # a weight of another tool, after a bracket
_LORA = re.compile(r"<(?:lora|lyco):([^<>:]+)((?::[^<>:]*)*)>", re.IGNORECASE)


@dataclass(frozen=True)
class Weight:
    """Characters of a prompt, and the number that their states are multiplied by."""

    span: tuple[int, int]
    value: float

    def moved(self, by: int) -> Weight:
        """Count the characters from another place."""
        return Weight((self.span[0] + by, self.span[1] + by), self.value)

    def within(self, span: tuple[int, int]) -> Weight:
        """Keep the characters that are inside a span."""
        return Weight((max(self.span[0], span[0]), min(self.span[1], span[1])), self.value)

    def meets(self, span: tuple[int, int]) -> bool:
        """Tell whether the weight and a span share characters."""
        return self.span[0] < span[1] and self.span[1] > span[0]


@dataclass(frozen=True)
class Marked:
    """A text without its marks, and what the marks say.

    Attributes:
        text: the text that the encoder reads.
        weights: spans in `text` whose weight is not 1, in order.
        places: the place of every character of `text` in the written text; empty where nothing was marked.
        loras: the names of the LoRAs that were called for, and their scales.
    """

    text: str
    weights: tuple[Weight, ...] = ()
    places: tuple[int, ...] = ()
    loras: tuple[tuple[str, float], ...] = ()


def parse(written: str, *, weights: bool = True) -> Marked:
    """Read the marks of a text; no text is an error.

    Args:
        written: a prompt.
        weights: whether brackets are marks; if not, they are text, as for models that take no weights.
    """
    called = list(_LORA.finditer(written))
    if not called:
        return _weighed(written) if weights else Marked(written)
    inside = {place for match in called for place in range(*match.span())}
    left = [place for place in range(len(written)) if place not in inside]
    # Keep one space where a mark stood alone between spaces.
    left = [p for i, p in enumerate(left) if written[p] != " " or (i and written[left[i - 1]] != " ")]
    while left and written[left[-1]] == " ":
        left.pop()
    bare = "".join(written[place] for place in left)
    found = _weighed(bare) if weights else Marked(bare)
    places = tuple(left[place] for place in found.places) if found.places else tuple(left)
    return Marked(found.text, found.weights, places, tuple((match[1].strip(), _scale(match[2])) for match in called))


def changing(written: str) -> list[str]:
    """Find square brackets that, in the web UIs, change the prompt while a picture is drawn; they are text here."""
    _, pairs = _signs(written)
    return [
        written[start : end + 1]
        for start, end in sorted(pairs.items())
        if written[start] == "["
        and not _touches(written, start, end)
        and _CHANGES.search(written, start + 1, end)
        and not _TIME.fullmatch(written, start + 1, end)
    ]


def _touches(written: str, start: int, end: int) -> bool:
    """Tell whether a letter or a digit stands right beside a bracket."""
    return any(map(str.isalnum, written[:start][-1:] + written[end + 1 :][:1]))


def _scale(numbers: str) -> float:
    """Read the scale that a mark asks for: its first number, or 1."""
    try:
        return float(numbers.split(":")[1])
    except (IndexError, ValueError):
        return 1.0


def _weighed(written: str) -> Marked:
    """Read the marks of weight."""
    escapes, pairs = _signs(written)
    numbers = {start: tail for start, end in pairs.items() if (tail := _number(written, start, end))}
    escaped = any(written[place + 1] != "\\" for place in escapes)
    if not escaped and not any(_declares(written, pairs, numbers, start) for start in pairs):
        return Marked(written)
    opened, skipped = _factors(written, pairs, numbers), set(escapes)
    for start in opened:
        first = numbers[start].start() if start in numbers else pairs[start]
        skipped |= {start, *range(first, pairs[start] + 1)}
    closed = {pairs[start] for start in opened}
    text: list[str] = []
    places: list[int] = []
    values: list[float] = []
    stack = [1.0]
    for place, character in enumerate(written):
        if place in opened:
            stack.append(min(max(stack[-1] * opened[place], 0.0), MOST))
        elif place in closed:
            stack.pop()
        # Keep one space where marks stood alone between spaces.
        if place in skipped or (character == " " and (not text or text[-1] == " ")):
            continue
        text.append(character)
        places.append(place)
        values.append(round(stack[-1], 4))
    if text and text[-1] == " ":
        text.pop()
    plain = "".join(text)
    return Marked(plain, tuple(_runs(plain, values)), tuple(places[: len(plain)]))


def _signs(written: str) -> tuple[list[int], dict[int, int]]:
    """Find the backslashes that escape, and the pairs of brackets."""
    escapes: list[int] = []
    pairs: dict[int, int] = {}
    waiting: list[int] = []
    for match in _SIGN.finditer(written):
        sign, place = match.group(), match.start()
        if len(sign) == 2:
            escapes.append(place)
        elif sign in "([":
            waiting.append(place)
        elif waiting and written[waiting[-1]] + sign in ("()", "[]"):
            pairs[waiting.pop()] = place
        else:
            waiting.clear()  # brackets that cross are no marks
    return escapes, pairs


def _number(written: str, start: int, end: int) -> re.Match[str] | None:
    """Find the weight after the words in a round bracket."""
    if written[start] == "[":
        return None
    tail = max(start + 1, end - LONGEST)
    match = _NUMBER.search(written, tail, end)
    if match is None or not written[start + 1 : match.start()].strip():
        return None
    return None if "." not in match[1] and _RATIO.search(written, tail, end) else match


def _declares(written: str, pairs: Mapping[int, int], numbers: Mapping[int, re.Match[str]], start: int) -> bool:
    """Tell whether a bracket is certainly a mark, and not an aside as in English."""
    if start in numbers:
        return True
    return _counts(written, pairs, start) and (written[start] == "[" or pairs.get(start + 1) == pairs[start] - 1)


def _counts(written: str, pairs: Mapping[int, int], start: int) -> bool:
    """Tell whether a bracket may be a mark at all.

    These are text: a bracket around nothing, a square one that touches a letter or says what changes over time, and
    a round one with another tool's weight after it.
    """
    end = pairs[start]
    if not written[start + 1 : end].strip("()[] "):
        return False
    if written[start] == "(":
        return not _COMPEL.match(written, end + 1)
    return not _touches(written, start, end) and not _CHANGES.search(written, start + 1, end)


def _factors(written: str, pairs: Mapping[int, int], numbers: Mapping[int, re.Match[str]]) -> dict[int, float]:
    """Give the factor of every mark, by the place of its first bracket."""
    plain = {"(": STEP, "[": 1 / STEP}
    return {
        start: float(numbers[start][1]) if start in numbers else plain[written[start]]
        for start in pairs
        if _counts(written, pairs, start)
    }


def _runs(text: str, values: Sequence[float]) -> Iterator[Weight]:
    """Join neighbouring characters of one weight, without the spaces around them; leave out weights of 1."""
    start = 0
    for end in range(1, len(text) + 1):
        if end < len(text) and values[end] == values[start]:
            continue
        run = text[start:end]
        if values[start] != 1 and run.strip():
            left = start + len(run) - len(run.lstrip())
            yield Weight((left, start + len(run.rstrip())), values[start])
        start = end
