"""The contract of every family, on miniatures of the real pipelines."""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image

from safegen.conditioning import Conditioning, Position
from safegen.directions import store
from safegen.directions.direction import HEADS, Direction
from safegen.directions.recipes import Concept
from safegen.errors import DirectionError, GuardError, ModelError, Unread, UsageError
from safegen.families import FAMILIES, Family, family_of
from safegen.families.flux import Flux
from safegen.families.outputs import EncoderOutput
from safegen.families.stable_diffusion_xl import StableDiffusionXL
from safegen.generator import Generator
from safegen.guard import Guard
from safegen.learning import contrastive, ensure, region
from safegen.learning.contrastive import own_tensors
from safegen.learning.effort import BRIEF
from safegen.learning.linear import basis, discriminant
from safegen.models.options import DrawOptions
from safegen.scoring.probes import Features, features
from safegen.scoring.scorer import Scorer
from tests import miniatures
from tests.notes import Notes

HARMFUL, BENIGN = "a cat and a kitchen knife", "a dog with a red apple"
EVERY = pytest.mark.parametrize("name", sorted(miniatures.BUILDERS))
SIZE = {"width": 64, "height": 64, "num_inference_steps": 1}

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of the libraries, about models as small as these
]


@functools.cache
def pipeline(name: str) -> Any:
    """Tests must leave it as it was."""
    pipe = miniatures.BUILDERS[name]()
    pipe.set_progress_bar_config(disable=True)
    return pipe


# What the denoiser is told, channel by channel, spelled out here and not by the code under test.
Received = dict[str, Any]
CHANNELS: dict[str, dict[str, Callable[[Received], torch.Tensor]]] = {
    "sd": {"text": lambda r: r["encoder_hidden_states"]},
    "sdxl": {
        "clip_l": lambda r: r["encoder_hidden_states"][..., :64],
        "clip_g": lambda r: r["encoder_hidden_states"][..., 64:],
        "clip_g_pooled": lambda r: r["added_cond_kwargs"]["text_embeds"],
    },
    "sd3": {
        "clip_l": lambda r: r["encoder_hidden_states"][:, :24, :64],
        "clip_g": lambda r: r["encoder_hidden_states"][:, :24, 64:144],
        "t5": lambda r: r["encoder_hidden_states"][:, 24:],
        "clip_l_pooled": lambda r: r["pooled_projections"][:, :48],
        "clip_g_pooled": lambda r: r["pooled_projections"][:, 48:],
    },
    "flux-dev": {
        "t5": lambda r: r["encoder_hidden_states"],
        "clip_l": lambda r: r["pooled_projections"],
    },
    "pixart": {"t5": lambda r: r["encoder_hidden_states"] * r["encoder_attention_mask"][..., None]},
    "sana": {"gemma": lambda r: r["encoder_hidden_states"] * r["encoder_attention_mask"][..., None]},
    "qwen-image": {"qwen": lambda r: r["encoder_hidden_states"]},
    "z-image": {"qwen": lambda r: torch.nn.utils.rnn.pad_sequence(r["args"][2], batch_first=True)},
    "flux2": {"llm": lambda r: r["encoder_hidden_states"]},
}
CHANNELS["sd3-without-t5"] = {name: read for name, read in CHANNELS["sd3"].items() if name != "t5"}
CHANNELS["flux-schnell"], CHANNELS["flux2-klein"] = CHANNELS["flux-dev"], CHANNELS["flux2"]


THINGS = ("a cat", "a dog", "a red apple", "the big house", "a blue background", "a red dog", "a big cat")
Examples = tuple[tuple[str, ...], tuple[str, ...]]  # benign and harmful prompts


@functools.cache
def directions(name: str, more: Examples = ((), ())) -> tuple[Direction, ...]:
    """Per channel, a linear classifier that tells prompts with the knife from prompts without, by their class means."""
    family = family_of(pipeline(name))
    pairs = (f"{a} and {b}" for a in THINGS for b in THINGS[:3])
    safe = [*THINGS, *pairs, BENIGN, "a dog next to the house", "", "a", *more[0]]
    unsafe = [f"{a} {link} a kitchen knife" for a in THINGS for link in ("and", "with", "next to")] + [*more[1]]
    harmful, benign = family.encode(unsafe), family.encode(safe)
    return tuple(
        _direction(output, features(harmful.channels[output.channel]), features(benign.channels[output.channel]))
        for output in family.outputs
    )


