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

from safegen.errors import PromptError, Refused
from safegen.files import as_path, lines, unusable
from safegen.prompts import emphasis, refusal
from safegen.prompts.emphasis import Weight

MAX_CHARACTERS = 10_000
# Letters of other scripts that look like Latin ones; they are folded only in words that mix scripts.
_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u043a\u043c\u0442\u043d\u0432"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u03bf\u03b1\u03b9\u03bd\u03c1\u0391\u0392\u0395\u0397\u039f",
    "aeopcyxijskmthbABEKMHOPCTXoaivpABEHO",
)

_JOINERS = "\u200c\u200d"
# First words of the Unicode names of letters that take no joiners.
_UNJOINED = {"?", "LATIN", "GREEK", "CYRILLIC", "COMBINING", "FULLWIDTH", "MATHEMATICAL"}


@dataclass(frozen=True)
class Prompt:
    """A prompt as it goes to the encoder, and as it was typed where that differs.

    Attributes:
        text: the text without marks.
        typed: the text before it was cleaned, where that changed anything.
        marked: the text with its marks, where it has any.
        weights: the weights that the marks give to the characters of `text`.
        places: the place of every character of `text` in `marked`, where there are marks.
        loras: the names of the LoRAs that the text calls for, and their scales.
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
        """The first 16 hex digits of the SHA-256 of the user's own text."""
        return hashlib.sha256(self.own.encode()).hexdigest()[:16]

    @property
    def verbatim(self) -> Prompt:
        """The prompt for models that take no weights: marks of weight are text like any other."""
        if not self.loras:
            return Prompt(self.marked, self.typed) if self.marked else self
        found = emphasis.parse(self.marked, weights=False)
        return replace(self, text=found.text, weights=(), places=found.places)

    def placed(self, span: tuple[int, int]) -> tuple[int, int]:
        """Find the span in the user's own text of a span in `text`."""
        if not self.marked:
            return span
        return self.places[span[0]], self.places[span[1] - 1] + 1


_NUMBERS = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")


def clean(typed: str) -> Prompt:
    """Remove control and invisible characters, look-alike letters and marks of weight.

    People do not see the invisible ones, and no encoder should read any of these. Letters are composed (NFC) and white
    space is single, as for most tokenizers.

    Raises:
        PromptError: the text is not valid, is empty after cleaning, or is far too long.
    """
    text = _clean_text(typed, "prompt")
    if (caption := _clean_caption(typed, text)) is not None:
        return caption
    text = _spell_out(text)
    found = emphasis.parse(text)
    if found.text == text:
        return Prompt(text, typed if typed != text else "")
    # A mark may have separated letters of two scripts, so words are folded once more.
    plain = found.text if found.text.isascii() else " ".join(map(_fold, found.text.split(" ")))
    if not plain:
        raise PromptError("the prompt calls for a LoRA and says nothing else", "Say what to draw with it.")
    return Prompt(plain, typed if typed != text else "", text, found.weights, found.places, found.loras)


def _clean_caption(typed: str, text: str) -> Prompt | None:
    """Clean a JSON caption, see `reader.captions`, whose text is clean so far; None where it is none.

    Its letters stand there as themselves afterwards, and its brackets are no marks of weight. What begins as JSON and
    is none is not taken as text: people would not see what an encoder makes of it.
    """
    if not text.startswith(("{", "[")):
        return None
    from safegen.reader import captions

    spelled = _clean_text(captions.spell_out(text), "prompt")
    if captions.parse(spelled) is not None:
        return Prompt(spelled, typed if typed != spelled else "")
    if not captions.begins(text):
        return None
    raise PromptError(
        "the prompt begins as JSON and is none: a quote, comma or bracket is missing or too much",
        "Mend it, or begin it with a word.",
    )


def _spell_out(text: str) -> str:
    """Write letters that stand as numbers (`\\u0063`) as themselves: an encoder may read them, and no reader does."""
    while (spelled := _NUMBERS.sub(lambda match: _letters(match[0]), text)) != text:
        text = _clean_text(spelled, "prompt")
    return text


def _letters(numbers: str) -> str:
    return bytes.fromhex(numbers.replace("\\u", "")).decode("utf-16-be", "replace")


