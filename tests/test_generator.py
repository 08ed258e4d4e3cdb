"""The flow on the real embedded model: bit-identity, attachment, seeds, failing closed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from safegen import Generator, Guard
from safegen.errors import GuardError, ModelError, UsageError
from safegen.models.options import DrawOptions

FAST = DrawOptions(seed=3, steps=4)


def bare(generator: Generator, prompt: str, seed: int, steps: int = 4) -> bytes:
    """Plain diffusers, as a user would call it."""
    result = generator.pipe(
        prompt, num_inference_steps=steps, guidance_scale=3.0, generator=torch.Generator().manual_seed(seed)
    )
    return result.images[0].tobytes()


@pytest.mark.parametrize("prompt", ["a cat", "a dog and a red apple", "an owl on a blue background"])
def test_a_benign_prompt_gives_plain_diffusers_picture_bit_for_bit(generator: Generator, prompt: str) -> None:
    (picture,), report = generator.generate(prompt, FAST)
    assert report is not None
    assert not report.sanitized
    assert picture.image.tobytes() == bare(generator, prompt, 3)


@pytest.mark.parametrize("prompt", ["  a cat \t on\na  chair ", "a cafe\u0301 on a hill", "an owl\u00a0on a tree"])
def test_what_is_a_matter_of_the_tokenizer_changes_no_bit(generator: Generator, prompt: str) -> None:
    (picture,), _ = generator.generate(prompt, FAST)
    assert picture.image.tobytes() == bare(generator, prompt, 3)


def test_a_harmful_prompt_gives_another_picture(generator: Generator) -> None:
    (picture,), report = generator.generate("a cat and a kitchen knife", FAST)
    assert report is not None
    assert report.sanitized
    assert picture.record.status == "sanitized"
    assert picture.image.tobytes() != bare(generator, "a cat and a kitchen knife", 3)


def test_strength_zero_is_plain_diffusers(generator: Generator) -> None:
    weak = Generator(generator.pipe, Guard(strength=0), "embedded")
    (picture,), _ = weak.generate("a cat and a kitchen knife", FAST)
    assert picture.image.tobytes() == bare(generator, "a cat and a kitchen knife", 3)


def test_seeds_count_up_and_are_recorded(generator: Generator) -> None:
    pictures, _ = generator.generate("a cat", DrawOptions(seed=5, steps=2), images=3)
    assert [p.seed for p in pictures] == [5, 6, 7] == [p.record.seed for p in pictures]
    (alone,), _ = generator.generate("a cat", DrawOptions(seed=6, steps=2))
    assert alone.image.tobytes() == pictures[1].image.tobytes()


def test_a_random_seed_is_recorded_and_repeats(generator: Generator) -> None:
    (first,), _ = generator.generate("a cat", DrawOptions(steps=2))
    (again,), _ = generator.generate("a cat", DrawOptions(seed=first.record.seed, steps=2))
    assert first.image.tobytes() == again.image.tobytes()


@pytest.mark.slow
def test_attached_to_a_users_own_pipeline_and_detached(generator: Generator) -> None:
    prompt = "a cat and a kitchen knife"
    before, method = bare(generator, prompt, 3), generator.pipe.encode_prompt
    benign = bare(generator, "a cat", 3)
    with Guard("violence").attached(generator.pipe) as guard:
        assert bare(generator, "a cat", 3) == benign
        inside = bare(generator, prompt, 3)
        assert guard.last[0].sanitized
    assert inside != before
    assert generator.pipe.encode_prompt == method
    assert bare(generator, prompt, 3) == before


@pytest.mark.slow
def test_attached_for_good_until_it_is_detached(generator: Generator) -> None:
    prompts = ("a cat and a kitchen knife", "a pistol on a red background")
    plain = [bare(generator, prompt, 3) for prompt in prompts]
    before = dict(vars(generator.pipe))
    detach = Guard("violence").attach(generator.pipe)
    assert all(bare(generator, prompt, 3) != one for prompt, one in zip(prompts, plain, strict=True))
    detach()
    detach()
    assert dict(vars(generator.pipe)) == before
    assert [bare(generator, prompt, 3) for prompt in prompts] == plain


def test_an_error_inside_still_detaches(generator: Generator) -> None:
    method = generator.pipe.encode_prompt
    with pytest.raises(ModelError), Guard("violence").attached(generator.pipe):
        generator.pipe(prompt_embeds=torch.zeros(1, 77, 256), guidance_scale=1.0, num_inference_steps=1)
    assert generator.pipe.encode_prompt == method


def test_another_pipeline_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot guard a dict"):
        Generator({}, None)


@pytest.mark.parametrize("size", [(100, 128), (32, 128), (128, 8192)])
def test_sizes_that_cannot_be_drawn(generator: Generator, size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="size"):
        generator.generate("a cat", DrawOptions(size=size, steps=1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": "128x128"},
        {"size": 128},
        {"steps": 2.5},
        {"seed": "7"},
        {"guidance": True},
        {"negative": None},
        {"fair": None},
        {"fair": [1]},
    ],
)
def test_an_option_of_another_type_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        DrawOptions(**wrong)


def test_one_attribute_or_concept_may_be_a_text_and_a_list_of_names_is_told_apart() -> None:
    assert DrawOptions(fair="gender").fair == ("gender",)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not the name of a concept"):
        Guard(["violence"])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="list of names"):
        Guard(concepts="violence")
    assert [sheet.prompt for sheet in Guard().score("a cat")] == ["a cat"]


def test_a_picture_that_is_not_finite_is_no_picture(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = generator.pipe.vae.decode
    monkeypatch.setattr(generator.pipe.vae, "decode", lambda *a, **k: tuple(x * float("nan") for x in decode(*a, **k)))
    with pytest.raises(GuardError, match="not finite"):
        generator.generate("a cat", FAST)


def test_a_long_prompt_shows_what_was_not_seen(generator: Generator) -> None:
    (sheet,) = generator.score([" ".join(["a red apple"] * 200) + " zebra"])
    assert sheet.truncated.endswith("zebra")
    assert len(sheet.words) < 601
    assert sheet.windows == 8


def test_without_a_guard_the_record_says_so(generator: Generator) -> None:
    (picture,), report = Generator(generator.pipe, None, "embedded").generate("a cat", FAST)
    assert report is None
    assert picture.record.guard["safeguard"] == ""