def _direction(output: EncoderOutput, harmful: Features, benign: Features) -> Direction:
    tensors: dict[str, torch.Tensor] = {}
    moving = [p for p in harmful.means if float(benign.means[p].std(0).mean()) > 1e-5] if len(benign.means) else []
    for position in moving:
        key = position.name.lower()
        bad, good = harmful.means[position], benign.means[position][benign.present[position]]
        own, _ = discriminant(bad, good)
        tensors |= {f"{key}.{k}": v for k, v in basis(bad - good.mean(0), good, 8).items()}
        tensors |= {f"{key}.{k}": v for k, v in own_tensors(own, good).items()}
        tensors |= region.around(bad, bad - bad.mean(0) + good.mean(0), good).tensors(key)
    for head, classes in HEADS.items():
        used = [p for p in moving if p in classes]
        joined = [torch.cat([part.means[p] for p in used], 1) for part in (harmful, benign)]
        probe, centre = discriminant(*joined)
        bad, good = ((part - centre) @ probe for part in joined)
        probe = probe / good.std()
        bad, good = bad / good.std(), good / good.std()
        line = (float(good.max()) + float(bad.min())) / 2
        assert float(good.max()) < float(bad.min()), (output.channel, head)
        for p, weight, middle in zip(used, probe.chunk(len(used)), centre.chunk(len(used)), strict=True):
            tensors |= {f"{p.name.lower()}.{head}": weight[None], f"{p.name.lower()}.{head}_centre": middle}
        # One hidden unit, far out where its activation is the identity.
        far = 100.0
        tensors |= {f"{head}.bias": torch.tensor([far]), f"{head}.out": torch.ones(1)}
        tensors |= {f"{head}.scale": torch.tensor([[far, 1.0]] * 3), f"{head}.thresholds": torch.full((3,), line)}
        tensors[f"{head}.quantiles"] = (far + good.quantile(torch.linspace(0, 1, 1001))).repeat(3, 1)
    info = {
        **{"concept": "violence", "method": "by hand", "encoder": output.kind, "output": output.layer},
        **{"fingerprint": output.fingerprint, "width": output.width, "threshold": [], "calibration": {}},
        **{"recipe_sha256": "", "word_threshold": 2.5},
    }
    return Direction(tensors, info)


def prepared(name: str, safeguard: str = "localise", strength: float = 1.0, more: Examples = ((), ())) -> Guard:
    """A guard whose directions lie in this test's cache, as if they had been learned there."""
    for direction in directions(name, more):
        path = store.cache_folder() / "violence" / f"{direction.stem}.safetensors"
        direction.save(path)
        # Nudity is always watched for the one refusal; here it never speaks.
        quiet = {k: v + 1e6 if k.endswith("thresholds") else v for k, v in direction.tensors.items()}
        Direction(quiet, {**direction.info, "concept": "nudity"}).save(path.parents[1] / "nudity" / path.name)
    return Guard("violence", safeguard=safeguard, strength=strength)


def calm(name: str) -> dict[str, Any]:
    """Arguments of a call without a negative branch."""
    if name in ("pixart", "sana"):
        return {"guidance_scale": 1.0, "use_resolution_binning": False}
    return {"qwen-image": {}, "z-image": {"guidance_scale": 0.0}}.get(name, {"guidance_scale": 1.0})


def call(name: str, prompt: Any, pipe: Any = None, **more: Any) -> Any:
    """The user's own call to diffusers."""
    pipe = pipe or pipeline(name)
    count = (len(prompt) if isinstance(prompt, list) else 1) * more.get("num_images_per_prompt", 1)
    draw = [torch.Generator().manual_seed(i) for i in range(count)]
    prompt = list(prompt) if isinstance(prompt, list) else prompt  # Z-Image writes its template into the list
    return pipe(prompt=prompt, generator=draw, output_type="pt", **{**SIZE, **calm(name), **more}).images