def clean_negative(typed: str) -> str:
    """Clean a negative prompt like any other; an empty one stays empty.

    Raises:
        PromptError: see `clean`.
    """
    return "" if isinstance(typed, str) and not typed.strip() else _clean_text(typed, "negative prompt")


def _clean_text(typed: str, what: str) -> str:
    if not isinstance(typed, str):
        kind = type(typed).__name__
        raise PromptError(f"a {what} is one text, and this is of type {kind}", "Give prompts one by one.")
    try:
        typed.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(f"the {what} is not valid UTF-8", "Check the terminal's or the file's encoding.") from error
    text = " ".join(typed.split()) if typed.isascii() and typed.isprintable() else _as_seen(typed)
    if not text:
        raise PromptError(f"the {what} is empty", 'Say what to draw, as in: safegen generate "a cat".')
    if len(text) > MAX_CHARACTERS:
        raise PromptError(f"the {what} has {len(text)} characters, the limit is {MAX_CHARACTERS}", "Shorten it.")
    return text


def _as_seen(typed: str) -> str:
    """Reduce a text to what a person sees; plain ASCII, in files with millions of lines, does not come here."""
    spaced = re.sub(r"[\s\x00-\x1f\x7f\x85\u2028\u2029]+", " ", unicodedata.normalize("NFC", typed))
    visible = "".join(c for c in spaced if c in _JOINERS or unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cn"))
    joined = re.sub(f"(.?)([{_JOINERS}]+)(?=(.?))", _keep_joiner, visible)
    # Letters that were apart, or have been folded, may compose only now.
    return unicodedata.normalize("NFC", " ".join(_fold(word) for word in joined.split()))


def _keep_joiner(match: re.Match[str]) -> str:
    """Keep one joiner in pictographs and in scripts that are written with it; drop joiners elsewhere, as invisible."""
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
    """Collect prompts from the command line and `file`, or else from piped stdin (also as ``-``).

    A file holds one prompt per line; blank lines and lines that start with ``#`` are skipped.

    Raises:
        PromptError: there is no prompt, a file cannot be read, or a prompt is unusable.
        Refused: see `admit`.
    """
    prompts: list[Prompt] = []
    for number, argument in enumerate(arguments, 1):
        name = f"prompt {number}" if len(arguments) > 1 else ""
        prompts += _lines(sys.stdin.buffer.read(), "stdin") if argument == "-" else [_named(argument, name)]
    if file is not None:
        file = as_path(file)
        try:
            content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        except OSError as error:
            raise PromptError(f"cannot read {file}: {error.strerror}", "Check the path.") from error
        prompts += _lines(content, file.name)
    if not arguments and file is None and not sys.stdin.isatty():
        prompts = _lines(sys.stdin.buffer.read(), "stdin")
    if not prompts:
        raise PromptError("no prompt given", 'Say what to draw, as in: safegen generate "a cat".')
    return prompts


def _named(argument: str, name: str) -> Prompt:
    """Clean a prompt and admit it; an error names it."""
    try:
        prompt = clean(argument)
        admit([prompt])
    except (PromptError, Refused) as error:
        raise type(error)(f"{name}: {error}" if name else str(error), error.hint, error.details) from error
    return prompt


def _lines(content: bytes, source: str) -> list[Prompt]:
    prompts = []
    for number, line in lines(io.BytesIO(content)):
        try:
            if problem := unusable(line):
                raise PromptError(problem)
            text = (line or "").strip()
            if text and not text.startswith("#"):
                prompts.append(clean(text))
                admit(prompts[-1:])
        except (PromptError, Refused) as error:
            raise type(error)(f"{source}, line {number}: {error}", "Correct the line or remove it.") from error
    return prompts


def lay_out(texts: Sequence[str], gaps: Sequence[str]) -> tuple[str, list[int]]:
    """Make one text of several and the gaps between them; give it, and the place where each begins."""
    whole, starts = texts[0], [0]
    for gap, text in zip(gaps, texts[1:], strict=True):
        starts.append(len(whole) + len(gap))
        whole += gap + text
    return whole, starts


def admit(prompts: Iterable[Prompt]) -> None:
    """Refuse prompts that are never drawn, by their words alone; the guard may refuse more after it has scored them.

    Raises:
        Refused: minors in a sexual context.
    """
    for prompt in prompts:
        refusal.check(prompt.text)
