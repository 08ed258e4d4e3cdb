"""The contract of a family, one function for each of its clauses, over a miniature by its name."""

from __future__ import annotations

import pytest
import torch

from safegen.conditioning import Position
from safegen.errors import ModelError
from safegen.families import family_of
from safegen.generator import Generator
from safegen.models.options import DrawOptions
from tests.helpers.pipelines import (
    ATTACHED,
    BENIGN,
    CHANNELS,
    HARMFUL,
    SIZE,
    call,
    leaks,
    pipeline,
    prepared,
    same,
    told,
)

# Of these, diffusers orders the masks of copies otherwise than their states, or draws no copies.
ALONE = ("sana", "sana-sprint", "lumina", "lumina2", "hunyuan-dit", "kandinsky3", "helios", "prx")


def every_channel_that_reaches_the_denoiser_is_sanitized(name: str) -> None:
    assert set(family_of(pipeline(name)).fingerprints()) == set(CHANNELS[name])
    assert leaks(name) == []


def the_denoiser_gets_what_the_guard_has_made(name: str) -> None:
    family = family_of(pipeline(name))
    repaired, (report,) = prepared(name).bind(family).sanitize(family.encode([HARMFUL]))
    assert "knife" not in report.rewritten
    assert not report.after.flagged
    with prepared(name).attached(pipeline(name)):
        received = told(name, HARMFUL)
    for name_, channel in repaired.channels.items():
        states = channel.states * (channel.positions < Position.UNREAD).unsqueeze(-1)
        expected = states if channel.worded else states[:, 0]
        assert same(received[name_], expected), name_


def benign_prompts_and_strength_zero_keep_every_bit(name: str) -> None:
    plain = {prompt: (told(name, prompt), call(name, prompt)) for prompt in (BENIGN, HARMFUL)}
    for strength, prompt in ((1.0, BENIGN), (0.0, HARMFUL)):
        with prepared(name, strength=strength).attached(pipeline(name)):
            states, picture = told(name, prompt), call(name, prompt)
        assert all(same(states[c], plain[prompt][0][c]) for c in states)
        assert torch.equal(picture, plain[prompt][1])


def the_generator_draws_what_diffusers_own_call_draws(name: str) -> None:
    pipe = pipeline(name)
    family = family_of(pipe)
    if name in ATTACHED:
        with pytest.raises(ModelError, match="takes no embeddings, or gives no pictures"):
            Generator(pipe, None)
        return
    options = DrawOptions(seed=3, steps=2, size=(64, 64))
    own = {} if name.startswith("qwen-image") else {"guidance_scale": family.guidance}
    bare = pipe(
        prompt=BENIGN,
        generator=torch.Generator().manual_seed(3),
        **{**SIZE, "num_inference_steps": 2},
        **own,
    ).images[0]
    for guard in (None, prepared(name)):
        (picture,), _ = Generator(pipe, guard).generate(BENIGN, options)
        assert picture.image.tobytes() == bare.tobytes()
    (unguarded,), _ = Generator(pipe, None).generate(HARMFUL, options)
    (guarded,), report = Generator(pipe, prepared(name)).generate(HARMFUL, options)
    assert report is not None
    assert report.sanitized
    assert not report.after.flagged
    assert guarded.image.tobytes() != unguarded.image.tobytes()
    assert set(guarded.record.guard["directions"]) == (
        {"violence"} if len(CHANNELS[name]) == 1 else {f"violence/{channel}" for channel in CHANNELS[name]}
    )


def detaching_leaves_the_pipeline_as_it_was(name: str) -> None:
    pipe = pipeline(name)
    before, plain = dict(vars(pipe)), told(name, HARMFUL)
    with prepared(name).attached(pipe):
        assert dict(vars(pipe)) != before
    with pytest.raises(ZeroDivisionError), prepared(name).attached(pipe):
        raise ZeroDivisionError
    methods = ("encode_prompt", "check_inputs", "prepare_latents")
    assert not any(method in vars(pipe) for method in methods)
    after = told(name, HARMFUL)
    assert all(same(plain[c], after[c]) for c in plain)


def batches_and_copies_keep_benign_rows_and_change_the_others(name: str) -> None:
    prompts, copies = [BENIGN, HARMFUL], 1 if name in ALONE else 2
    plain = told(name, prompts, num_images_per_prompt=copies)
    with prepared(name).attached(pipeline(name)) as guard:
        guarded = told(name, list(prompts), num_images_per_prompt=copies)
    flags = [report.sanitized for report in guard.last]
    assert flags in ([False, True], [False, False, True, True])  # Z-Image copies after it has encoded
    for channel, states in plain.items():
        length = min(states.shape[1], guarded[channel].shape[1])
        old, new = states[:, :length], guarded[channel][:, :length]
        assert torch.equal(old[:copies], new[:copies]), channel
        assert all(not torch.equal(old[i], new[i]) for i in range(copies, 2 * copies)), channel


def tokens_and_spans_agree_with_the_tokenizer(name: str) -> None:
    family = family_of(pipeline(name))
    prompts = ["a cat, and a kitchen-knife", 'it isn\'t "a dog" (no)', ""]
    conditioning = family.encode(prompts)
    for output in family.outputs:
        channel = conditioning.channels[output.channel]
        for row, prompt in enumerate(conditioning.prompts):
            ids = output.tokenizer(prompt, add_special_tokens=False)["input_ids"]
            assert channel.lengths[row] == len(ids), (output.channel, prompt)
            assert channel.truncated[row] == ""
            if not channel.worded:
                continue
            tokens = channel.tokens[row]
            assert [int(p) for p in channel.positions[row]] == [t.position for t in tokens]
            spelled = [t for t in tokens if t.position is Position.TOKEN]
            assert all(t.span is not None and prompt[slice(*t.span)] == t.text for t in spelled)
            assert "".join(t.text for t in spelled) == prompt.replace(" ", "")
        if channel.worded:
            assert [w.text for w in channel.words(0)] == ["a", "cat", ",", "and", "a", "kitchen", "-", "knife"]


def a_benign_prompt_costs_no_further_pass_through_an_encoder(name: str) -> None:
    pipe = pipeline(name)

    def passes(prompt: str) -> int:
        count = []
        encoders = [getattr(pipe, n, None) for n in ("text_encoder", "text_encoder_2", "text_encoder_3")]
        if name == "ideogram4":  # it calls the encoder's layers itself, one by one
            encoders = [pipe.text_encoder.language_model.embed_tokens]
        hooks = [e.register_forward_hook(lambda *_: count.append(1)) for e in encoders if e is not None]
        call(name, prompt)
        for hook in hooks:
            hook.remove()
        return len(count)

    plain = passes(BENIGN)
    with prepared(name).attached(pipe):
        assert passes(BENIGN) == plain
        assert passes(HARMFUL) > plain
