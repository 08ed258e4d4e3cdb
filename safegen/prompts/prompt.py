"""Prompts from arguments, files and stdin, checked and cleaned before a model loads."""

from __future__ import annotations

import hashlib
import io
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from safegen.errors import PromptError
from safegen.files import lines, located, unusable
from safegen.prompts import emphasis, refusal
from safegen.prompts.emphasis import Weight

MAX_CHARACTERS = 10_000
# Letters of other scripts that pass for Latin ones; folded only inside words that mix scripts.
_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u043a\u043c\u0442\u043d\u0432"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u03bf\u03b1\u03b9\u03bd\u03c1\u0391\u0392\u0395\u0397\u039f",
    "aeopcyxijskmthbABEKMHOPCTXoaivpABEHO",
)

_JOINERS = "\u200c\u200d"
_UNJOINED = {"?", "LATIN", "GREEK", "CYRILLIC", "COMBINING", "FULLWIDTH", "MATHEMATICAL"}  # first words of names


@dataclass(frozen=True)
class Prompt:
    """A prompt as it goes to the encoder, and what was typed when that differs.

    Attributes:
        text: without marks of weight.
        typed: before it was cleaned, where that changed anything.
        marked: with its marks of weight, where it has any.
        weights: what the marks say of the characters of `text`.
        places: where every character of `text` stands in the own text, where it has any marks.
        loras: the LoRAs that the text calls for, and how much of each.
    """

    text: str
    typed: str = ""
    marked: str = ""
    weights: tuple[Weight, ...] = ()
    places: tuple[int, ...] = field(default=(), repr=False)
    loras: tuple[tuple[str, float], ...] = ()

    @property
    def own(self) -> str:
        """The user's own text, as records keep it."""
        return self.marked or self.text

    @property
    def id(self) -> str:
        """First 16 hex digits of the own text's SHA-256."""
        return hashlib.sha256(self.own.encode()).hexdigest()[:16]

    @property
    def verbatim(self) -> Prompt:
        """For models that know no weights: marks of weight are text like any other."""
        if not self.loras:
            return Prompt(self.marked, self.typed) if self.marked else self
        found = emphasis.parse(self.marked, weights=False)
        return replace(self, text=found.text, weights=(), places=found.places)

    def placed(self, span: tuple[int, int]) -> tuple[int, int]:
        """Where characters of `text` stand in the own text."""
        if not self.marked:
            return span
        return self.places[span[0]], self.places[span[1] - 1] + 1


def clean(typed: str) -> Prompt:
    """Remove what no reader sees and no encoder should: controls, invisible and look-alike letters, marks of weight.

    Letters are composed (NFC) and white space is single, as most tokenizers have it.

    Raises:
        PromptError: not valid text, empty after cleaning, or absurdly long.
    """
    text = _cleaned(typed, "prompt")
    found = emphasis.parse(text)
    if found.text == text:
        return Prompt(text, typed if typed != text else "")
    # Letters of two scripts may stand together only now that there is no mark between them.
    plain = found.text if found.text.isascii() else " ".join(map(_fold, found.text.split(" ")))
    if not plain:
        raise PromptError("the prompt calls for a LoRA and says nothing else", "Say what to draw with it.")
    return Prompt(plain, typed if typed != text else "", text, found.weights, found.places, found.loras)


def clean_negative(typed: str) -> str:
    """Clean a negative prompt like any other; none stays none.

    Raises:
        PromptError: see `clean`.
    """
    return _cleaned(typed, "negative prompt") if typed.strip() else ""


def _cleaned(typed: str, what: str) -> str:
    try:
        typed.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(f"the {what} is not valid UTF-8", "Check the terminal's or the file's encoding.") from error
    text = " ".join(typed.split()) if typed.isascii() and typed.isprintable() else _seen(typed)
    if not text:
        raise PromptError(f"the {what} is empty", 'Say what to draw, as in: safegen generate "a cat".')
    if len(text) > MAX_CHARACTERS:
        raise PromptError(f"the {what} has {len(text)} characters, the limit is {MAX_CHARACTERS}", "Shorten it.")
    return text


def _seen(typed: str) -> str:
    """Read a text as a person sees it; plain ASCII, of which files have millions of lines, needs none of it."""
    spaced = re.sub(r"[\s\x00-\x1f\x7f\x85\u2028\u2029]+", " ", unicodedata.normalize("NFC", typed))
    visible = "".join(c for c in spaced if c in _JOINERS or unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cn"))
    joined = re.sub(f"(.?)([{_JOINERS}]+)(?=(.?))", _joined, visible)
    # What was apart, or folded, may compose only now.
    return unicodedata.normalize("NFC", " ".join(_fold(word) for word in joined.split()))


def _joined(match: re.Match[str]) -> str:
    """Keep one joiner where it shows, in pictographs and in scripts that are written with it; elsewhere it hides."""
    before, joiners, after = match.groups()
    return before + (joiners[0] if _takes_joiners(before) and _takes_joiners(after) else "")


def _takes_joiners(letter: str) -> bool:
    if not letter or letter.isascii() or letter.isspace():
        return False
    return unicodedata.name(letter, "?").split()[0] not in _UNJOINED


def _fold(word: str) -> str:
    scripts = {unicodedata.name(c, "?").split()[0] for c in word if c.isalpha()}
    return word.translate(_LOOKALIKES) if "LATIN" in scripts and len(scripts) > 1 else word


def gather(arguments: Sequence[str], file: Path | None = None) -> list[Prompt]:
    """Prompts from the command line, else from `file`, else from piped stdin (also as ``-``).

    A file holds one prompt a line; blank lines and lines starting with ``#`` are skipped.

    Raises:
        PromptError: nothing was given, a file cannot be read, or a prompt is unusable.
        Refused: see `admit`.
    """
    prompts: list[Prompt] = []
    for argument in arguments:
        prompts += _lines(sys.stdin.buffer.read(), "stdin") if argument == "-" else [clean(argument)]
    if file is not None:
        file = located(file)
        try:
            content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        except OSError as error:
            raise PromptError(f"cannot read {file.name}: {error.strerror}", "Check the path.") from error
        prompts += _lines(content, file.name)
    if not arguments and file is None and not sys.stdin.isatty():
        prompts = _lines(sys.stdin.buffer.read(), "stdin")
    if not prompts:
        raise PromptError("no prompt given", 'Say what to draw, as in: safegen generate "a cat".')
    admit(prompts)
    return prompts


def _lines(content: bytes, source: str) -> list[Prompt]:
    prompts = []
    for number, line in lines(io.BytesIO(content)):
        try:
            if problem := unusable(line):
                raise PromptError(problem)
            text = (line or "").strip()
            if text and not text.startswith("#"):
                prompts.append(clean(text))
        except PromptError as error:
            raise PromptError(f"{source}, line {number}: {error}", "Correct the line or remove it.") from error
    return prompts


def lay_out(texts: Sequence[str], gaps: Sequence[str]) -> tuple[str, list[int]]:
    """Make one text of several, with what stands between them; give it and where each begins."""
    whole, starts = texts[0], [0]
    for gap, text in zip(gaps, texts[1:], strict=True):
        starts.append(len(whole) + len(gap))
        whole += gap + text
    return whole, starts


def admit(prompts: Iterable[Prompt]) -> None:
    """Refuse, by their words alone, prompts that are never drawn; the guard refuses others once it has scored them.

    Raises:
        Refused: minors in a sexual context.
    """
    for prompt in prompts:
        refusal.check(prompt.text)
