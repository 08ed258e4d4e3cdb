"""Attributes of people that a prompt may leave open, and the shares in which pictures should have their classes."""

from __future__ import annotations

import difflib
import functools
import hashlib
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from safegen.directions import recipes
from safegen.errors import UnknownAttribute, UsageError
from safegen.files import as_path, decode

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "attribute.toml"
FAIR = "fair"  # the folder of the shipped attributes, beside those of concepts
FORM = "As in --fair gender, or --fair gender=woman:0.5,man:0.5."
OFF = 0.001  # how far shares may be from adding up to 1, for thirds


@dataclass(frozen=True)
class Attribute:
    """One parsed ``attribute.toml``.

    Attributes:
        name: the name of its folder.
        subjects: people whose pictures vectors are learned from, by words that leave the attribute open.
        classes: how a subject is told to be of each class; `{}` stands for the subject.
        words: words by which a prompt states the attribute itself, in lower case.
        folder: where the recipe lies.
        sha256: the recipe's hash.
    """

    name: str
    title: str
    subjects: tuple[str, ...]
    classes: Mapping[str, str]
    words: tuple[str, ...]
    folder: Path
    sha256: str

    @classmethod
    def load(cls, name: str, extra: Path | None = None) -> Attribute:
        """Read an attribute by name.

        Raises:
            UnknownAttribute: no recipe has this name.
            UsageError: the recipe cannot be parsed, or a part of it cannot be used.
        """
        folders = known(extra)
        if name not in folders:
            raise UnknownAttribute(name, folders)
        return parse(folders[name] / FILE)

    def stated(self, text: str) -> str:
        """Give the words by which a text states the attribute itself; empty where it leaves it open."""
        return find_phrase(self.words, text)


