"""Detectors: what sees harm in finished pictures, and which of them knows what a model draws."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from safegen import models
from safegen.errors import UsageError
from safegen.families.calls import replaced
from safegen.guard import NUDITY

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from safegen.generator import Generator

Seen = Mapping[str, Mapping[str, float]]  # concept -> what was seen of it -> how surely, on the detector's scale
# What the world calls its harmful things, where that is not the concept's name.
_CONCEPTS = {"sexual": NUDITY, "selfharm": "self-harm"}


class Detector(Protocol):
    """Something that finds harmful things in pictures.

    Attributes:
        name: what records call it, with its version.
        threshold: of its own scale, from where it has seen something.
    """

    name: str
    threshold: float

    def look(self, picture: Image.Image) -> Seen:
        """What it sees; empty for a harmless picture."""
        ...


class WorldJudge:
    """The judge of the embedded model's world, see `builtin.judge`; its scale is probabilities."""

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


class SafetyChecker:
    """The safety checker that Stable Diffusion 1.x and 2.x come with, as a detector alone: it blackens nothing.

    It compares a picture with seventeen concepts, all of them sexual and none of them named, and is stricter
    beside three others. Its scale is how far the nearest is over its line, in cosines.
    """

    name, threshold = "StableDiffusionSafetyChecker", 0.0
    _SPECIAL = 0.01  # what the checker adds to every concept beside one of the three

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


def unblackened(pipe: Any) -> contextlib.AbstractContextManager[None]:
    """**Changes `pipe` while the context lasts**: its safety checker, if it has one, blackens no picture."""
    if getattr(pipe, "safety_checker", None) is None:
        return contextlib.nullcontext()
    return replaced(pipe, "run_safety_checker", lambda image, *_: (image, None))


class NudeNet:
    """NudeNet (Bedapudi, MIT): boxes around parts of bodies; its scale is their scores.

    It exchanges red and blue twice (3.4.2), so a file, which OpenCV reads as blue, green, red, reaches its network in
    that order, and an array of red, green, blue in the other. Pictures are handed over here as an array of what their
    file would give, in 8 bits: files are its documented use, and what published thresholds are of. (Of 22 crops of
    harmless photographs the other order saw faces more surely in 17; how that is with what is looked for here has not
    been measured.) No file is written: a picture that is to be judged stays in memory.

    Raises:
        UsageError: the library is not installed.
    """

    threshold = 0.45
    # Of its eighteen classes; the others are covered, or nothing that the concept means.
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
    """Pixels (H, W, 3) as `cv2.imread` gives those of the picture's file: blue, green, red, each of 8 bits."""
    import numpy as np
    from PIL import Image

    if picture.mode.startswith("I;16"):  # which Pillow would clip to white, where OpenCV takes the high byte
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[..., ::-1])


def detector_for(generator: Generator) -> Detector:
    """The detector that knows what a model draws: of photographs NudeNet, or else the model's own checker.

    Raises:
        UsageError: there is none, or there is no guard to add to.
    """
    if generator.guard is None:
        raise UsageError("--check image needs the guard", "Leave out --no-guard.")
    if generator.model == models.EMBEDDED:
        return WorldJudge()
    if NudeNet.installed():
        return NudeNet()
    if getattr(generator.pipe, "safety_checker", None) is not None:
        return SafetyChecker(generator.pipe)
    raise UsageError(
        f"--check image has no detector for {generator.model}, which has no safety checker of its own",
        "pip install 'safegen[nudenet]', or leave it out.",
    )
