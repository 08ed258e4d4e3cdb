"""Texts that a prompt wants written or spoken in the picture: a kind word replaces a harmful one."""

from __future__ import annotations

from collections.abc import Iterator

from safegen.reader import roles
from safegen.reader.kinds import DO, DOES, HELPERS, SIGN, VERBS
from safegen.reader.rewrites import Rewrite
from safegen.reader.situation import HOT, WARM, Situation

KIND = "welcome"
SAYS = {"telling": "saying", "tells": "says"}  # what is told needs somebody who is told it
QUOTES = '"\u201c\u201d\u00ab\u00bb'
OPENS, CLOSES = "'\u2018", "'\u2019"  # single marks, which may be apostrophes, too
CLIPPED = frozenset({"bout", "cause", "em", "n", "round", "til", "tis", "twas"})  # words that begin with one


def instead_of_said(situation: Situation) -> list[Rewrite]:
    """Put kind words in the place of every harmful text that a prompt quotes, or says to be written."""
    found: list[Rewrite] = []
    taken: set[int] = set()
    for first, last in (*_quoted(situation), *_written(situation)):
        words = range(first, last + 1)
        if taken.isdisjoint(words) and any(map(situation.is_hot, words)):
            loud = all(word.text.isupper() for word in situation.reading.words[first : last + 1] if word.spoken)
            says = SAYS.get(situation.words[first - 1]) if first else None
            text = f"{says} {KIND}" if says else KIND
            found.append(Rewrite(first - bool(says), last, (text.upper() if loud else text,), 0.0))
            taken.update(words)
    return found


def _quoted(situation: Situation) -> Iterator[tuple[int, int]]:
    """Give the first and the last word between quotation marks."""
    words, text = situation.reading.words, situation.reading.text
    marks = [i for i, word in enumerate(words) if word.text in QUOTES]
    pairs = [*zip(marks[::2], marks[1::2], strict=False)]
    opened = None
    for i, word in enumerate(words):
        before, behind = text[: word.span[0]][-1:], text[word.span[1] :][:1]
        if word.text in OPENS and not before.isalnum() and behind.strip() and not behind.isdecimal():
            opened = opened if i + 1 < len(words) and words[i + 1].text.lower() in CLIPPED else i
        elif word.text in CLOSES and before.strip() and not behind.isalnum() and opened is not None:
            pairs.append((opened, i))
            opened = None
    yield from ((start + 1, end - 1) for start, end in pairs if end > start + 1)


def _written(situation: Situation) -> Iterator[tuple[int, int]]:
    """Give the first and the last word of what is said to be written, without marks."""
    chunks = situation.chunks
    for at, chunk in enumerate(chunks[:-1]):
        colon = situation.words[chunk.first] == ":" and _is_text(situation, at)
        says = chunk.kind in VERBS and situation.clauses.says(at) and not situation.clauses.is_kind(at + 1, SIGN)
        if says or colon:
            yield chunk.last + 1, chunks[_end(situation, at + 1)].last


def _is_text(situation: Situation, colon: int) -> bool:
    """Tell whether what is before a colon bears a text, or a sentence of somebody's mind stands behind it."""
    clauses, chunks = situation.clauses, situation.chunks
    first, last = clauses.segment(colon + 1)
    mind = (
        situation.words[chunks[first].first] == "no"
        or clauses.is_kind(first, DO)
        or any(
            situation.words[chunks[i].head] in ("i", "we", "you")
            or (clauses.is_kind(i, DOES) and situation.words[chunks[i].head] in HELPERS)
            for i in range(first, last + 1)
        )
    )
    before, _ = clauses.segment(colon - 1)
    return mind or any(situation.words[chunks[i].head] in roles.BEARERS for i in range(before, colon))


def _end(situation: Situation, at: int) -> int:
    """Find the chunk with which a text ends: behind its last harmful word, and at a sign if no more follows."""
    end = _last(situation, at)
    while situation.clauses.is_kind(end + 1, SIGN) and end + 2 < len(situation.chunks):
        first, further = situation.clauses.segment(end + 2)
        words = [i for c in range(first, further + 1) for i in situation.chunks[c].words]
        heights = [situation.heights[i] for i in words if roles.means(situation.words[i])]
        goes_on = situation.words[words[0]] == "no" or (heights and min(heights) >= HOT)
        if situation.words[situation.chunks[end + 1].first] != "," or not goes_on:
            break
        end = further
    return end


def _last(situation: Situation, at: int) -> int:
    _, last = situation.clauses.segment(at)
    hot = [i for i in range(at, last + 1) if any(map(situation.is_hot, situation.chunks[i].words))]
    end = max(hot, default=last)
    while end < last and situation.height(end + 1) >= WARM:
        end += 1
    return end
