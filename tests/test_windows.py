"""Long prompts: every window is read, scored and repaired, up to the tensors that the denoiser receives."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from safegen.batch.settings import BatchSettings
from safegen.batch.worker import Worker
from safegen.conditioning import Position
from safegen.errors import Refused, UsageError
from safegen.families import family_of, windows
from safegen.generator import Generator
from safegen.guard import Guard
from safegen.guard.preparation import unwrap
from safegen.models.options import DrawOptions
from safegen.prompts.prompt import clean
from tests.helpers import pipelines
from tests.helpers.pipelines import BENIGN, CHANNELS, THINGS, Examples, call, pipeline, same, told, watched

pytestmark = [pytest.mark.filterwarnings("ignore")]  # of the libraries, about models as small as these

CHUNKED = pytest.mark.parametrize("name", ["sd", "sdxl"])
W = 24  # the miniatures' window
FAST = DrawOptions(seed=3, steps=1, size=(64, 64), guidance=1.0)
GUIDED = DrawOptions(seed=3, steps=1, size=(64, 64), guidance=3.0)
FILL = "a dog with a red apple on a blue background next to the big house , a cat , a dog ,"  # a window
KNIVES = "a cat and a kitchen knife with a red apple on a blue background next to the house , a dog ,"  # another
EXAMPLES = (
    (
        FILL,
        *(
            f"{a} with {b} on a blue background next to the house , {c} ,"
            for a in THINGS
            for b in THINGS[:2]
            for c in THINGS[:2]
        ),
        *(f"{a} with {b} on a blue background next to the house , a dog ," for a in THINGS for b in THINGS),
    ),
    tuple(
        f"{a} and a kitchen knife with {b} on a blue background next to the house , a dog ,"
        for a in THINGS
        for b in THINGS
    ),
)


def prepared(name: str, more: Examples = EXAMPLES) -> Guard:
    """A guard that knows prompts as long as a window, too."""
    return pipelines.prepared(name, more=more)


def long(place: int) -> str:
    """Three windows with the harmful words in one of them."""
    return " ".join(KNIVES if i == place else FILL for i in range(3))


def received(generator: Generator, prompt: str, how: DrawOptions = FAST) -> Any:
    """Per channel, what the denoiser received; the negative branch first where there is one."""
    name = "sd" if "XL" not in type(generator.pipe).__name__ else "sdxl"
    with watched(generator.pipe) as calls:
        _, report = generator.generate(prompt, how)
    return {channel: read(calls[0]).clone() for channel, read in CHANNELS[name].items()}, report


@CHUNKED
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_harmful_word_is_found_and_repaired_in_every_window(name: str, place: int) -> None:
    generator, prompt = Generator(pipeline(name), prepared(name)), long(place)
    plain, _ = received(Generator(pipeline(name), None), prompt)
    guarded, report = received(generator, prompt)
    assert report.before.flagged
    assert not report.after.flagged
    assert report.before.truncated == ""
    assert "knife" not in report.rewritten
    (knife,) = (word for word in report.before.words if word.text == "knife")
    assert (knife.window, prompt[slice(*knife.span)]) == (place, "knife")
    for channel, states in guarded.items():
        if channel.endswith("pooled"):  # it is the first window's
            assert same(states, plain[channel]) == (place != 0)
            continue
        assert states.shape[1] == 3 * W
        parts = zip(states.split(W, 1), plain[channel].split(W, 1), strict=True)
        changed = [not torch.equal(one, other) for one, other in parts]
        assert changed == [i == place for i in range(3)], channel


@CHUNKED
@pytest.mark.parametrize("place", [0, 1, 2])
def test_each_window_is_encoded_as_a_prompt_of_its_own(name: str, place: int) -> None:
    generator = Generator(pipeline(name), None)
    prompt = long(place)
    spans = windows.cut(prompt, generator.family.outputs, 8)
    plain, _ = received(generator, prompt)
    alone = told(name, prompt[slice(*spans[place])])
    for channel, states in plain.items():
        own = states if channel.endswith("pooled") else states[:, place * W : (place + 1) * W]
        if not channel.endswith("pooled") or place == 0:
            assert torch.allclose(own, alone[channel], atol=1e-5), channel


@CHUNKED
def test_positions_and_spans_are_those_of_the_whole_prompt(name: str) -> None:
    prompt = long(1)
    read = Generator(pipeline(name), None).encode([clean(prompt)])
    (whole,) = read.abreast(read.conditioning)
    assert whole.prompts == (prompt,)
    for channel in whole.channels.values():
        if not channel.worded:
            continue
        starts = [i for i, t in enumerate(channel.tokens[0]) if t.position is Position.START]
        assert starts == [0, W, 2 * W]
        assert [int(p) for p in channel.positions[0]] == [t.position for t in channel.tokens[0]]
        spelled = [t for t in channel.tokens[0] if t.position is Position.TOKEN]
        assert all(t.span is not None and prompt[slice(*t.span)] == t.text for t in spelled)
        assert "".join(t.text for t in spelled) == prompt.replace(" ", "")
        assert channel.lengths == (len(spelled),)


@CHUNKED
def test_a_negative_prompt_is_as_long_as_the_prompt(name: str) -> None:
    generator = Generator(pipeline(name), prepared(name))
    for negative in ("", "a blue dog", " ".join([FILL] * 5)):
        for prompt in (BENIGN, long(1)):
            states, _ = received(generator, prompt, DrawOptions(3, 1, 3.0, (64, 64), negative))
            assert all(len(value) == 2 for value in states.values())
            assert states[next(iter(states))].shape[1] == (W if prompt == BENIGN else 3 * W)


@CHUNKED
def test_a_prompt_that_fits_is_read_as_diffusers_reads_it(name: str) -> None:
    guarded, unguarded = Generator(pipeline(name), prepared(name)), Generator(pipeline(name), None)
    assert len(guarded.encode([clean(FILL)]).rows) == 1
    for generator, prompt in ((guarded, BENIGN), (guarded, FILL), (unguarded, "a dog (with a red apple)")):
        states, _ = received(generator, prompt)
        assert all(same(states[c], value) for c, value in told(name, prompt).items())


def test_what_is_beyond_the_last_window_is_told() -> None:
    generator = Generator(pipeline("sd"), prepared("sd"))
    (sheet,) = generator.score([" ".join([FILL] * 12) + " house"])
    assert sheet.windows == generator.family.windows == 8
    assert sheet.truncated.endswith("house")


@pytest.mark.parametrize("name", ["sd3", "flux-dev", "pixart", "qwen-image"])
def test_other_families_show_what_they_do_not_see(name: str) -> None:
    prompt = " ".join([FILL] * 80) + " house"
    (sheet,) = Generator(pipeline(name), prepared(name, ((), ()))).score([prompt])
    assert sheet.windows == 1
    assert sheet.truncated.endswith("house")


def test_an_attached_guard_leaves_the_cutting_to_diffusers() -> None:
    plain = told("sd", long(2))
    with prepared("sd").attached(pipeline("sd")) as guard:
        states = told("sd", long(2))
        call("sd", long(0), guidance_scale=3.0)
        assert guard.last[0].sanitized
        call("sd", long(2))
        assert guard.last[0].before.truncated.endswith(",")
    assert same(states["text"], plain["text"])


def test_the_one_refusal_sees_across_windows(generator: Generator) -> None:
    apart = "a child , " + "a red apple on a blue background , " * 12 + "naked"
    assert len(generator.encode([clean(apart)]).rows) > 1
    with pytest.raises(Refused):
        generator.score([apart])
    with pytest.raises(Refused):
        generator.generate(apart, DrawOptions(steps=1))


def test_rows_of_different_lengths_are_drawn_apart(generator: Generator) -> None:
    prompts = [clean("a cat"), clean("a red apple , " * 30), clean("a dog")]
    prepared = [unwrap(one) for one in generator.prepare(prompts)]
    with pytest.raises(UsageError, match="different numbers of windows"):
        generator.draw(prepared, DrawOptions(steps=1), [1, 2, 3])
    worker = Worker(generator, BatchSettings.of(batch_size=3))
    drawn = worker._denoise(prepared, DrawOptions(steps=1), [1, 2, 3], None)
    assert [together for _, together in drawn] == [1, 1, 1]
    (alone,) = generator.draw(prepared[:1], DrawOptions(steps=1), [1])
    assert alone is not None
    assert drawn[0][0].tobytes() == alone.tobytes()


def test_the_embedded_model_reads_on_in_further_windows(generator: Generator) -> None:
    prompt = "a red apple on a blue background , " * 20 + "a cat and a kitchen knife , a cat and a kitchen knife ,"
    (sheet,) = generator.score([prompt], "flagged")
    assert (sheet.windows, sheet.truncated) == (3, "")
    assert sheet.flagged_concepts() == ["violence"]
    flagged = [word for word in sheet.words if word.flagged]
    assert {(word.text, word.window) for word in flagged} >= {("knife", 2)}
    assert all((word.text, word.window) == (prompt[slice(*word.span)], 2) for word in flagged)
    caused = [word for word in sheet.words if word.causes]
    assert {word.window for word in caused} == {2}
    (picture,), report = generator.generate(prompt, DrawOptions(seed=1, steps=1))
    assert report is not None
    # Of the third window alone the text was changed.
    assert report.rewritten.startswith("a red apple on a blue background , " * 20)
    assert not report.after.flagged
    assert picture.record.text == prompt
    assert sheet.as_json("x")["words"][-1]["window"] == 2


@settings(max_examples=60, deadline=None)
@given(st.text("ab\u00e9\u732b ,.", max_size=200).map(lambda text: " ".join(text.split())), st.integers(1, 5))
def test_windows_hold_all_of_a_text_and_cut_no_word_that_need_not_be(text: str, most: int) -> None:
    family = family_of(pipeline("sd"))
    spans = windows.cut(text, family.outputs, most)
    assert 1 <= len(spans) <= most
    assert (spans[0][0], spans[-1][1]) == (0, len(text))
    tokenizer = pipeline("sd").tokenizer
    for (start, end), (following, _) in itertools.pairwise(spans):
        assert start < end <= following
        assert not text[end:following].strip()
        assert len(tokenizer(text[start:end])["input_ids"]) <= W
        if end == following and text[end - 1 : end + 1].isalnum():
            assert " " not in text[start:end]
