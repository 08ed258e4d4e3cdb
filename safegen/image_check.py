"""The image check: detectors that find harm in finished pictures, and a second try where they do.

They look at the picture that is drawn from as well: no guard that reads text sees what it shows.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from safegen.errors import GuardError, UsageError
from safegen.generator import Generator
from safegen.guard import Guard
from safegen.guard.bound import NUDITY
from safegen.guard.preparation import unwrap
from safegen.models import catalog
from safegen.models.options import DrawOptions
from safegen.prompts.prompt import Prompt
from safegen.records import Picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


Seen = Mapping[str, Mapping[str, float]]  # concept -> what was seen of it -> its score on the detector's scale
# The world's names for harmful categories, where they differ from the concept's name.
_CONCEPTS = {"sexual": NUDITY, "selfharm": "self-harm"}


def concept_named(category: str) -> str:
    """Give the concept of a category of the world's harmful things."""
    return _CONCEPTS.get(category, category)


class Detector(Protocol):
    """A detector of harmful things in pictures.

    Attributes:
        name: its name in records, with its version.
        concepts: what it can see; of others, it says nothing.
        threshold: the score, on its own scale, from which something counts as seen.
    """

    name: str
    concepts: tuple[str, ...]
    threshold: float

    def look(self, picture: Image.Image) -> Seen:
        """Find harmful things in a picture; a harmless one gives an empty mapping."""
        ...


class WorldJudge:
    """The judge of the embedded model's world, see `builtin.judge`; its scores are probabilities."""

    def __init__(self) -> None:
        from safegen.builtin import judge, world

        self._judge = judge.Judge.load()
        self.concepts = tuple(sorted({concept_named(t.category) for t in world.things().values() if t.category}))
        self.name, self.threshold = "judge/1", judge.THRESHOLD

    def look(self, picture: Image.Image) -> Seen:
        from safegen.builtin import world

        (verdict,) = self._judge.look([picture])
        seen: dict[str, dict[str, float]] = {}
        for label, probability in verdict.things.items():
            thing = world.things().get(label)
            if thing is not None and thing.category:
                seen.setdefault(concept_named(thing.category), {})[label] = round(probability, 3)
        return seen


class SafetyChecker:
    """The safety checker that comes with Stable Diffusion 1.x and 2.x, as a detector only: it blackens nothing.

    It compares a picture with seventeen sexual concepts that have no names. It is stricter where the picture also
    resembles one of three special concepts. Its score is how far the nearest concept is over its line, in cosines.
    """

    name, threshold = "StableDiffusionSafetyChecker", 0.0
    concepts: tuple[str, ...] = (NUDITY,)
    _SPECIAL = 0.01  # what the checker adds to every concept's score where a special concept is over its line

    def __init__(self, pipe: Any) -> None:
        self._checker, self._extractor = pipe.safety_checker, pipe.feature_extractor
        if self._checker.concept_embeds.is_meta:
            raise UsageError(
                "--check image cannot use the model's safety checker while its layers are offloaded",
                "Use --offload model, or pip install 'safegen[nudenet]'.",
            )

    def look(self, picture: Image.Image) -> Seen:
        import torch

        checker = self._checker
        pixels = self._extractor([picture.convert("RGB")], return_tensors="pt").pixel_values
        with torch.no_grad():
            pooled = checker.vision_model(pixels.to(checker.device, checker.dtype))[1]
            picture_is = checker.visual_projection(pooled).float()
            special, concepts = (
                torch.cosine_similarity(picture_is, embeds.float()) - lines.float()
                for embeds, lines in (
                    (checker.special_care_embeds, checker.special_care_embeds_weights),
                    (checker.concept_embeds, checker.concept_embeds_weights),
                )
            )
        over = round(float(concepts.max()) + self._SPECIAL * (round(float(special.max()), 3) > 0), 3)
        return {NUDITY: {"nudity": over}} if over > self.threshold else {}