@contextlib.contextmanager
def watched(pipe: Any) -> Iterator[list[Received]]:
    """Everything that the denoiser receives."""
    calls: list[Received] = []
    denoiser = getattr(pipe, "transformer", None) or pipe.unet
    hook = denoiser.register_forward_pre_hook(
        lambda _, args, named: calls.append({**named, "args": args}), with_kwargs=True
    )
    try:
        yield calls
    finally:
        hook.remove()


def told(name: str, prompt: Any, pipe: Any = None, **more: Any) -> dict[str, torch.Tensor]:
    """Per channel, what the denoiser received in a call's first step."""
    pipe = pipe or pipeline(name)
    with watched(pipe) as calls:
        call(name, prompt, pipe, **more)
    return {channel: read(calls[0]).clone() for channel, read in CHANNELS[name].items()}


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def leaks(name: str, pipe: Any = None) -> list[str]:
    """The channels that tell the denoiser the same of a harmful prompt, guarded or not."""
    plain = told(name, HARMFUL, pipe)
    with prepared(name).attached(pipe or pipeline(name)) as guard:
        guarded = told(name, HARMFUL, pipe)
        assert guard.last[0].sanitized
    return [channel for channel in plain if same(plain[channel], guarded[channel])]


@EVERY
def test_every_channel_that_reaches_the_denoiser_is_sanitized(name: str) -> None:
    assert set(family_of(pipeline(name)).fingerprints()) == set(CHANNELS[name])
    assert leaks(name) == []


@EVERY
def test_the_denoiser_gets_what_the_guard_has_made(name: str) -> None:
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


@EVERY
def test_benign_prompts_and_strength_zero_keep_every_bit(name: str) -> None:
    plain = {prompt: (told(name, prompt), call(name, prompt)) for prompt in (BENIGN, HARMFUL)}
    for strength, prompt in ((1.0, BENIGN), (0.0, HARMFUL)):
        with prepared(name, strength=strength).attached(pipeline(name)):
            states, picture = told(name, prompt), call(name, prompt)
        assert all(same(states[c], plain[prompt][0][c]) for c in states)
        assert torch.equal(picture, plain[prompt][1])


@pytest.mark.slow
@EVERY
def test_the_generator_draws_what_diffusers_own_call_draws(name: str) -> None:
    pipe = pipeline(name)
    family = family_of(pipe)
    options = DrawOptions(seed=3, steps=2, size=(64, 64))
    own = {} if name == "qwen-image" else {"guidance_scale": family.guidance}
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


@EVERY
def test_detaching_leaves_the_pipeline_as_it_was(name: str) -> None:
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


def test_what_is_attached_for_good_stays_where_nobody_keeps_the_way_back() -> None:
    pipe = miniatures.stable_diffusion()
    plain = told("sd", HARMFUL, pipe)
    prepared("sd").attach(pipe)
    gc.collect()
    assert not any(same(states, plain[c]) for c, states in told("sd", HARMFUL, pipe).items())


def test_a_guard_follows_the_pipeline_that_calls_it() -> None:
    """Attached to a second one, it would otherwise read the first with the other's directions."""
    guard = prepared("sdxl")
    prepared("sd")
    with guard.attached(pipeline("sd")), guard.attached(pipeline("sdxl")):
        told("sd", HARMFUL)
        assert guard.last[0].sanitized
        told("sdxl", HARMFUL)
        assert guard.last[0].sanitized


@EVERY
def test_batches_and_copies_keep_benign_rows_and_change_the_others(name: str) -> None:
    # Of copies, diffusers orders Sana's masks otherwise than its states; the guard gives every state its own mask.
    prompts, copies = [BENIGN, HARMFUL], 1 if name == "sana" else 2
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


@EVERY
def test_tokens_and_spans_agree_with_the_tokenizer(name: str) -> None:
    family = family_of(pipeline(name))
    prompts = ["a cat, and a kitchen-knife", 'it isn\'t "a dog" (no)', ""]
    conditioning = family.encode(prompts)
    for output in family.outputs:
        channel = conditioning.channels[output.channel]
        for row, prompt in enumerate(prompts):
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


