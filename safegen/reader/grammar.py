"""The English grammar that repairs need: small words by their kind, and the form of a phrase."""

from __future__ import annotations

import re

from safegen.reader.words import split

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
    rest = re.sub(r"^(a)n(?= [bcdfgjklmnpqrstvwxyz])", r"\1", text[start:], flags=re.IGNORECASE)
    rest = re.sub(r"^(a)(?= (?!onc?e\b)[aeio])", r"\1n", rest, flags=re.IGNORECASE)
    return " ".join((text[:start] + rest).split())


def agree(text: str) -> str:
    """Correct every *a* and *an* by the letter behind it, where that is sure."""
    text = re.sub(r"\b(a)n(?= [bcdfgjklmnpqrstvwxyz])", r"\1", text, flags=re.IGNORECASE)
    return re.sub(r"\b(a)(?= (?!onc?e\b)[aeio])", r"\1n", text, flags=re.IGNORECASE)