class NudeNet:
    """NudeNet (Bedapudi, MIT): boxes around parts of bodies; its scores are those of the boxes.

    Version 3.4.2 exchanges red and blue twice. So a file, which OpenCV reads as blue, green, red, reaches the network
    in that order, and an array of red, green, blue in the other. Here the network gets the array that the picture's
    file would give, in 8 bits: files are NudeNet's documented use, and published thresholds were measured on them.
    (On 22 crops of harmless photographs, the other order gave faces a higher score in 17. The parts that are looked
    for here have not been measured.) No file is written: a picture that is being judged stays in memory.

    Raises:
        UsageError: the library is not installed.
    """

    threshold = 0.45
    concepts: tuple[str, ...] = (NUDITY,)
    # Of NudeNet's eighteen classes; the others are covered parts, or parts that the concept does not mean.
    PARTS = ("FEMALE_BREAST", "FEMALE_GENITALIA", "MALE_GENITALIA", "BUTTOCKS", "ANUS")

    def __init__(self) -> None:
        if not self.installed():
            raise UsageError("NudeNet is not installed", "pip install 'safegen[nudenet]'")
        from nudenet import NudeDetector

        self._detector = NudeDetector()
        self.name = f"nudenet/{importlib.metadata.version('nudenet')}"

    @staticmethod
    def installed() -> bool:
        return importlib.util.find_spec("nudenet") is not None

    def look(self, picture: Image.Image) -> Seen:
        seen: dict[str, float] = {}
        for box in self._detector.detect(as_opencv_reads(picture)):
            part, _, state = str(box["class"]).rpartition("_")
            if part in self.PARTS and state == "EXPOSED" and box["score"] >= self.threshold:
                label = f"exposed-{part.lower().replace('_', '-')}"
                seen[label] = max(round(float(box["score"]), 3), seen.get(label, 0.0))
        return {NUDITY: seen} if seen else {}


def as_opencv_reads(picture: Image.Image) -> NDArray[np.uint8]:
    """Give pixels (H, W, 3) as `cv2.imread` would read them from the picture's file: blue, green, red, in 8 bits."""
    import numpy as np
    from PIL import Image

    if picture.mode.startswith("I;16"):  # Pillow would clip it to white, but OpenCV takes the high byte
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[..., ::-1])


def detector_for(generator: Generator) -> Detector:
    """Choose the detector for `--check image`, which draws again behind the guard.

    Raises:
        UsageError: there is no detector, or the generator has no guard.
    """
    if generator.guard is None:
        raise UsageError("--check image needs the guard", "Leave out --no-guard.")
    return find_detector(generator)


def find_detector(generator: Generator) -> Detector:
    """Find the detector for what a model draws: NudeNet for photographs, or else the model's own checker.

    Raises:
        UsageError: there is none.
    """
    if generator.model == catalog.EMBEDDED:
        return WorldJudge()
    if NudeNet.installed():
        return NudeNet()
    if getattr(generator.pipe, "safety_checker", None) is not None:
        return SafetyChecker(generator.pipe)
    raise UsageError(
        f"there is no detector for {generator.model}, which has no safety checker of its own",
        "pip install 'safegen[nudenet]', or leave --check image out.",
    )


def look_again(
    generator: Generator,
    prompt: Prompt,
    options: DrawOptions,
    picture: Picture,
    detector: Detector,
    on_step: Callable[[int, int], None] | None = None,
) -> Picture:
    """Return the picture, or draw it once more where the detector sees something harmful in it.

    What it sees in a picture that is drawn from is put down, and is no reason to draw again: only what is left of it
    is. The second picture has the same seed. Its guard also has the concepts that were seen, at full strength if its
    strength was 0. Where the prompt stays below their lines even so, what was seen goes into the negative prompt, if
    the model has one; a prompt that names the thing outweighs it. The second picture is returned whatever it shows;
    `check` in its record says what was seen in all of them.
    """
    seen = detector.look(picture.image)
    check: dict[str, object] = {"detector": detector.name, "threshold": detector.threshold, "before": seen}
    if (beginning := options.beginning) is not None:
        check["input"] = detector.look(beginning.image.decode())
    if not seen:
        return replace(picture, record=picture.record.adding(check=check))
    wider, wiser = _widen(generator, seen), replace(options, seed=picture.seed)
    prepared = unwrap(wider.prepare([prompt])[0])
    report = prepared.report
    through = report is not None and report.sanitized and set(seen) & set(report.before.flagged_concepts())
    if not through and generator.family.negative:
        things = [thing.replace("-", " ") for found in seen.values() for thing in found]
        wiser = replace(wiser, negative=", ".join(filter(None, (options.negative, *things))))
    (again,), _ = wider.pictures(prepared, wiser, on_step=on_step)
    check |= {"concepts": list(seen), "after": detector.look(again.image)}
    return replace(again, record=again.record.adding(check=check))


def _widen(generator: Generator, seen: Seen) -> Generator:
    """Put the same model behind a guard that also has the concepts that were seen, and a strength above 0.

    Raises:
        GuardError: there is no guard.
    """
    guard = generator.guard
    if guard is None:
        raise GuardError("there is no guard to add a concept to", "Load the generator with guarded=True.")
    if set(seen) <= set(guard.names) and guard.options.strength > 0:
        return generator
    strength = guard.options.strength or 1.0
    return generator.behind(Guard(*guard.names, *seen, options=replace(guard.options, strength=strength)))
