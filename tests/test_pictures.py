"""Pictures to draw from: what a file may be, what is made of it, and what is drawn from it."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from safegen import Generator, Guard
from safegen.errors import ModelError, PictureError, UsageError
from safegen.families import family_of, sizes
from safegen.families.blending import BlendedDrawing
from safegen.families.pictured import derive, fit
from safegen.image_check import WorldJudge, look_again
from safegen.models.options import DrawOptions
from safegen.pictures import metadata
from safegen.pictures.decoding import decode_mask, decode_picture
from safegen.pictures.inputs import Beginning, InputPicture
from safegen.prompts.prompt import clean
from tests.helpers import miniatures
from tests.helpers.pipelines import BENIGN, CHANNELS, HARMFUL, pipeline, prepared, same, watched

SIDE = 128


def scene(width: int = SIDE, height: int = SIDE) -> Image.Image:
    """A picture whose four quarters have colours of their own."""
    colours = [[(200, 30, 30), (30, 200, 30)], [(30, 30, 200), (200, 200, 30)]]
    small = np.array(colours, np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST)


def half(width: int = SIDE, height: int = SIDE) -> Image.Image:
    """A mask that shows the right half."""
    mask = Image.new("L", (width, height))
    mask.paste(255, (width // 2, 0, width, height))
    return mask


def coded(picture: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **more)
    return buffer.getvalue()


def huge(width: int, height: int) -> bytes:
    """A PNG that says it is huge; there are no pixels behind its header."""
    content = bytearray(coded(Image.new("1", (64, 64))))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


BAD = {
    "no picture": (b"a text, and no picture", "not a picture that can be read"),
    "empty": (b"", "not a picture that can be read"),
    "another format": (coded(scene(), "GIF"), "not a picture that can be read"),
    "one pixel": (coded(Image.new("RGB", (1, 1))), "1x1, which is too small"),
    "a bomb": (huge(20_000, 20_000), "too large to be decoded safely"),
    "more than enough": (huge(8_000, 8_000), "8000x8000"),
    "a ribbon": (huge(20_000, 64), "20000x64"),
    "cut off": (coded(scene())[:150], "damaged"),
    "animated": (coded(scene(), "WEBP", save_all=True, append_images=[half().convert("RGB")]), "it has 2 frames"),
    "animated PNG": (coded(scene(), "PNG", save_all=True, append_images=[scene().rotate(90)]), "it has 2 frames"),
}


@pytest.mark.parametrize("what", sorted(BAD))
def test_what_is_no_still_picture_of_bounded_size_is_refused(what: str) -> None:
    content, message = BAD[what]
    with pytest.raises(PictureError, match=message) as raised:
        InputPicture.of(content, "it.png")
    assert raised.value.exit_code == 2
    assert raised.value.hint


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["PNG", "JPEG", "WEBP"]), st.integers(0, 2000))
def test_no_damage_raises_anything_but_our_own_error(noise: bytes, kind: str, place: int) -> None:
    whole = coded(scene(64, 64), kind)
    for content in (noise, whole[:place], whole[:place] + noise + whole[place + len(noise) :]):
        try:
            InputPicture.of(content)
        except PictureError:
            continue


@pytest.mark.parametrize("missing", ["nothing.png", ""])
def test_a_path_without_a_file_is_named(tmp_path: Path, missing: str) -> None:
    with pytest.raises(PictureError, match=missing or tmp_path.name):
        InputPicture.of(tmp_path / missing)


def test_a_picture_is_turned_upright_as_its_camera_says() -> None:
    turned = scene(128, 64)
    exif = turned.getexif()
    exif[0x0112] = 6  # a quarter to the right
    content = coded(turned, "JPEG", exif=exif, quality=95)
    found = InputPicture.of(content)
    assert found.size == (64, 128)
    assert found.decode().size == (64, 128)
    assert np.abs(np.asarray(found.decode(), int) - np.asarray(turned.rotate(-90, expand=True), int)).mean() < 8


def test_transparent_parts_become_white_and_half_transparent_ones_lighter() -> None:
    picture = scene().convert("RGBA")
    alpha = Image.new("L", picture.size, 255)
    alpha.paste(0, (0, 0, 64, 64))
    alpha.paste(127, (64, 64, 128, 128))
    picture.putalpha(alpha)
    found = decode_picture(coded(picture), "it")
    assert found.mode == "RGB"
    assert found.getpixel((10, 10)) == (255, 255, 255)
    assert found.getpixel((100, 10)) == (30, 200, 30)
    assert found.getpixel((100, 100)) == pytest.approx((228, 228, 143), abs=2)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "I;16", "LA"])
def test_every_mode_becomes_rgb_of_eight_bits(mode: str) -> None:
    grey = Image.fromarray(np.linspace(0, 255, SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE))
    if mode == "I;16":
        given = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        given = (scene() if mode in ("CMYK", "P") else grey).convert(mode)
    found = decode_picture(coded(given, "JPEG" if mode == "CMYK" else "PNG"), "it")
    assert (found.mode, found.size) == ("RGB", (SIDE, SIDE))
    expected = grey.convert("RGB") if mode in ("L", "I;16", "LA") else given.convert("RGB")
    assert np.abs(np.asarray(found, int) - np.asarray(expected, int)).max() <= (60 if mode == "CMYK" else 0)


def test_a_mask_shows_what_is_white_or_else_what_is_transparent() -> None:
    by_colour = decode_mask(coded(half()), "mask")
    clear = scene().convert("RGBA")
    clear.putalpha(half().point(lambda value: 255 - value))
    by_alpha = decode_mask(coded(clear), "mask")
    opaque = half().convert("RGBA")  # has transparency, and uses none of it
    for found in (by_colour, by_alpha, decode_mask(coded(opaque), "mask")):
        assert found.tobytes() == half().tobytes()
    with pytest.raises(PictureError, match="leaves nothing to draw"):
        InputPicture.of(Image.new("L", (SIDE, SIDE)), mask=True)


def test_mask_and_picture_are_of_one_size_and_belong_together() -> None:
    with pytest.raises(PictureError, match="is 64x64, and image is 128x128"):
        DrawOptions(image=scene(), mask=half(64, 64))
    for alone in ({"mask": half()}, {"image_strength": 0.5}):
        with pytest.raises(UsageError, match="no picture to draw from"):
            DrawOptions(**alone)  # type: ignore[arg-type]
    for strength in (0, -1, 1.5, float("nan")):
        with pytest.raises(UsageError, match="out of range"):
            DrawOptions(image=scene(), image_strength=strength)


def test_a_picture_is_known_by_its_bytes_and_not_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a" / "private.png"
    path.parent.mkdir()
    path.write_bytes(coded(scene()))
    found, other = InputPicture.of(path), InputPicture.of(path.read_bytes(), "b.png")
    assert found == other
    assert found.as_json() == {
        "name": "private.png", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": [128, 128],
    }  # fmt: skip
    path.write_bytes(coded(scene().rotate(90)))
    with pytest.raises(PictureError, match="has changed"):
        found.decode()


@settings(max_examples=100, deadline=None)
@given(st.integers(64, 9000), st.integers(64, 5000), st.sampled_from([128, 512, 1024]), st.sampled_from([8, 16, 32]))
def test_what_is_drawn_has_the_pictures_shape_and_no_more_pixels_than_the_model_knows(
    width: int, height: int, side: int, step: int
) -> None:
    wide, high = sizes.like((width, height), side, step)
    sizes.check(wide, high, step)
    if max(width, height) <= 4 * min(width, height):
        assert wide * high <= 1.7 * side * side
    if width * height <= side * side and max(width, height) <= sizes.MOST:
        assert abs(wide - width) <= step
        assert abs(high - height) <= step


def test_what_is_drawn_from_a_picture_is_what_diffusers_draws_from_it(generator: Generator) -> None:
    """To the bit: the guard adds nothing to a benign prompt, and the picture goes in as it is."""
    options = DrawOptions(seed=3, steps=5, image=scene(), image_strength=0.7)
    (picture,), report = generator.generate("a dog", options)
    assert report is not None
    assert not report.sanitized
    own = diffusers.StableDiffusionImg2ImgPipeline.from_pipe(generator.pipe)
    own.set_progress_bar_config(disable=True)
    bare = own(
        "a dog", image=scene(), strength=0.7, num_inference_steps=5, guidance_scale=3.0,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    assert picture.image.tobytes() == bare.images[0].tobytes()
    assert picture.record.input == {"image": options.image.as_json(), "strength": 0.7}  # type: ignore[union-attr]


def test_a_harmful_prompt_is_repaired_over_a_picture_too(generator: Generator) -> None:
    options = DrawOptions(seed=3, steps=5, image=scene(), mask=half())
    (guarded,), report = generator.generate(HARMFUL, options)
    assert report is not None
    assert "knife" not in report.rewritten
    (bare,), _ = Generator(generator.pipe, None, "embedded").generate(HARMFUL, options)
    assert guarded.image.tobytes() != bare.image.tobytes()
    assert guarded.record.status == "sanitized"


def test_outside_the_mask_the_picture_stays(generator: Generator) -> None:
    (first,), _ = generator.generate("a red apple", DrawOptions(seed=3, steps=10))
    drawn = DrawOptions(seed=4, steps=10, image=first.image, mask=half())
    (picture,), _ = generator.generate("a dog on a blue background", drawn)
    change = np.abs(np.asarray(picture.image, int) - np.asarray(first.image, int)).mean(2)
    assert change[:, :48].mean() < 12  # the autoencoder's own loss
    assert change[:, 64:].mean() > 40


def test_blending_draws_what_diffusers_own_pipeline_for_masks_draws() -> None:
    pipe = pipeline("sd")
    drawing = BlendedDrawing(pipe, ("StableDiffusionImg2ImgPipeline", ""), 64, 8)
    beginning = Beginning(InputPicture.of(scene(64, 64)), InputPicture.of(half(64, 64), mask=True), 0.8)
    keep = drawing.keeping(beginning, (64, 64), [1, 2])
    assert keep is not None
    ours = drawing.pipeline(True)(
        prompt=[BENIGN, HARMFUL], num_inference_steps=5, output_type="pt",
        generator=[torch.Generator().manual_seed(seed) for seed in (1, 2)],
        callback_on_step_end=lambda _pipe, step, _t, tensors: {"latents": keep(step, tensors["latents"])},
        **drawing.arguments(beginning, (64, 64), 2),
    ).images  # fmt: skip
    theirs = derive(pipe, "StableDiffusionInpaintPipeline")(
        prompt=[BENIGN, HARMFUL], num_inference_steps=5, output_type="pt", strength=0.8,
        generator=[torch.Generator().manual_seed(seed) for seed in (1, 2)],
        image=[scene(64, 64)] * 2, mask_image=[half(64, 64)] * 2, width=64, height=64,
    ).images  # fmt: skip
    assert torch.allclose(ours, theirs, atol=1e-5)


TAKERS = ("flux-dev", "flux-schnell", "flux2", "flux2-klein", "qwen-image", "sd", "sd3", "sdxl", "z-image")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "masked"),
    # Diffusers' SD3 class for masks takes latents of 16 channels alone, and the miniature's have 4.
    [(name, masked) for name in TAKERS for masked in (False, True) if (name, masked) != ("sd3", True)],
)
def test_every_family_that_has_a_class_for_it_draws_from_a_picture_and_leaks_no_channel(
    name: str, masked: bool
) -> None:
    pipe = pipeline(name)
    options = DrawOptions(seed=1, steps=2, image=scene(64, 64), mask=half(64, 64) if masked else None)
    if masked and name == "flux2":
        with pytest.raises(UsageError, match="no picture with a mask"):
            Generator(pipe, None).generate(BENIGN, options)
        return
    before = {part: id(value) for part, value in pipe.components.items()}
    told = {}
    for guard in (None, prepared(name)):
        with watched(pipe) as calls:
            (picture,), report = Generator(pipe, guard).generate(HARMFUL, options, images=1)
        assert picture.image.size == (64, 64)
        told[guard is None] = {channel: read(calls[0]) for channel, read in CHANNELS[name].items()}
    assert report is not None
    assert report.sanitized
    assert not any(same(told[True][channel], told[False][channel]) for channel in CHANNELS[name])
    derived = family_of(pipe).drawing.pipeline(masked)
    assert {part: id(value) for part, value in derived.components.items() if part in before} == before
    (other,), _ = Generator(pipe, None).generate(HARMFUL, DrawOptions(seed=1, steps=2, size=(64, 64)))
    assert picture.image.tobytes() != other.image.tobytes()


def test_kontext_reads_the_picture_beside_the_text_and_draws_the_size_asked_for() -> None:
    pipe = derive(pipeline("flux-dev"), "FluxKontextPipeline")
    generator = Generator(pipe, prepared("flux-dev"))
    for image, mask in ((None, None), (scene(96, 64), None), (scene(96, 64), half(96, 64))):
        asked = DrawOptions(seed=1, steps=1, size=(64, 64), image=image, mask=mask)
        (picture,), _ = generator.generate(BENIGN, asked)
        assert picture.image.size == (64, 64)
        assert ("strength" in picture.record.input) == (mask is not None)
    with pytest.raises(UsageError, match="no image strength"):
        generator.resolve(DrawOptions(image=scene(64, 64), image_strength=0.5))


def test_making_the_other_pipeline_casts_no_part_of_the_first() -> None:
    """As `from_pipe` would: parts in other dtypes are there for a reason."""
    pipe = miniatures.stable_diffusion()
    pipe.text_encoder.to(torch.bfloat16)
    print_ = family_of(pipe).fingerprints()
    other = family_of(pipe).drawing.pipeline(False)
    assert other.text_encoder is pipe.text_encoder
    assert pipe.text_encoder.dtype == torch.bfloat16
    assert family_of(other).fingerprints() == print_
    with pytest.raises(ModelError, match="has no NoSuchPipeline"):
        derive(pipe, "NoSuchPipeline")


@pytest.mark.parametrize("name", ["pixart", "sana"])
def test_a_family_that_takes_no_picture_says_so_before_anything_is_drawn(name: str) -> None:
    with pytest.raises(UsageError, match="draws from no picture") as raised:
        Generator(pipeline(name), None).resolve(DrawOptions(image=scene()))
    assert "--image" in raised.value.hint


def test_a_strength_that_leaves_no_step_is_refused(generator: Generator) -> None:
    with pytest.raises(UsageError, match="leaves none of 4 steps"):
        generator.resolve(DrawOptions(steps=4, image=scene(), image_strength=0.2))


def test_a_picture_of_another_shape_is_cropped_and_of_this_shape_untouched() -> None:
    assert fit(scene(), (SIDE, SIDE)).tobytes() == scene().tobytes()
    wide = fit(scene(256, 128), (128, 128))
    assert [wide.getpixel((x, 5)) for x in (5, 120)] == [(200, 30, 30), (30, 200, 30)]


def test_records_say_what_was_drawn_from_and_a_mark_says_it_without_the_name(
    generator: Generator, tmp_path: Path
) -> None:
    path = tmp_path / "secret-holiday.png"
    scene().save(path)
    options = DrawOptions(seed=3, steps=2, image=path, mask=half())
    (picture,), _ = generator.generate("a dog", options)
    line = picture.record.as_json()
    assert line["input"]["image"]["name"] == "secret-holiday.png"
    assert str(tmp_path) not in json.dumps(line)
    for kept in ("full", "mark", "none"):
        picture.save(tmp_path / f"{kept}.png", kept)  # type: ignore[arg-type]
        found = metadata.read_picture(tmp_path / f"{kept}.png")
        assert found["source_type"] == "compositeWithTrainedAlgorithmicMedia"
        assert (b"secret" in (tmp_path / f"{kept}.png").read_bytes()) == (kept == "full")
    marked = metadata.read_picture(tmp_path / "mark.png")
    assert marked["record"]["input"]["image"]["sha256"] == line["input"]["image"]["sha256"]
    assert "Denoising strength: 1" in marked["parameters"]
    hidden = picture.record.redacted(lambda text: "#" if text else "")
    assert "secret" not in json.dumps(hidden.as_json())


@pytest.mark.slow
def test_the_image_check_looks_at_the_picture_that_is_drawn_from_as_well(generator: Generator) -> None:
    bare = Generator(generator.pipe, Guard(strength=0), "embedded")
    (knife,), _ = bare.generate(HARMFUL, DrawOptions(seed=3))
    options = DrawOptions(seed=4, image=knife.image, image_strength=0.3)
    (first,), _ = generator.generate("a cat", options)
    again = look_again(generator, clean("a cat"), options, first, WorldJudge())
    assert "knife" in again.record.more["check"]["input"]["violence"]


def test_the_command_draws_from_files_and_show_says_so(command: Any, tmp_path: Path, capsys: Any) -> None:
    scene().save(tmp_path / "from.png")
    half().save(tmp_path / "mask.png")
    out = tmp_path / "out"
    asked = (
        "generate",
        "a dog",
        "--steps",
        "2",
        "--seed",
        "3",
        "--out",
        str(out),
        "--image",
        str(tmp_path / "from.png"),
    )
    assert command(*asked, "--mask", str(tmp_path / "mask.png"), "--image-strength", "0.9") == 0
    capsys.readouterr()
    assert command("show", *map(str, out.glob("*.png"))) == 0
    told = capsys.readouterr()
    assert "from.png, 128x128" in told.out + told.err
    assert "image strength" in told.out + told.err


@pytest.mark.parametrize("what", ["no picture", "a bomb", "animated"])
def test_a_bad_picture_ends_the_command_before_anything_is_written(
    command: Any, tmp_path: Path, capsys: Any, what: str
) -> None:
    (tmp_path / "bad.png").write_bytes(BAD[what][0])
    assert command("generate", "a dog", "--out", str(tmp_path / "out"), "--image", str(tmp_path / "bad.png")) == 2
    assert "bad.png" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_mask_that_leaves_nothing_to_draw_is_refused(generator: Generator, tmp_path: Path) -> None:
    wide = Image.new("RGB", (260, 130), "white")
    edge, fine = Image.new("L", (260, 130)), Image.new("L", (260, 130))
    edge.paste(255, (0, 0, 8, 130))  # cropped away where a square is drawn
    fine.putpixel((129, 64), 255)  # smaller than a place of the latents
    for mask in (edge, fine):
        with pytest.raises(PictureError, match="nothing would be drawn"):
            generator.generate("a cat", DrawOptions(seed=1, steps=2, size=(128, 128), image=wide, mask=mask))


@pytest.mark.parametrize("steps", [3, 6, 7, 9, 30])
def test_the_hint_says_a_strength_that_works(generator: Generator, steps: int) -> None:
    options = DrawOptions(seed=1, steps=steps, image=Image.new("RGB", (128, 128)), image_strength=0.01)
    with pytest.raises(UsageError, match="leaves none") as raised:
        generator.resolve(options)
    enough = float(raised.value.hint.split()[3].rstrip(","))
    assert generator.resolve(replace(options, image_strength=enough))


def test_show_says_what_the_image_check_saw_and_what_was_drawn_instead() -> None:
    from safegen.cli.show import _seen, _word

    knife = {"violence": {"knife": 0.9}}
    assert _seen({}) == []
    assert _seen({"before": {}}) == [("seen in this picture", "nothing")]
    assert _seen({"input": knife, "before": knife, "after": {}}) == [
        ("seen in the picture drawn from", "knife (violence)"),
        ("seen at first", "knife (violence)"),
        ("seen in this picture", "nothing"),
    ]
    assert _word({"text": "knife", "key": "scene", "concepts": ["violence"]}) == "knife (in scene): violence"
