"""The English grammar that repairs need: small words by their kind, and the form of a phrase."""

from __future__ import annotations

import re

from safegen.reader.words import Word, split

_KINDS = {
    "article": "a an the",
    "owner": "his her their its my your our",
    "count": "two three four five six seven some many several few both",
    "preposition": "of in on at to by for from with into onto under near behind beside through across against toward "
    "towards between inside along upon about around over without above below before after during off",
    "link": "and or as while is are was were next than",
    "pronoun": "i you he she it we they who him them me us that which himself herself themselves",
    "particle": "out off up down away apart open shut",
}
WORDS = {kind: frozenset(words.split()) for kind, words in _KINDS.items()}
ARTICLES, DETERMINERS = WORDS["article"], WORDS["article"] | WORDS["owner"]
LEADING = WORDS["article"] | WORDS["preposition"] | WORDS["link"] | WORDS["owner"] - {"her"}  # a phrase goes on after
ARTICLE = re.compile(r"(?:an?|the)\s+", re.IGNORECASE)
# What ends with an article or an owner, and what no article stands before.
LEAD, OWNER = (re.compile(rf"\b(?:{some})\s*$", re.IGNORECASE) for some in ("an?|the", "his|her|their|its|my|your"))
LED = re.compile(r"(?:an?|the|his|her|their|some|two|three)\b", re.IGNORECASE)
# An article that needs no *n*, and one that needs it, by the letter behind it. Letters that are spelled out (an SUV, an
# x-ray) and vowels that sound otherwise (a one-way street, a European, a ewe) tell nothing.
_SPELLED = r"(?!(?-i:[A-Z]{2})|[b-df-hj-np-tv-xz]+\b|[a-z]\b)"
_LEADS = r"((?-i:\ba|(?:^|(?<=[.!?] ))A))"  # not the one of *grade A eggs*
WITH_N = re.compile(rf"{_LEADS}n(?= {_SPELLED}(?:[bcdfgjklmnpqrstvwxyz]|onc?e\b|e[uw]))", re.IGNORECASE)
WITHOUT_N = re.compile(rf"{_LEADS}(?= {_SPELLED}(?!onc?e\b|e[uw])[aeio])", re.IGNORECASE)
Form = tuple[str, bool]


def form_of(text: str) -> Form:
    """Tell the form of a phrase by its first and last word: its kind, and whether it is plural."""
    words = [word.text.lower() for word in split(text) if word.spoken]
    if not words:
        return "other", False
    plural = words[-1].endswith("s") and not words[-1].endswith("ss")
    if words[0] in WORDS["article"]:
        return "article", plural
    if words[0] in WORDS["preposition"]:
        return "preposition", False
    if words[0] in WORDS["count"] | WORDS["owner"]:
        return "count", plural
    for ending in ("ing", "ed"):
        if words[0].endswith(ending) and len(words[0]) > len(ending) + 2:
            return ending, False
    return "other", plural


def bare(phrase: str) -> list[Word]:
    """Give the words and signs of a phrase in lower case, without its article."""
    words = split(phrase.lower())
    return words[1:] if words and words[0].text in ARTICLES else words


def acts(word: str) -> bool:
    """Tell whether a word looks like a verb form that can describe a noun: in *-ing* or *-ed*."""
    return word.lower().endswith(("ing", "ed"))


def parts(*words: str) -> bool:
    """Tell whether each of the words separates the phrases on its two sides."""
    return all(not w[0].isalnum() or acts(w) or w.lower() in LEADING | DETERMINERS | WORDS["pronoun"] for w in words)


def leads(phrase: str) -> bool:
    """Tell whether a phrase ends with a word after which it has to go on."""
    return phrase.rsplit(" ", 1)[-1].lower() in LEADING


def widen(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """Widen a phrase's span by the article before it."""
    match = re.search(rf"\b{ARTICLE.pattern}$", text[: span[0]], re.IGNORECASE)
    return match.start() if match else span[0], span[1]


def join(before: str, new: str, behind: str) -> str:
    """Put words between two others, and correct the articles where they meet: *an* before a vowel, no second article.

    Whatever stands farther away is left as it is, and so is what the new words say between themselves.
    """
    lead, owner = LEAD.search(before), OWNER.search(before)
    if lead and LED.match(new + behind):
        before, lead = before[: lead.start()], None
    elif new and owner and (article := ARTICLE.match(new)):
        new = new[article.end() :]
    if new and (last := LEAD.search(new)) and LED.match(behind.lstrip()):
        new = new[: last.start()]
    start = lead.start() if lead else len(before)
    text = before + new + behind
    first = re.match(r"an?\s+\S*", text[start:], re.IGNORECASE)
    end = start + first.end() if first else start
    return " ".join((text[:start] + agree(text[start:end]) + text[end:]).split())


def agree(text: str) -> str:
    """Correct every *a* and *an* by the letter behind it, where that is sure."""
    return WITHOUT_N.sub(r"\1n", WITH_N.sub(r"\1", text))