@pytest.mark.slow
@EVERY
def test_a_benign_prompt_costs_no_further_pass_through_an_encoder(name: str) -> None:
    pipe = pipeline(name)

    def passes(prompt: str) -> int:
        count = []
        encoders = [getattr(pipe, n, None) for n in ("text_encoder", "text_encoder_2", "text_encoder_3")]
        hooks = [e.register_forward_hook(lambda *_: count.append(1)) for e in encoders if e is not None]
        call(name, prompt)
        for hook in hooks:
            hook.remove()
        return len(count)

    plain = passes(BENIGN)
    with prepared(name).attached(pipe):
        assert passes(BENIGN) == plain
        assert passes(HARMFUL) > plain


@EVERY
def test_a_model_without_directions_is_guarded_by_text_from_the_first_call(name: str) -> None:
    """Nothing is learned, a benign prompt costs no pass and keeps every bit, a harmful one changes every channel."""
    pipe, notes = pipeline(name), Notes()
    guard = Guard()
    guard.bind(family_of(pipe), notes)
    assert len(notes.said) == 1
    assert "text alone" in notes.said[0]
    plain = {prompt: told(name, prompt) for prompt in (BENIGN, HARMFUL)}
    with guard.attached(pipe):
        benign, harmful = (told(name, prompt) for prompt in (BENIGN, HARMFUL))
        (report,) = guard.last
    assert all(same(benign[c], plain[BENIGN][c]) for c in benign)
    assert not any(same(harmful[c], plain[HARMFUL][c]) for c in harmful)
    assert report.before.senses == ("reader",)
    assert "knife" not in report.rewritten
    assert not report.after.flagged
    assert not store.cache_folder().exists()


def test_a_blend_that_no_directions_can_judge_keeps_the_readers_verdict() -> None:
    """At half strength the text stays and the states move: nobody has found that harmless."""
    family = family_of(pipeline("sd"))
    (report,) = Guard(strength=0.5).bind(family).sanitize(family.encode([HARMFUL]))[1]
    assert report.sanitized
    assert report.after.concepts.keys() == report.before.concepts.keys()
    assert report.status == "flagged"


@EVERY
def test_text_that_nobody_can_read_is_drawn_only_when_asked(name: str) -> None:
    family = family_of(pipeline(name))
    foreign = family.encode(["ein Hund und eine Katze auf der Wiese"])
    with pytest.raises(Unread, match="cannot read"):
        Guard().bind(family).sanitize(foreign)
    drawn, (report,) = Guard(unread="draw").bind(family).sanitize(foreign)
    assert drawn is foreign
    assert report.before.unread


@pytest.mark.parametrize("safeguard", ["clamp", "es", "region"])
def test_methods_that_edit_along_directions_say_so_where_there_are_none(safeguard: str) -> None:
    with pytest.raises(DirectionError, match="no directions for this encoder"):
        Guard(safeguard=safeguard).bind(family_of(pipeline("sd")))


@pytest.mark.parametrize("name", ["sana", "qwen-image", "z-image", "flux2", "flux2-klein"])
def test_a_template_is_marked_and_never_scored(name: str) -> None:
    family = family_of(pipeline(name))
    guard = prepared(name).bind(family)
    conditioning = family.encode([HARMFUL, BENIGN])
    ((channel_name, channel),) = conditioning.channels.items()
    templates = channel.positions == Position.TEMPLATE
    assert templates.any(1).all()
    assert not guard.context.scorer.channels[channel_name].own(channel)[templates].any()
    one, other = (channel.states[row][templates[row]] for row in (0, 1))
    assert torch.allclose(one, other, atol=1e-5)  # no prompt can colour it
    for sheet in guard.score(conditioning):
        assert " ".join(w.text for w in sheet.words) == sheet.prompt
        assert not {"[template]", "assistant"} & {token.text for token in sheet.tokens}


# The attack by extra channels: a family that forgets one of them.
class WithoutPooled(StableDiffusionXL):
    def join(self, conditioning: Conditioning, request: Any) -> dict[str, Any]:
        return {"prompt_embeds": super().join(conditioning, request)["prompt_embeds"]}


