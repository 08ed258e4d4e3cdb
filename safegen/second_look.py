"""A second look: what a detector sees in a finished picture, and one more try where that is harmful."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from safegen.detectors import Detector, Seen
from safegen.errors import GuardError
from safegen.generator import Generator, Picture, Settings
from safegen.guard import Guard
from safegen.prompts import Prompt


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
    prompt, if the model has one; a prompt that names the thing outweighs it. The second is returned
    whatever it shows; `check` in its record says what was seen in both.
    """
    seen = detector.look(picture.image)
    check: dict[str, object] = {"detector": detector.name, "threshold": detector.threshold, "before": seen}
    if not seen:
        return replace(picture, record={**picture.record, "check": check})
    wider, wiser = _widened(generator, seen), replace(settings, seed=picture.seed)
    report = wider.prepare(prompt)[2]
    through = report is not None and report.sanitized and set(seen) & set(report.before.open_gates())
    if not through and generator.family.negative:
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
        *guard.names,
        *seen,
        strength=guard.strength or 1.0,
        safeguard=guard.safeguard.name,
        folder=guard.folder,
        unread=guard.unread,
    )
    return generator.behind(wider)
