"""The record of every picture."""

from __future__ import annotations

import functools
import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen.pictures.inputs import rename_inputs
from safegen.pictures.metadata import DEFAULT, Kept, save_picture

if TYPE_CHECKING:
    from PIL import Image

    from safegen.prompts.prompt import Prompt
    from safegen.scoring.report import Report

LIBRARIES = ("safegen", "torch", "diffusers", "transformers")
UNGUARDED: Mapping[str, Any] = {"safeguard": "", "strength": 0.0, "directions": {}, "reader": ""}


def now() -> str:
    """Give the time in UTC, to the second; SOURCE_DATE_EPOCH fixes it where files have to be reproducible."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH", "")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(seconds) if seconds.isdecimal() else None))


@dataclass(frozen=True)
class Record:
    """The record of one picture; the same from `generate`, `batch` and `serve`.

    Attributes:
        id: the prompt's id.
        text: the user's own text, with its marks of weight.
        guard: the safeguard, what it found and what it did, ready for JSON.
        input: the picture that was drawn from and its mask, by name, hash and size, ready for JSON; empty where there
            was none.
        latent: the latent directions that were added, and why, ready for JSON; empty where there were none.
        additions: textual inversions and LoRAs, ready for JSON.
        created: the time, in UTC.
        seconds: how long the picture took.
        versions: the versions of safegen and the libraries.
        more: what a command or the server adds: where the picture is, its row, what a detector saw.
    """

    id: str
    text: str
    negative: str
    seed: int
    steps: int
    guidance: float
    size: tuple[int, int]
    scheduler: str
    model: str
    status: str
    guard: Mapping[str, Any]
    additions: tuple[Mapping[str, Any], ...]
    created: str
    seconds: float
    versions: Mapping[str, str]
    input: Mapping[str, Any] = field(default_factory=dict)
    latent: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def adding(self, **more: Any) -> Record:
        """Add fields that only the caller knows."""
        return replace(self, more={**self.more, **more})

    def redacted(self, hide: Callable[[str], str]) -> Record:
        """Replace every text by what `hide` makes of it."""
        guard = {**self.guard, "rewritten": hide(self.guard["rewritten"]), "words": []}
        guard.pop("weights", None)
        latent = {
            reason: {
                name: {key: hide(v) if key in ("stated", "phrase") else v for key, v in facts.items()}
                for name, facts in found.items()
            }
            for reason, found in self.latent.items()
        }
        own, negative = hide(self.text), hide(self.negative)
        begun = rename_inputs(self.input, hide)
        return replace(self, text=own, negative=negative, guard=guard, latent=latent, input=begun)

    def as_json(self) -> dict[str, Any]:
        """Give the record as a line of a manifest has it."""
        rare = ("more", "additions", "input", "latent")
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in rare}
        values |= {"size": list(self.size), "guard": dict(self.guard), "versions": dict(self.versions)}
        if self.additions:
            values["additions"] = [dict(addition) for addition in self.additions]
        if self.input:
            values["input"] = dict(self.input)
        if self.latent:
            values["latent"] = {reason: dict(found) for reason, found in self.latent.items()}
        return values | dict(self.more)

    def __getitem__(self, name: str) -> Any:
        """Look up a field by its name, as in 0.1, where a record was a dictionary."""
        name = "text" if name == "prompt" else name
        warnings.warn(f"a record is no dictionary any more: say record.{name}", DeprecationWarning, stacklevel=2)
        return self.as_json()[name]


@dataclass(frozen=True)
class Picture:
    """One image with what is known of it."""

    image: Image.Image
    seed: int
    record: Record = field(repr=False)

    def save(self, path: str | Path, kept: Kept = DEFAULT) -> None:
        """Write a PNG that says as much of itself as is kept, see `save_picture`."""
        save_picture(self.image, path, self.record.as_json(), kept)


def findings(prompt: Prompt, report: Report | None) -> dict[str, Any]:
    """Say what the guard found and did, as records have it; without a guard all but the weights is empty."""
    drawn, obeyed = (report.after.prompt, report.weights) if report else (prompt.text, prompt.weights)
    weights = [{"text": drawn[slice(*w.span)], "weight": w.value} for w in obeyed]
    weighed = {"weights": weights} if weights else {}
    if report is None:
        return {"senses": [], "drift": 0.0, "rewritten": "", "before": {}, "after": {}, "words": [], **weighed}
    before, words = report.before, [word for word in report.before.words if word.flagged]
    drawing = {"drawing": report.treatment.as_json()} if report.treatment else {}
    return {
        "senses": list(report.before.senses),
        "drift": report.drift,
        "rewritten": report.rewritten,
        "before": report.before.as_json(prompt.id)["concepts"],
        "after": report.after.as_json(prompt.id)["concepts"],
        "words": [
            {"text": w.text, "span": list(prompt.placed(w.span)), "concepts": list(w.flagged)}
            | ({"key": key} if (key := before.key_of(w.span)) else {})
            for w in words
        ],
        **drawing,
        **weighed,
    }


@functools.cache
def versions() -> Mapping[str, str]:
    """Give the versions of safegen, the libraries and Python, by name."""
    import importlib.metadata  # slow, and `--help` does without

    return {**{name: importlib.metadata.version(name) for name in LIBRARIES}, "python": platform.python_version()}
