"""Prompts from arguments, files and stdin, checked and cleaned before a model loads."""

from __future__ import annotations

import hashlib
import io
import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safegen import emphasis
from safegen.emphasis import Weight
from safegen.errors import PromptError
from safegen.files import lines, unusable

MAX_CHARACTERS = 10_000
# Letters of other scripts that pass for Latin ones; folded only inside words that mix scripts.
_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u043a\u043c\u0442\u043d\u0432"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u03bf\u03b1\u03b9\u03bd\u03c1\u0391\u0392\u0395\u0397\u039f",
    "aeopcyxijskmthbABEKMHOPCTXoaivpABEHO",
)


@dataclass(frozen=True)
class Prompt:
    """A prompt as it goes to the encoder, and what was typed when that differs.

    Attributes:
        text: without marks of weight.
        typed: before it was cleaned, where that changed anything.
        marked: with its marks of weight, where it has any.
        weights: what the marks say of the characters of `text`.
    """

    text: str
    typed: str = ""
    marked: str = ""
    weights: tuple[Weight, ...] = ()

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
        """For models that know no weights: marks are text like any other."""
        return Prompt(self.marked, self.typed) if self.marked else self

    def placed(self, span: tuple[int, int]) -> tuple[int, int]:
        """Where characters of `text` stand in the own text."""
        if not self.marked:
            return span
        places = emphasis.parse(self.marked).places
        return places[span[0]], places[span[1] - 1] + 1


def clean(typed: str) -> Prompt:
    """Remove what no reader sees and no encoder should: controls, invisible and look-alike letters, marks of weight.

    Raises:
        PromptError: not valid text, empty after cleaning, or absurdly long.
    """
    try:
        typed.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError("the prompt is not valid UTF-8", "Check the terminal's or the file's encoding.") from error
    text = " ".join(typed.split()) if typed.isascii() and typed.isprintable() else _seen(typed)
    if not text:
        raise PromptError("the prompt is empty", 'Say what to draw, as in: safegen generate "a cat".')
    if len(text) > MAX_CHARACTERS:
        raise PromptError(f"the prompt has {len(text)} characters, the limit is {MAX_CHARACTERS}", "Shorten it.")
    found = emphasis.parse(text)
    if found.text == text:
        return Prompt(text, typed if typed != text else "")
    # Letters of two scripts may stand together only now that there is no mark between them.
    plain = found.text if found.text.isascii() else " ".join(map(_fold, found.text.split(" ")))
    return Prompt(plain, typed if typed != text else "", text, found.weights)


def _seen(typed: str) -> str:
    """What a reader sees of a text; plain ASCII, of which files have millions of lines, needs none of it."""
    spaced = re.sub(r"[\s\x00-\x1f\x7f\x85\u2028\u2029]+", " ", typed)
    visible = "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cn"))
    return " ".join(_fold(word) for word in visible.split())


def _fold(word: str) -> str:
    scripts = {unicodedata.name(c, "?").split()[0] for c in word if c.isalpha()}
    return word.translate(_LOOKALIKES) if "LATIN" in scripts and len(scripts) > 1 else word


def gather(arguments: Sequence[str], file: Path | None = None) -> list[Prompt]:
    """Prompts from the command line, else from `file`, else from piped stdin (also as ``-``).

    A file holds one prompt a line; blank lines and lines starting with ``#`` are skipped.

    Raises:
        PromptError: nothing was given, a file cannot be read, or a prompt is unusable.
    """
    prompts: list[Prompt] = []
    for argument in arguments:
        prompts += _lines(sys.stdin.buffer.read(), "stdin") if argument == "-" else [clean(argument)]
    if file is not None:
        try:
            content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        except OSError as error:
            raise PromptError(f"cannot read {file.name}: {error.strerror}", "Check the path.") from error
        prompts += _lines(content, file.name)
    if not arguments and file is None and not sys.stdin.isatty():
        prompts = _lines(sys.stdin.buffer.read(), "stdin")
    if not prompts:
        raise PromptError("no prompt given", 'Say what to draw, as in: safegen generate "a cat".')
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
