"""The part of a long text that is repaired by itself: the sentence with the harm, or the words around it.

What harms a long text is mostly one detail of it. The rest stays word for word, and a repair takes no longer than that
of a short prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from safegen.reader.words import Word

SHORT = 40  # words of a text, or of a sentence, that are repaired as a whole
# Where nothing ends within a sentence: words that stay on each side of the harm, and those that stay at least before
# it, where its subject may be, and behind it.
REACH, BEFORE, BEHIND = 20, 8, 4
ENDS, CLOSERS, COMMAS = frozenset(".!?;"), frozenset("\"')]\u2019\u201d\u00bb"), frozenset(",:|()")


def part_around(words: Sequence[Word], span: tuple[int, int]) -> tuple[int, int]:
    """Find the part of a text's words, by its first and its last character, that is repaired for the harm in a span."""
    harmed = [i for i, word in enumerate(words) if word.span[0] < span[1] and word.span[1] > span[0]]
    first, last = harmed[0], harmed[-1]
    begin = _nearest((_after(words, i) for i in range(first - 1, -1, -1) if _ends(words, i)), 0)
    end = _nearest((i for i in range(last, len(words)) if _ends(words, i)), len(words)) - 1
    if end - begin >= SHORT:
        commas = [i for i, word in enumerate(words) if word.text in COMMAS]
        least, most = max(begin, first - REACH), min(end, last + REACH)
        begin = 1 + _nearest((i for i in reversed(commas) if least <= i < first - BEFORE), least - 1)
        end = _nearest((i for i in commas if last + BEHIND < i <= most), most + 1) - 1
    return words[begin].span[0], words[max(end, last)].span[1]


def _nearest(places: Iterable[int], otherwise: int) -> int:
    return next(iter(places), otherwise)


def _ends(words: Sequence[Word], at: int) -> bool:
    """Tell whether a sentence ends with a sign, the first of several: a gap comes behind it, and no figure."""
    if words[at].text not in ENDS or (at > 0 and words[at - 1].text in ENDS):
        return False
    behind = _after(words, at)
    return behind == len(words) or words[behind - 1].span[1] < words[behind].span[0]


def _after(words: Sequence[Word], at: int) -> int:
    """Give the first word behind the signs that end a sentence, and the quotation marks and brackets behind them."""
    behind = at + 1
    while (
        behind < len(words)
        and words[behind].text in ENDS | CLOSERS
        and words[behind - 1].span[1] == words[behind].span[0]
    ):
        behind += 1
    return behind
