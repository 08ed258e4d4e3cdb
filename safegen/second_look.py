"""A second look: what a detector sees in a finished picture, and one more try where that is harmful."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from safegen import models
from safegen.errors import GuardError, UsageError
from safegen.generator import Generator, Picture, Settings
from safegen.guard import Guard
from safegen.prompts import Prompt

if TYPE_CHECKING:
    from PIL import Image

Seen = Mapping[str, Mapping[str, float]]  # concept -> what was seen of it -> probability
# What the world calls its harmful things, where that is not the concept's name.
_CONCEPTS = {"sexual": "nudity", "selfharm": "self-harm"}


class Detector(Protocol):
    """Something that finds harmful things in pictures.

    Attributes:
        name: what records call it, with its version.
        threshold: the probability from which it has seen something.
    """

    name: str
    threshold: float

    def look(self, picture: Image.Image) -> Seen:
        """What it sees; empty for a harmless picture."""
        ...


class WorldJudge:
    """The judge of the embedded model's world, see `builtin.judge`."""

    def __init__(self) -> None:
        from safegen.builtin import judge

        self._judge = judge.Judge.load()
        self.name, self.threshold = "judge/1", judge.THRESHOLD

    def look(self, picture: Image.Image) -> Seen:
        from safegen.builtin import world

        (verdict,) = self._judge.look([picture])
        seen: dict[str, dict[str, float]] = {}
        for label, probability in verdict.things.items():
            thing = world.things().get(label)
            if thing is not None and thing.category:
                concept = _CONCEPTS.get(thing.category, thing.category)
                seen.setdefault(concept, {})[label] = round(probability, 3)
        return seen


def detector_for(generator: Generator) -> Detector:
    """The detector that knows what a model draws.

    Raises:
        UsageError: there is none, or there is no guard to add to.
    """
    if generator.guard is None:
        raise UsageError("--check image needs the guard", "Leave out --no-guard.")
    if generator.model != models.EMBEDDED:
        raise UsageError("--check image knows the embedded model's pictures alone", "Leave it out.")
    return WorldJudge()


def look_again(
    generator: Generator,
    prompt: Prompt,
    settings: Settings,
    picture: Picture,
    detector: Detector,
    on_step: Callable[[int, int], None] | None = None,
) -> Picture:
    """The picture, or, where the detector sees something harmful in it, one drawn once more.

    The second has the same seed, and the guard has the concepts that were seen as well, at full strength
    if it had none. Where the prompt stays below their lines even so, what was seen goes into the negative
    prompt, which a prompt that names the thing outweighs. The second is returned whatever it shows; `check`
    in its record says what was seen in both.
    """
    seen = detector.look(picture.image)
    check: dict[str, object] = {"detector": detector.name, "threshold": detector.threshold, "before": seen}
    if not seen:
        return replace(picture, record={**picture.record, "check": check})
    wider, wiser = _widened(generator, seen), replace(settings, seed=picture.seed)
    report = wider.prepare(prompt)[2]
    if report is None or not (report.sanitized and set(seen) & set(report.before.open_gates())):
        things = [thing.replace("-", " ") for found in seen.values() for thing in found]
        wiser = replace(wiser, negative=", ".join(filter(None, (settings.negative, *things))))
    (again,), _ = wider.generate(prompt, wiser, on_step=on_step)
    check |= {"concepts": list(seen), "after": detector.look(again.image)}
    return replace(again, record={**again.record, "check": check})


def _widened(generator: Generator, seen: Seen) -> Generator:
    """The same model behind a guard that has the concepts as well, and acts."""
    guard = generator.guard
    if guard is None:
        raise GuardError("there is no guard to add a concept to", "Load the generator with guarded=True.")
    if set(seen) <= set(guard.names) and guard.strength > 0:
        return generator
    wider = Guard.load(
        *guard.names, *seen, strength=guard.strength or 1.0, safeguard=guard.safeguard.name, folder=guard.folder
    )
    return Generator(generator.pipe, wider, generator.model)
