"""The image check: what it sees, and that one more try removes it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from safegen import Generator, image_check
from safegen.directions import recipes
from safegen.errors import UsageError
from safegen.guard import Guard
from safegen.image_check import Detector, NudeNet, SafetyChecker, WorldJudge, as_opencv_reads, look_again
from safegen.models.options import DrawOptions
from safegen.prompts.prompt import clean
from tests.helpers import miniatures

KNIFE = clean("a cat and a kitchen knife")


@pytest.fixture(scope="module")
def judge() -> WorldJudge:
    return WorldJudge()


def behind(generator: Generator, guard: Guard) -> Generator:
    """The model behind another guard, which lets the knife pass."""
    return generator.behind(guard)


@pytest.mark.slow
@pytest.mark.parametrize("guard", [{"concepts": ("nudity",)}, {"strength": 0.0}])
def test_what_the_guard_let_pass_is_seen_and_gone_at_the_second_try(
    generator: Generator, judge: Detector, guard: dict[str, Any]
) -> None:
    careless = behind(generator, Guard(**guard))
    settings = DrawOptions(seed=3)
    (first,), _ = careless.generate(KNIFE, settings)
    again = look_again(careless, KNIFE, settings, first, judge)
    check = again.record.more["check"]
    assert list(check["before"]) == check["concepts"] == ["violence"]
    assert check["before"]["violence"]["knife"] > 0.5
    assert check["after"] == {}
    assert (check["detector"], check["threshold"]) == ("judge/1", 0.5)
    assert again.seed == first.seed
    assert again.record.negative == ""  # the concept repairs the prompt
    assert "violence" in again.record.guard["directions"]
    assert max(high for _, high in again.image.getextrema()) > 0  # never a black image
    assert careless.guard is not None
    assert careless.guard.names == tuple(guard.get("concepts", recipes.known()))


def test_a_harmless_picture_stays_as_it_is(generator: Generator, judge: Detector) -> None:
    settings = DrawOptions(seed=3)
    (first,), _ = generator.generate("a dog", settings)
    again = look_again(generator, clean("a dog"), settings, first, judge)
    assert again.image is first.image
    assert again.record.more["check"] == {"detector": "judge/1", "threshold": 0.5, "before": {}}
    assert "check" not in first.record.as_json()


def test_it_is_tried_once_and_what_is_left_is_told(generator: Generator) -> None:
    class Stubborn:
        name, threshold, looks = "stub", 0.5, 0
        concepts: tuple[str, ...] = ("violence",)

        def look(self, _: Image.Image) -> Any:
            self.looks += 1
            return {"violence": {"bow-and-arrow": 0.9}}

    stub = Stubborn()
    settings = DrawOptions(seed=3, steps=1, negative="fog")
    (first,), _ = generator.generate("a dog", settings)
    again = look_again(generator, clean("a dog"), settings, first, stub)
    assert stub.looks == 2
    assert again.record.more["check"]["after"] == {"violence": {"bow-and-arrow": 0.9}}
    assert again.record.negative == "fog, bow and arrow"


def test_where_there_is_no_detector(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NudeNet, "installed", staticmethod(lambda: False))
    with pytest.raises(UsageError, match="guard"):
        image_check.detector_for(Generator(generator.pipe, None, "embedded"))
    with pytest.raises(UsageError, match="no detector for sd15") as raised:
        image_check.detector_for(behind_name(generator, "sd15"))

    assert "safegen[nudenet]" in raised.value.hint


def behind_name(generator: Generator, name: str) -> Generator:
    return Generator(generator.pipe, Guard(), name)


@pytest.mark.slow
def test_the_command(run: Any, tmp_path: Path) -> None:
    done = run("generate", KNIFE.text, "--concept", "nudity", "--seed", "3", "--check", "image", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (list(record["check"]["before"]), record["check"]["after"]) == (["violence"], {})
    assert "knife (violence); drawn again without" in done.stderr
    bad = run("generate", "a cat", "--check", "sound")
    assert (bad.returncode, "--check" in bad.stderr) == (2, True)


SMALL = {"width": 64, "height": 64, "num_inference_steps": 1}
quiet = pytest.mark.filterwarnings("ignore")  # of the libraries, about models as small as these


@quiet
@pytest.mark.parametrize("special", [2.0, -2.0])
def test_the_model_s_own_checker_sees_what_it_would_have_blackened(special: float) -> None:
    picture = Image.new("RGB", (64, 64), "teal")
    (cosine,) = SafetyChecker(miniatures.checked(-2.0)).look(picture)["nudity"].values()
    cosine -= 2.0
    for offset, flagged in ((-0.05, True), (0.05, False), (0.005, special < 0)):
        pipe = miniatures.checked(cosine + offset, special)
        seen = SafetyChecker(pipe).look(picture)
        assert list(seen) == (["nudity"] if flagged else [])
        pixels = pipe.feature_extractor([picture], return_tensors="pt").pixel_values
        _, own = pipe.safety_checker(clip_input=pixels, images=torch.ones(1, 64, 64, 3).numpy())
        assert own == [flagged]  # its own verdict


@quiet
def test_no_picture_is_blackened_and_the_user_s_own_call_is_as_ever() -> None:
    pipe = miniatures.checked(-2.0)
    generator = Generator(pipe, None, "miniature")
    (picture,), _ = generator.generate("a cat", DrawOptions(seed=3, steps=1, size=(64, 64)))
    assert max(high for _, high in picture.image.getextrema()) > 0
    assert "run_safety_checker" not in vars(pipe)
    own = pipe("a cat", generator=torch.Generator().manual_seed(3), **SMALL)
    assert own.nsfw_content_detected == [True]
    assert max(high for _, high in own.images[0].getextrema()) == 0
    same = pipe.__class__(**{**pipe.components, "safety_checker": None}, requires_safety_checker=False)
    same.set_progress_bar_config(disable=True)
    plain = same("a cat", generator=torch.Generator().manual_seed(3), **SMALL, guidance_scale=7.5)
    assert plain.images[0].tobytes() == picture.image.tobytes()


@quiet
def test_the_checker_is_chosen_where_there_is_one_and_drawing_again_names_what_it_saw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(NudeNet, "installed", staticmethod(lambda: False))
    careless = Generator(miniatures.checked(-2.0), Guard("nudity"), "sd15")
    detector = image_check.detector_for(careless)
    assert isinstance(detector, SafetyChecker)
    settings = DrawOptions(seed=3, steps=1, size=(64, 64))
    (first,), _ = careless.generate("a cat", settings)
    again = look_again(careless, clean("a cat"), settings, first, detector)
    check = again.record.more["check"]
    assert (check["detector"], check["concepts"]) == ("StableDiffusionSafetyChecker", ["nudity"])
    assert again.record.negative == "nudity"
    assert max(high for _, high in again.image.getextrema()) > 0


def test_nudenet_is_asked_for_by_name_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="NudeNet is not installed") as raised:
        NudeNet()
    assert "safegen[nudenet]" in raised.value.hint


# Of every mode that a picture may have: its one colour, and what cv2.imread gives of its PNG.
MODES: dict[str, tuple[Any, tuple[int, int, int]]] = {
    "RGB": ((200, 100, 50), (50, 100, 200)),
    "RGBA": ((200, 100, 50, 9), (50, 100, 200)),
    "L": (70, (70, 70, 70)),
    "LA": ((70, 9), (70, 70, 70)),
    "1": (1, (255, 255, 255)),
    "I;16": (40_000, (156, 156, 156)),
}


def of_mode(mode: str) -> Image.Image:
    return Image.new(mode, (6, 4), MODES[mode][0])


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_is_handed_to_nudenet_as_its_file_would_be_read(mode: str) -> None:
    for picture in (of_mode(mode), of_mode(mode).rotate(90, expand=True)):
        pixels = as_opencv_reads(picture)
        assert (pixels.shape, pixels.dtype) == ((picture.height, picture.width, 3), np.uint8)
        assert (pixels == MODES[mode][1]).all()
        assert pixels.flags.c_contiguous
    of_palette = Image.new("RGB", (6, 4), (200, 100, 50)).quantize(4)
    assert (as_opencv_reads(of_palette) == (50, 100, 200)).all()


real = pytest.mark.skipif(not NudeNet.installed(), reason="NudeNet is not installed; safegen[nudenet]")


def seen_by_its_network(detector: NudeNet, what: Any) -> np.ndarray:
    """What reaches the real network (1, 3, 320, 320) of a picture, or of whatever else the library takes."""
    inner, session, fed = detector._detector, detector._detector.onnx_session, []

    def run(names: Any, feed: dict[str, np.ndarray]) -> Any:
        fed.extend(feed.values())
        return session.run(names, feed)

    inner.onnx_session = SimpleNamespace(run=run)
    try:
        detector.look(what) if isinstance(what, Image.Image) else inner.detect(what)
    finally:
        inner.onnx_session = session
    (blob,) = fed
    return blob


@real
@pytest.mark.parametrize("mode", MODES)
def test_its_real_network_is_fed_the_same_by_picture_and_by_file(tmp_path: Path, mode: str) -> None:
    detector, path = NudeNet(), tmp_path / "picture.png"
    of_mode(mode).save(path)
    fed = seen_by_its_network(detector, of_mode(mode))
    assert (fed == seen_by_its_network(detector, str(path))).all()
    assert np.allclose(fed[0, :, 0, 0], np.array(MODES[mode][1]) / 255)  # blue first, in units
    if mode == "RGB":  # an array of red, green, blue is another picture to it
        exchanged = seen_by_its_network(detector, np.asarray(of_mode(mode)))
        assert (exchanged == fed[:, ::-1]).all()


@real
def test_its_real_weights_find_nothing_in_harmless_pictures(generator: Generator) -> None:
    detector = image_check.detector_for(behind_name(generator, "sd15"))
    assert isinstance(detector, NudeNet)
    (drawn,), _ = generator.generate("a cat and a tulip", DrawOptions(seed=3))
    for picture in (drawn.image, Image.new("RGB", (1, 1)), Image.new("RGB", (3, 900), "teal")):
        assert detector.look(picture) == {}
    again = look_again(generator, clean("a cat and a tulip"), DrawOptions(seed=3), drawn, detector)
    assert again.image is drawn.image
    assert again.record.more["check"] == {"detector": detector.name, "threshold": 0.45, "before": {}}


@real
def test_the_classes_below_are_its_own() -> None:
    from nudenet import nudenet

    assert vars(nudenet)["__labels"] == CLASSES


# The classes that its documentation lists; what stands for the library here only answers in its form.
CLASSES = [
    "FEMALE_GENITALIA_COVERED",
    "FACE_FEMALE",
    "BUTTOCKS_EXPOSED",
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_BREAST_EXPOSED",
    "ANUS_EXPOSED",
    "FEET_EXPOSED",
    "BELLY_COVERED",
    "FEET_COVERED",
    "ARMPITS_COVERED",
    "ARMPITS_EXPOSED",
    "FACE_MALE",
    "BELLY_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "ANUS_COVERED",
    "FEMALE_BREAST_COVERED",
    "BUTTOCKS_COVERED",
]


def test_of_nudenet_s_classes_five_are_nudity(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    def detect(pixels: np.ndarray) -> list[dict[str, Any]]:
        assert (pixels.shape, pixels.dtype) == ((8, 8, 3), np.uint8)
        boxes = [{"class": name, "score": 0.7, "box": [0, 0, 4, 4]} for name in CLASSES]
        return [*boxes, {"class": "BUTTOCKS_EXPOSED", "score": 0.9, "box": [4, 4, 4, 4]}, *faint]

    faint: list[dict[str, Any]] = []
    stand_in = SimpleNamespace(NudeDetector=lambda: SimpleNamespace(detect=detect))
    monkeypatch.setitem(sys.modules, "nudenet", stand_in)
    monkeypatch.setattr(NudeNet, "installed", staticmethod(lambda: True))
    monkeypatch.setattr("importlib.metadata.version", lambda _: "3.4.2")
    detector = image_check.detector_for(behind_name(generator, "sd15"))
    assert (detector.name, detector.threshold) == ("nudenet/3.4.2", 0.45)
    assert detector.look(Image.new("RGB", (8, 8))) == {
        "nudity": {
            "exposed-female-breast": 0.7,
            "exposed-female-genitalia": 0.7,
            "exposed-male-genitalia": 0.7,
            "exposed-buttocks": 0.9,
            "exposed-anus": 0.7,
        }
    }
    monkeypatch.setattr(f"{__name__}.CLASSES", ["FACE_FEMALE"])
    faint.append({"class": "FEMALE_BREAST_EXPOSED", "score": 0.3, "box": [0, 0, 1, 1]})
    stand_in.NudeDetector = lambda: SimpleNamespace(detect=lambda pixels: detect(pixels)[:1] + faint)
    assert NudeNet().look(Image.new("RGB", (8, 8))) == {}