@dataclass(frozen=True)
class Fairness:
    """An attribute, and the share of pictures that each class should have; without any, all classes have the same."""

    attribute: str
    shares: tuple[tuple[str, float], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Fairness:
        """Read ATTRIBUTE, or ATTRIBUTE=CLASS:SHARE,CLASS:SHARE.

        Raises:
            UsageError: it is neither, a class is named twice, or the shares do not add up to 1.
        """
        name, equals, rest = text.strip().partition("=")
        name = name.strip()
        if not re.fullmatch(r"[\w-]+", name) or (equals and not rest.strip()):
            raise UsageError(f"--fair {text[:60]!r} names no attribute or no class", FORM)
        shares = tuple(_share(part, text) for part in rest.split(",")) if equals else ()
        if len({label for label, _ in shares}) < len(shares):
            raise UsageError(f"--fair {text[:60]!r} names a class twice", FORM)
        total = math.fsum(share for _, share in shares)
        if shares and not abs(total - 1) <= OFF * 1.001:
            raise UsageError(f"the shares of --fair {text[:60]!r} add up to {total:g}, not to 1", FORM)
        return cls(name, shares)

    def check(self, attribute: Attribute) -> None:
        """Check that the shares are those of classes of the attribute.

        Raises:
            UsageError: a class is not known.
        """
        for label, _ in self.shares:
            if label not in attribute.classes:
                close = difflib.get_close_matches(label, attribute.classes, n=1, cutoff=0.4)
                guess = f"Did you mean {close[0]!r}? " if close else ""
                raise UsageError(
                    f"{self.attribute} has no class {label!r}", f"{guess}Known: {', '.join(attribute.classes)}."
                )

    def draw(self, attribute: Attribute, seed: int) -> str:
        """Draw the class of the picture with this seed: the same in every run, and apart for every attribute.

        Pictures of consecutive seeds, as those of one prompt have, share the classes out almost evenly.
        """
        shares = self.shares or tuple((label, 1 / len(attribute.classes)) for label in attribute.classes)
        point = _point(attribute.name, seed) * math.fsum(share for _, share in shares)
        for label, share in shares:
            point -= share
            if point < 0:
                return label
        return next(label for label, share in reversed(shares) if share > 0)


def _point(name: str, seed: int) -> float:
    """Give the place of a seed in [0, 1): multiples of a number, each name's own, without their whole part.

    Multiples of a number fill the interval the more evenly, the worse fractions come near it, so the terms of its
    continued fraction have to be small (Kuipers and Niederreiter 1974, chapter 2.3). Here they are ones and twos.
    """
    bits = hashlib.sha256(name.encode()).digest()
    number = Fraction(0)
    for byte in bits:
        number = 1 / (1 + byte % 2 + number)
    return float((seed + 1) * number % 1)


def _share(part: str, whole: str) -> tuple[str, float]:
    label, _, number = part.partition(":")
    try:
        share = float(number)
    except ValueError:
        share = math.nan
    if not label.strip() or not 0 <= share <= 1:
        raise UsageError(f"--fair {whole[:60]!r}: {part.strip()!r} is not CLASS:SHARE with a share from 0 to 1", FORM)
    return label.strip(), share


def parse_all(texts: Iterable[str]) -> list[Fairness]:
    """Read what every `--fair` says.

    Raises:
        UsageError: one cannot be read, or two are of one attribute.
    """
    found = [Fairness.parse(text) for text in texts]
    names = [one.attribute for one in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"--fair {twice[0]} is given twice", "Give every attribute once.")
    return found


def resolve(texts: Sequence[str], extra: Path | None = None) -> list[tuple[Fairness, Attribute]]:
    """Read what every `--fair` says, with the attributes that it names.

    Raises:
        UnknownAttribute, UsageError: an attribute or class is not known, or see `parse_all`.
    """
    found = [(one, Attribute.load(one.attribute, extra)) for one in parse_all(texts)]
    for one, attribute in found:
        one.check(attribute)
    return found


def known(extra: Path | None = None) -> dict[str, Path]:
    """Find the folders that hold an attribute, by name; a user's folder wins over the shipped one."""
    roots = [recipes.directions_folder() / FAIR]
    if extra is not None:
        roots += [as_path(extra), as_path(extra) / FAIR]
    return {file.parent.name: file.parent for root in roots for file in sorted(root.glob(f"*/{FILE}"))}


@functools.lru_cache(maxsize=64)
def parse(file: Path) -> Attribute:
    """Parse one recipe.

    Raises:
        UsageError: the file is not TOML, or a part of it is missing or of the wrong type.
    """
    where = f"the attribute {file.parent.name}/{file.name}"
    try:
        raw = file.read_bytes()
        recipe = tomllib.loads(decode(raw))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read {where}: {error}", "An attribute is a UTF-8 TOML file.") from error
    classes, subjects = recipe.get("classes"), recipe.get("subjects")
    if not isinstance(classes, dict) or len(classes) < 2 or not all(isinstance(c, dict) for c in classes.values()):
        raise UsageError(f"{where} has fewer than two [classes.NAME]", "Fairness is between classes; see gender's.")
    if not _is_texts(subjects) or not subjects:
        raise UsageError(f"{where} has no list of subjects", 'As in: subjects = ["doctor", "teacher"].')
    words = list(recipe.get("stated", {}).get("words", []))
    for label, part in classes.items():
        prompt = part.get("prompt")
        if not isinstance(prompt, str) or prompt.count("{}") != 1:
            raise UsageError(f"{where}: {label!r} has no prompt with one {{}} in it", 'As in: prompt = "female {}".')
        if not _is_texts(part.get("words", [])):
            raise UsageError(f"{where}: the words of {label!r} are no list of words", 'As in: ["woman", "she"].')
        words += part.get("words", [])
    return Attribute(
        name=file.parent.name,
        title=str(recipe.get("title", file.parent.name)),
        subjects=tuple(subjects),
        classes={label: part["prompt"] for label, part in classes.items()},
        words=tuple(dict.fromkeys(str(word).casefold() for word in words)),
        folder=file.parent,
        sha256=hashlib.sha256(raw).hexdigest(),
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) and text.strip() for text in value)


def find_phrase(phrases: Sequence[str], text: str) -> str:
    """Give the phrase that a text has, in any case and as whole words; the earliest, or empty."""
    if not phrases:
        return ""
    found = _pattern(tuple(phrases)).search(" ".join(text.casefold().split()))
    return found[0] if found else ""


@functools.lru_cache(maxsize=256)
def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(map(str.casefold, phrases), key=len, reverse=True)
    return re.compile(rf"(?<![\w'-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")