class SequenceOnly(Flux):
    def join(self, conditioning: Conditioning, request: Any) -> dict[str, Any]:
        return {"prompt_embeds": super().join(conditioning, request)["prompt_embeds"]}


@pytest.mark.parametrize(
    ("name", "broken", "leaking"),
    [("sdxl", WithoutPooled, ["clip_g_pooled"]), ("flux-dev", SequenceOnly, ["clip_l"])],
)
def test_sanitizing_the_sequence_alone_is_seen_as_a_leak(
    name: str, broken: type[Family], leaking: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safegen.families.family_of", broken)
    assert leaks(name) == leaking


@pytest.mark.parametrize("name", ["sdxl", "flux-dev"])
def test_a_channel_without_a_direction_is_an_error(name: str) -> None:
    family = family_of(pipeline(name))
    guard = prepared(name).bind(family)
    *known, _ = guard.context.scorer.channels.items()
    fewer = Scorer({channel: probes.directions for channel, probes in known})
    broken = replace(guard, context=replace(guard.context, scorer_or_none=fewer))
    with pytest.raises(GuardError, match="no directions for the channel"):
        broken.sanitize(family.encode([BENIGN]))


@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux-dev", "pixart", "z-image"])
@pytest.mark.parametrize("safeguard", ["clamp", "region", "surgery", "safree"])
def test_methods_edit_every_channel_or_say_so_at_the_start(name: str, safeguard: str) -> None:
    guard, pipe = prepared(name, safeguard), pipeline(name)
    if (name, safeguard) == ("z-image", "surgery"):
        with pytest.raises(UsageError, match="no fixed ones"), guard.attached(pipe):
            pass
        return
    plain = told(name, HARMFUL)
    with guard.attached(pipe):
        guarded = told(name, HARMFUL)
    assert all(not same(plain[c], guarded[c]) for c in plain)


def test_a_method_that_was_not_learned_is_an_error_at_the_start() -> None:
    with pytest.raises(DirectionError, match="learned sanitizer"), prepared("sdxl", "es").attached(pipeline("sdxl")):
        pass


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "pixart", "sana", "z-image", "flux-dev", "qwen-image"])
def test_the_negative_prompt_is_never_sanitized(name: str) -> None:
    cfg: dict[str, Any] = {"negative_prompt": HARMFUL, "guidance_scale": 3.0}
    if name in ("flux-dev", "qwen-image"):
        cfg = {"negative_prompt": HARMFUL, "true_cfg_scale": 3.0}

    def branches() -> list[Any]:
        with watched(pipeline(name)) as calls:
            call(name, HARMFUL, **cfg)
        if name == "z-image":
            return [states.clone() for states in calls[0]["args"][2]]
        (read, *_) = CHANNELS[name].values()
        # Either one call for both branches, or one for each.
        found = [read(c).clone() for c in calls]
        return [found[0][i] for i in (0, 1)] if len(found) == 1 else [f[0] for f in found[:2]]

    plain = branches()
    with prepared(name).attached(pipeline(name)) as guard:
        guarded = branches()
        assert guard.last[0].sanitized
    changed = [not same(a, b) for a, b in zip(plain, guarded, strict=True)]
    assert sorted(changed) == [False, True]


@pytest.mark.parametrize("name", ["flux-dev", "flux2", "flux2-klein"])
def test_a_model_without_a_negative_branch_says_so(name: str) -> None:
    with pytest.raises(UsageError, match="no negative branch"):
        Generator(pipeline(name), None).generate(BENIGN, DrawOptions(steps=1, size=(64, 64), negative="blue"))


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("sd", {"clip_skip": 1}),
        ("sdxl", {"prompt_2": "a kitchen knife"}),
        ("sd3", {"prompt_3": "a kitchen knife"}),
        ("flux-dev", {"prompt_2": "a kitchen knife"}),
        ("flux2-klein", {"text_encoder_out_layers": (1, 2, 3)}),
        ("sdxl", {"pooled_prompt_embeds": torch.zeros(1, 48)}),
    ],
)
def test_what_the_guard_would_not_see_is_refused(name: str, asked: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="a guarded pipeline"), prepared(name).attached(pipeline(name)):
        call(name, BENIGN, **asked)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("sdxl", {"prompt_embeds": torch.zeros(1, 24, 144), "pooled_prompt_embeds": torch.zeros(1, 48)}),
        ("flux-dev", {"prompt_embeds": torch.zeros(1, 8, 64), "pooled_prompt_embeds": torch.zeros(1, 64)}),
        ("qwen-image", {"prompt_embeds": torch.zeros(1, 8, 48)}),
        ("z-image", {"prompt_embeds": [torch.zeros(8, 48)]}),
        ("flux2", {"prompt_embeds": torch.zeros(1, 8, 144)}),
    ],
)
def test_embeddings_instead_of_text_are_refused(name: str, given: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="needs the prompt as text"), prepared(name).attached(pipeline(name)):
        call(name, None, **given)


