"""Rows: lines of a prompt file, checked and completed with the run's settings."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safegen.batch.readers import Line, Source
from safegen.batch.settings import BatchSettings
from safegen.directions import attributes, recipes
from safegen.errors import PromptError, UnknownConcept, UsageError
from safegen.families import sizes
from safegen.models.options import MAX_SEED, NO_SEED, DrawOptions, check_seeds
from safegen.pictures.inputs import InputPicture
from safegen.prompts.dialects import ALIASES
from safegen.prompts.prompt import Prompt, clean
from safegen.safeguards.options import MAX_STRENGTH

FIELDS = (
    *("prompt", "id", "negative", "seed", "images", "steps", "guidance", "width", "height", "concepts", "strength"),
    *("fair", "image", "mask", "image_strength"),
)
IGNORED = {
    *("categories", "hard", "inappropriate_percentage", "nudity_percentage", "q16_percentage"),
    *("sd_safety_percentage", "prompt_toxicity", "lexica_url", "sd_model"),
}


@dataclass(frozen=True)
class Row:
    """One prompt with everything that its pictures depend on.

    `number` counts rows from 1; `line` is the row's line in the file. Without an id in the file, the id is
    the first 16 hex digits of the content's SHA-256, so that the same row has the same id anywhere.
    """

    number: int
    line: int
    prompt: Prompt
    options: DrawOptions
    images: int
    concepts: tuple[str, ...]
    strength: float
    given: str = ""
    run: str = ""  # hash of everything else that the run's pictures depend on

    @property
    def id(self) -> str:
        return self.given or self.content

    @functools.cached_property
    def content(self) -> str:
        """The hash of everything but the id and the place in the file."""
        s = self.options
        parts = (self.prompt.own, s.negative, s.seed, s.steps, s.guidance, s.size, self.images, self.concepts)
        # Rows without these keep the ids that they had before there were any.
        rare: list[object] = [s.fair] if s.fair else []
        if (beginning := s.beginning) is not None:
            mask = beginning.mask.sha256 if beginning.mask else ""
            rare.append({"image": beginning.image.sha256, "mask": mask, "strength": beginning.strength})
        return hashlib.sha256(json.dumps([*parts, self.strength, *rare]).encode()).hexdigest()[:16]

    @functools.cached_property
    def mark(self) -> str:
        """Eight hex digits that no other row has, nor the same row of another run."""
        return hashlib.sha256(json.dumps([self.id, self.content, self.run]).encode()).hexdigest()[:8]

    @property
    def seed(self) -> int:
        """The first seed; a row without one gets one made from its id, the same in every run."""
        if self.options.seed is not None:
            return self.options.seed
        return int(hashlib.sha256(self.id.encode()).hexdigest()[:8], 16) % 2**31


class RowParser:
    """A reader that turns lines into rows under a run's settings."""

    def __init__(self, settings: BatchSettings) -> None:
        self.settings = settings
        self.known = recipes.known(settings.guard.folder)
        self.run = hashlib.sha256(json.dumps(settings.as_json(), sort_keys=True).encode()).hexdigest()
        self._check_concepts((*settings.guard.concepts, *settings.guard.safe))
        attributes.resolve(settings.draw.fair, settings.guard.folder)

    def read(self, source: Source) -> Iterator[tuple[Line, Row | None, str]]:
        """Read every line with its row, or with what is wrong with it. Rows are numbered from 1.

        Raises:
            PromptError: the file cannot be read.
        """
        number = 0
        for line in source.lines():
            try:
                if line.problem:
                    raise PromptError(line.problem)
                row = self.row(line, number + 1, source.folder)
            except UsageError as error:
                hint = "" if isinstance(error, PromptError) else f": {error.hint}"
                yield line, None, f"{error}{hint}"
            else:
                number += 1
                yield line, row, ""

    def row(self, line: Line, number: int, folder: Path | None = None) -> Row:
        """Make one row, with its pictures from the folder of the file.

        Raises:
            UsageError: a field is unknown, missing or out of range.
        """
        fields, given = _named(line.fields), self.settings
        prompt = fields.get("prompt")
        if isinstance(prompt, (dict, list)):  # a caption of JSON within a line of JSON
            prompt = json.dumps(prompt, ensure_ascii=False)
        if not isinstance(prompt, str):
            raise PromptError("there is no prompt" if prompt is None else f"the prompt is a {type(prompt).__name__}")
        chosen = _listed(fields["concepts"]) if "concepts" in fields else given.guard.concepts
        self._check_concepts(chosen)
        options = DrawOptions(
            seed=_whole(fields, "seed", NO_SEED, MAX_SEED, given.draw.seed),
            steps=_whole(fields, "steps", 1, 1000, given.draw.steps),
            guidance=_real(fields, "guidance", 50, given.draw.guidance),
            size=_size(fields, given.draw.size),
            negative=_text(fields, "negative", given.draw.negative),
            fair=_fair(fields["fair"]) if "fair" in fields else given.draw.fair,
            image=_picture(fields, "image", folder),
            mask=_picture(fields, "mask", folder),
            image_strength=_real(fields, "image_strength", 1, None),
        )
        attributes.resolve(options.fair, given.guard.folder)
        images = _whole(fields, "images", 1, 1000, given.images) or 1
        check_seeds(options.seed, images)
        return Row(
            number=number,
            line=line.number,
            prompt=clean(prompt),
            options=options,
            images=images,
            concepts=chosen,
            strength=_real(fields, "strength", MAX_STRENGTH, given.guard.strength) or 0.0,
            given=_identity(fields.get("id")),
            run=self.run,
        )

    def _check_concepts(self, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in self.known:
                raise UnknownConcept(name, self.known)


def _named(found: Mapping[str, object]) -> dict[str, object]:
    """Give the fields that are set, under our names."""
    fields: dict[str, object] = {}
    for key, value in found.items():
        name = ALIASES.get(key.lower(), key.lower())
        if name in fields:
            raise PromptError(f"{key!r} and another column both say {name}")
        if name in FIELDS:
            fields[name] = value
        elif name not in IGNORED:
            raise PromptError(f"unknown field {key[:40]!r} (known: {', '.join(FIELDS)})")
    return {name: value for name, value in fields.items() if value not in (None, "")}


def _whole(fields: Mapping[str, object], name: str, low: int, high: int, default: int | None) -> int | None:
    if name not in fields:
        return default
    value = fields[name]
    # Spreadsheets write whole numbers as 7.0.
    match = re.fullmatch(r"(-?\d{1,19})(\.0+)?", str(value)) if isinstance(value, (str, int, float)) else None
    if match is None or not low <= int(match[1]) <= high:
        raise PromptError(f"{name} {str(value)[:40]!r} is not a whole number from {low} to {high}")
    return int(match[1])


def _real(fields: Mapping[str, object], name: str, high: float, default: float | None) -> float | None:
    if name not in fields:
        return default
    value = fields[name]
    if isinstance(value, str) and re.fullmatch(r"\d+,\d+", value):
        value = value.replace(",", ".")  # spreadsheets write decimal commas in much of the world
    try:
        number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else -1.0
    except (ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= high:
        raise PromptError(f"{name} {str(value)[:40]!r} is not a number from 0 to {high:g}")
    return number


def _size(fields: Mapping[str, object], default: tuple[int, int] | None) -> tuple[int, int] | None:
    width, height = (_whole(fields, name, 1, 4096, None) for name in ("width", "height"))
    if width is None and height is None:
        return default
    if width is None or height is None:
        raise PromptError("give both width and height")
    sizes.check(width, height)
    return width, height


def _text(fields: Mapping[str, object], name: str, default: str) -> str:
    value = fields.get(name, default)
    if not isinstance(value, str):
        raise PromptError(f"{name} is a {type(value).__name__}, not text")
    return value


def _picture(fields: Mapping[str, object], name: str, folder: Path | None) -> InputPicture | None:
    """Read a picture that lies in the folder of the prompt file, or below it.

    A prompt file may come from anywhere, and what it draws from goes into pictures that are shown. So no row reaches
    beyond that folder, not through a link either.
    """
    if name not in fields:
        return None
    written = fields[name]
    if not isinstance(written, str):
        raise PromptError(f"{name} is a {type(written).__name__}, not a path")
    if folder is None:
        raise PromptError(
            f"{name}: prompts from standard input have no folder; put them into a file beside the picture"
        )
    try:
        inside = (folder / written).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):  # a circle of links, or a byte that no path has
        inside = False
    if Path(written).is_absolute() or not inside:
        raise PromptError(f"{name} {written[:60]!r} is not in the folder of the prompt file, where pictures have to be")
    return InputPicture.of(folder / written, mask=name == "mask")


def _listed(value: object) -> tuple[str, ...]:
    """Read concepts from a list, or from text with commas or semicolons between them."""
    names = re.split("[,;]", value) if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PromptError("concepts are a list of names, or names with commas or semicolons between them")
    return tuple(sorted({name.strip() for name in names if name.strip()}))


def _fair(value: object) -> tuple[str, ...]:
    """Read what `--fair` takes from a list, or from text with semicolons between; "none" is nothing."""
    texts = value.split(";") if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise PromptError("fair is a list of attributes, or attributes with semicolons between them")
    return tuple(text.strip() for text in texts if text.strip() not in ("", "none"))


def _identity(value: object) -> str:
    if value is None:
        return ""
    text = str(value)
    if isinstance(value, (bool, float, list, dict)) or not re.fullmatch(r"[\w.:/@+-]{1,100}", text):
        raise PromptError(f"id {text[:40]!r} is not 1 to 100 letters, digits or any of . : / @ + - _")
    return text
