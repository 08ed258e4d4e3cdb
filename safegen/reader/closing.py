"""Repairs that need no new words: a gap is closed, or *and* joins what stood on its two sides.

"Two men fighting on a pier" becomes "two men on a pier", and "a duke striking his rival" "a duke and his rival". Which
gaps can be closed is told by the small words beside them, so what is left is nearly always English; nothing harmless
goes that was not in the gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from safegen.reader.grammar import DETERMINERS, WORDS, acts

# Behind somebody or something, these begin a place, a time or company.
_PLACES = """
above across along alongside amid amidst among around at atop before behind below beneath beside between by during in
inside near on outside over overlooking past through under underneath with
"""
PLACES = frozenset(_PLACES.split())
STARTING = DETERMINERS | WORDS["count"]
OTHERS = frozenset({"not", "no", "be", "been", "being", "who", "about", "one", "someone", "somebody", "others"})
SMALL = STARTING | PLACES | OTHERS | frozenset().union(*WORDS.values())
# What somebody has of a body is not somebody beside them: no "a runner and her wrists".
_OF_A_BODY = """
ankle ankles arm arms back belly body bones breast breasts cheek cheeks chest chin ear ears eye eyes face feet finger
fingers foot forehead hair hand hands head heart knee knees leg legs lip lips mouth neck nose own skin stomach temple
temples thigh thighs throat tongue tooth teeth wrist wrists
"""
OF_A_BODY = frozenset(_OF_A_BODY.split())
# Behind these stands the one that a deed is done to, who can be joined by *and*; behind other prepositions, a place.
AIMED = frozenset({"against", "at", "on", "over", "to", "upon"})


def closings(before: Sequence[str], inside: Sequence[str], behind: Sequence[str]) -> Iterator[str]:
    """Give the ways to close a gap between words: an empty one, or *and*.

    Args:
        before: the words before the gap.
        inside: those in it.
        behind: those behind it.
    """
    left, right = before[-1:], [word.lower() for word in behind[:3]]
    named = bool(left) and _means(left[0]) and not acts(left[0])  # somebody or something ends here
    bodily = not OF_A_BODY.isdisjoint(right[1:])
    if named and (not right or _is_sign(right[0]) or (right[0] in PLACES and not bodily) or right[0] == "and"):
        yield ""
    fresh = not left or _is_sign(left[0])  # a phrase begins here
    if fresh and right and (right[0] in STARTING or (_means(right[0]) and not acts(right[0]))):
        yield ""
    if fresh and left and (not right or _is_sign(right[0])):
        yield ""
    if left and left[0].lower() in DETERMINERS and right and _means(right[0]) and not acts(right[0]):
        yield ""
    last = inside[-1].lower()
    aimed = last in AIMED or last not in WORDS["preposition"] | PLACES
    if named and aimed and right and right[0] in STARTING and not bodily:
        yield "and"


def _is_sign(word: str) -> bool:
    return not word[0].isalnum()


def _means(word: str) -> bool:
    """Tell whether a word means something by itself."""
    return word[0].isalnum() and word.lower() not in SMALL