@pytest.mark.parametrize("name", sorted(set(miniatures.BUILDERS) - {"sd3-without-t5"}))
def test_text_that_an_encoder_does_not_see_is_told(name: str) -> None:
    family = family_of(pipeline(name))
    long = " ".join(["a red apple"] * 400) + " dog"
    conditioning = family.encode([long])
    for channel in conditioning.channels.values():
        assert channel.truncated[0].endswith("dog")
        assert long.endswith(channel.truncated[0])


IMAGE = Image.new("RGB", (64, 64), "gray")
AREA = {"width": 64, "height": 64}
RELATIVES: list[tuple[str, str, dict[str, Any]]] = [
    ("sd", "StableDiffusionImg2ImgPipeline", {"image": IMAGE, "strength": 1.0}),
    ("sd", "StableDiffusionInpaintPipeline", {"image": IMAGE, "mask_image": IMAGE, "strength": 1.0}),
    ("sdxl", "StableDiffusionXLImg2ImgPipeline", {"image": IMAGE, "strength": 1.0}),
    ("sd3", "StableDiffusion3Img2ImgPipeline", {"image": IMAGE, "strength": 1.0}),
    ("sdxl", "StableDiffusionXLInpaintPipeline", {"image": IMAGE, "mask_image": IMAGE, "strength": 1.0, **AREA}),
    ("flux-dev", "FluxImg2ImgPipeline", {"image": IMAGE, "strength": 1.0}),
    ("flux-dev", "FluxInpaintPipeline", {"image": IMAGE, "mask_image": IMAGE, "strength": 1.0, **AREA}),
    ("flux-dev", "FluxKontextPipeline", {"image": IMAGE, "_auto_resize": False, "max_area": 64 * 64, **AREA}),
    ("qwen-image", "QwenImageImg2ImgPipeline", {"image": IMAGE, "strength": 1.0, **AREA}),
    ("qwen-image", "QwenImageInpaintPipeline", {"image": IMAGE, "mask_image": IMAGE, "strength": 1.0, **AREA}),
    ("z-image", "ZImageImg2ImgPipeline", {"image": IMAGE, "strength": 1.0, **AREA}),
    ("z-image", "ZImageInpaintPipeline", {"image": IMAGE, "mask_image": IMAGE, "strength": 1.0, **AREA}),
    ("flux2-klein", "Flux2KleinInpaintPipeline", {"image": IMAGE, "mask_image": IMAGE, "strength": 1.0, **AREA}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind", "asked"), RELATIVES, ids=[kind for _, kind, _ in RELATIVES])
def test_relatives_that_begin_with_a_picture_are_guarded_too(name: str, kind: str, asked: dict[str, Any]) -> None:
    pipe = getattr(diffusers, kind).from_pipe(pipeline(name))
    pipe.set_progress_bar_config(disable=True)

    def received(prompt: str) -> dict[str, torch.Tensor]:
        with watched(pipe) as calls:
            pipe(prompt=prompt, guidance_scale=1.0, num_inference_steps=1, **asked)
        return {channel: read(calls[0]).clone() for channel, read in CHANNELS[name].items()}

    plain, benign = received(HARMFUL), received(BENIGN)
    with prepared(name).attached(pipe):
        guarded = received(HARMFUL)
        assert all(same(value, benign[c]) for c, value in received(BENIGN).items())
    assert all(not same(plain[c], guarded[c]) for c in plain)
    with pytest.raises(ModelError, match="draws from a picture"):
        Generator(pipe, None)


def test_the_same_output_of_the_same_encoder_shares_its_files() -> None:
    """SDXL and SD3 read the same layer of the same CLIP, with different classes around it."""
    bare, projected, tokenizer = miniatures.clip(), miniatures.clip(projected=True), miniatures.clip_tokenizer()
    projected.text_model.load_state_dict(bare.state_dict())

    def fingerprint(encoder: Any, layer: str) -> str:
        return EncoderOutput("any", encoder, tokenizer, layer, 64, 24).fingerprint

    assert fingerprint(bare, "hidden -2") == fingerprint(projected, "hidden -2")
    assert fingerprint(bare, "hidden -2") != fingerprint(bare, "last")
    with torch.no_grad():
        next(bare.parameters()).mul_(1.01)
    assert fingerprint(bare, "hidden -2") != fingerprint(projected, "hidden -2")


def test_an_unknown_pipeline_is_refused_with_the_reason() -> None:
    class StrangePipeline:
        text_encoder = pipeline("sd").text_encoder

    with pytest.raises(ModelError, match="cannot guard a StrangePipeline") as raised:
        family_of(StrangePipeline())
    assert "CLIPTextModel" in raised.value.hint


@pytest.mark.parametrize(
    ("name", "part"), [("sd", "text_encoder"), ("sdxl", "text_encoder"), ("flux-dev", "text_encoder_2")]
)
def test_a_missing_encoder_is_an_error(name: str, part: str) -> None:
    pipe = miniatures.BUILDERS[name]()
    setattr(pipe, part, None)
    with pytest.raises(ModelError, match=f"has no {part}"):
        family_of(pipe)


def test_a_slow_tokenizer_is_an_error() -> None:
    pipe = miniatures.stable_diffusion()

    class SlowTokenizer:
        is_fast = False
        model_max_length = 77

    pipe.tokenizer = SlowTokenizer()
    with pytest.raises(ModelError, match="SlowTokenizer gives no character offsets"):
        family_of(pipe)


@pytest.mark.slow
def test_every_channel_is_learned_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """On random weights the figures are poor, and so the guard refuses to go on."""
    everyday = [" ".join(["a red apple"] * (1 + i % 6)) + f" {i}" for i in range(240)]
    few = replace(BRIEF, contexts=3, fitted=120, steps=20)
    monkeypatch.setattr("safegen.learning.features.benign_prompts", lambda *_: everyday)
    monkeypatch.setattr("safegen.learning.effort.BRIEF", few)
    monkeypatch.setattr(store, "POOR", 1.1)
    family = family_of(pipeline("sdxl"))
    count = []
    monkeypatch.setattr(
        family, "encode", lambda prompts, inner=family.encode: count.append(len(prompts)) or inner(prompts)
    )
    learned = contrastive.learn(Concept.load("violence"), family, few)
    total, seen = sum(count), set(learned)
    assert seen == {"clip_l", "clip_g", "clip_g_pooled"}
    for output in family.outputs:
        direction = learned[output.channel]
        assert direction.info["fingerprint"] == output.fingerprint
        assert all(torch.isfinite(tensor).all() for tensor in direction.tensors.values())
        classes = {key.split(".")[0] for key in direction.tensors} - {"gate", "check"}
        assert classes == ({"pooled"} if output.pooled else {"token", "end", "pad"})
    corpus = contrastive.Corpus.of(Concept.load("violence"), few)
    assert total == len(everyday) + len(corpus.targets) + len(corpus.anchors) + len(corpus.hard) + len(corpus.company)
    told_ = Notes()
    with pytest.raises(DirectionError, match="held-out AUC of only"):
        ensure.resolve(["violence"], family, None, told_)
    assert "learning violence" in told_.said[0]
    assert "violence, clip_l, held out (recipe lines): auc" in told_.said[1]
    assert told_.counted == [(len(everyday), len(everyday)), (corpus.size, corpus.size)]


def test_every_family_has_a_miniature() -> None:
    assert {type(family_of(pipeline(name))) for name in miniatures.BUILDERS} == set(FAMILIES)
