"""The contract of every family, on miniatures of the real pipelines."""

from __future__ import annotations

import gc
import inspect
from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image

from safegen.conditioning import Conditioning, Position
from safegen.directions import store
from safegen.directions.recipes import Concept
from safegen.errors import DirectionError, GuardError, ModelError, Unread, UsageError
from safegen.families import FAMILIES, Family, family_of
from safegen.families.flux import Flux
from safegen.families.flux3 import Flux3
from safegen.families.outputs import EncoderOutput
from safegen.families.prx import PRX
from safegen.families.qwen_image_edit import QwenImageEdit
from safegen.families.stable_diffusion_xl import StableDiffusionXL
from safegen.generator import Generator
from safegen.guard import Guard
from safegen.learning import contrastive, ensure
from safegen.learning.effort import BRIEF
from safegen.models.options import DrawOptions
from safegen.scoring.scorer import Scorer
from tests.helpers import contract, miniatures, newcomers
from tests.helpers.notes import Notes
from tests.helpers.pipelines import (
    BENIGN,
    CHANNELS,
    EVERY,
    HARMFUL,
    call,
    leaks,
    pipeline,
    prepared,
    same,
    told,
    watched,
)

pytestmark = [
    pytest.mark.slow,  # every family is built, and that takes seconds
    pytest.mark.filterwarnings("ignore"),  # of the libraries, about models as small as these
]


@EVERY
def test_every_channel_that_reaches_the_denoiser_is_sanitized(name: str) -> None:
    contract.every_channel_that_reaches_the_denoiser_is_sanitized(name)


@EVERY
def test_the_denoiser_gets_what_the_guard_has_made(name: str) -> None:
    contract.the_denoiser_gets_what_the_guard_has_made(name)


@EVERY
def test_benign_prompts_and_strength_zero_keep_every_bit(name: str) -> None:
    contract.benign_prompts_and_strength_zero_keep_every_bit(name)


@pytest.mark.slow
@EVERY
def test_the_generator_draws_what_diffusers_own_call_draws(name: str) -> None:
    contract.the_generator_draws_what_diffusers_own_call_draws(name)


@EVERY
def test_detaching_leaves_the_pipeline_as_it_was(name: str) -> None:
    contract.detaching_leaves_the_pipeline_as_it_was(name)


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
    contract.batches_and_copies_keep_benign_rows_and_change_the_others(name)


@EVERY
def test_tokens_and_spans_agree_with_the_tokenizer(name: str) -> None:
    contract.tokens_and_spans_agree_with_the_tokenizer(name)


@pytest.mark.slow
@EVERY
def test_a_benign_prompt_costs_no_further_pass_through_an_encoder(name: str) -> None:
    contract.a_benign_prompt_costs_no_further_pass_through_an_encoder(name)


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


@pytest.mark.parametrize(
    "name",
    [
        *("sana", "qwen-image", "z-image", "flux2", "flux2-klein", "lumina2", "ovis", "krea2"),
        *("nucleus", "qwen-image-21", "ideogram4"),
    ],
)
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


@pytest.mark.parametrize(
    "name",
    [
        *("sd", "sdxl", "sd3", "pixart", "sana", "z-image", "flux-dev", "qwen-image", "chroma", "aura-flow"),
        *("cogview3", "cogview4", "lumina", "lumina2", "ovis", "krea2", "nucleus", "qwen-image-21", "hunyuan-dit"),
        *("if", "wan", "ernie-image"),  # Kandinsky 3 cuts the negative prompt to the length of the other
    ],
)
def test_the_negative_prompt_is_never_sanitized(name: str) -> None:
    cfg: dict[str, Any] = {"negative_prompt": HARMFUL, "guidance_scale": 3.0}
    if name in ("flux-dev", "qwen-image", "qwen-image-21"):
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
        ("sana", {"complex_human_instruction": ["a kitchen knife"]}),
        ("lumina2", {"system_prompt": "a kitchen knife"}),
        ("nucleus", {"return_index": -2}),
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
        ("cogview3", {"prompt_embeds": torch.zeros(1, 8, 64)}),
        ("ernie-image", {"prompt_embeds": [torch.zeros(8, 48)]}),
        ("krea2", {"prompt_embeds": torch.zeros(1, 8, 3, 48), "prompt_embeds_mask": torch.ones(1, 8)}),
        ("wan", {"prompt_embeds": torch.zeros(1, 512, 64)}),
    ],
)
def test_embeddings_instead_of_text_are_refused(name: str, given: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="needs the prompt as text"), prepared(name).attached(pipeline(name)):
        call(name, None, **given)


UNCUT = {"qwen-image-21", "nucleus", "ideogram4"}  # they read any length, or refuse it


@pytest.mark.parametrize("name", sorted(set(miniatures.BUILDERS) - {"sd3-without-t5"} - UNCUT))
def test_text_that_an_encoder_does_not_see_is_told(name: str) -> None:
    family = family_of(pipeline(name))
    long = " ".join(["a red apple"] * 400) + " dog"
    conditioning = family.encode([long])
    for channel in conditioning.channels.values():
        assert channel.truncated[0].endswith("dog")
        assert long.endswith(channel.truncated[0])


NOISE = Image.effect_noise((64, 64), 80).convert("RGB")
AREA: dict[str, Any] = {"width": 64, "height": 64}
IMAGE: dict[str, Any] = {"image": Image.new("RGB", (64, 64), "gray")}
WHOLE = {**IMAGE, "strength": 1.0}
MASKED = {**WHOLE, "mask_image": IMAGE["image"]}
FREE = {**AREA, "use_resolution_binning": False}
KONTEXT = {"_auto_resize": False, "max_area": 64 * 64, **AREA}
RELATIVES: list[tuple[str, str, dict[str, Any]]] = [
    ("sd", "StableDiffusionImg2ImgPipeline", WHOLE),
    ("sd", "StableDiffusionInpaintPipeline", MASKED),
    ("sd", "StableDiffusionPAGImg2ImgPipeline", WHOLE),
    ("sd", "StableDiffusionPAGInpaintPipeline", {**MASKED, **AREA}),
    ("sd", "LatentConsistencyModelImg2ImgPipeline", WHOLE),
    ("sdxl", "StableDiffusionXLImg2ImgPipeline", WHOLE),
    ("sdxl", "StableDiffusionXLPAGImg2ImgPipeline", WHOLE),
    ("sdxl", "StableDiffusionXLPAGInpaintPipeline", {**MASKED, **AREA}),
    ("sd3", "StableDiffusion3Img2ImgPipeline", WHOLE),
    ("sd3", "StableDiffusion3PAGImg2ImgPipeline", {**WHOLE, **AREA}),
    ("sdxl", "StableDiffusionXLInpaintPipeline", {**MASKED, **AREA}),
    ("flux-dev", "FluxImg2ImgPipeline", WHOLE),
    ("flux-dev", "FluxInpaintPipeline", {**MASKED, **AREA}),
    ("flux-dev", "FluxKontextPipeline", {**IMAGE, **KONTEXT}),
    ("flux-dev", "FluxKontextInpaintPipeline", {**MASKED, **KONTEXT}),
    ("qwen-image", "QwenImageImg2ImgPipeline", {**WHOLE, **AREA}),
    ("qwen-image", "QwenImageInpaintPipeline", {**MASKED, **AREA}),
    ("z-image", "ZImageImg2ImgPipeline", {**WHOLE, **AREA}),
    ("z-image", "ZImageInpaintPipeline", {**MASKED, **AREA}),
    ("flux2-klein", "Flux2KleinInpaintPipeline", {**MASKED, **AREA}),
    ("sana-sprint", "SanaSprintImg2ImgPipeline", {**WHOLE, **FREE, "num_inference_steps": 2}),
]
TWINS: list[tuple[str, str, dict[str, Any]]] = [
    ("sd", "StableDiffusionPAGPipeline", AREA),
    ("sd", "LatentConsistencyModelPipeline", AREA),
    ("sdxl", "StableDiffusionXLPAGPipeline", AREA),
    ("sd3", "StableDiffusion3PAGPipeline", AREA),
    ("pixart", "PixArtSigmaPAGPipeline", FREE),
    ("pixart", "PixArtAlphaPipeline", FREE),
    ("sana", "SanaPAGPipeline", FREE),
    ("flux2-klein", "Flux2KleinKVPipeline", AREA),
]


def relative(name: str, kind: str) -> Any:
    """A pipeline of another class with the parts of a miniature."""
    parts = {"pag_applied_layers": "blocks.0"} if "PAG" in kind and name in ("sd3", "pixart") else {}
    if kind.startswith("LatentConsistency"):
        # Here guidance is an input of the denoiser.
        parts = {"unet": miniatures.unet(64, time_cond_proj_dim=8), "scheduler": diffusers.LCMScheduler()}
    pipe = getattr(diffusers, kind).from_pipe(pipeline(name), **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def guarded_like_its_family(name: str, pipe: Any, asked: dict[str, Any]) -> None:
    calm = {"guidance_scale": 1.0} if "guidance_scale" in inspect.signature(type(pipe).__call__).parameters else {}

    def received(prompt: str) -> dict[str, torch.Tensor]:
        with watched(pipe) as calls:
            pipe(prompt=prompt, **{"num_inference_steps": 1, **calm, **asked})
        return {channel: read(calls[0]).clone() for channel, read in CHANNELS[name].items()}

    plain, benign = received(HARMFUL), received(BENIGN)
    with prepared(name).attached(pipe):
        guarded = received(HARMFUL)
        assert all(same(value, benign[c]) for c, value in received(BENIGN).items())
    assert all(not same(plain[c], guarded[c]) for c in plain)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind", "asked"), RELATIVES, ids=[kind for _, kind, _ in RELATIVES])
def test_relatives_that_begin_with_a_picture_are_guarded_too(name: str, kind: str, asked: dict[str, Any]) -> None:
    pipe = relative(name, kind)
    guarded_like_its_family(name, pipe, asked)
    if kind == "FluxKontextPipeline":  # it draws without a picture as well
        Generator(pipe, None)
        return
    with pytest.raises(ModelError, match="draws from a picture"):
        Generator(pipe, None)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind", "asked"), TWINS, ids=[kind for _, kind, _ in TWINS])
def test_relatives_that_draw_from_text_are_guarded_and_drawn(name: str, kind: str, asked: dict[str, Any]) -> None:
    pipe = relative(name, kind)
    guarded_like_its_family(name, pipe, asked)
    drawn = [
        Generator(pipe, guard).generate(HARMFUL, DrawOptions(steps=1, size=(64, 64)))[0][0].image.tobytes()
        for guard in (None, prepared(name))
    ]
    assert drawn[0] != drawn[1]


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
    monkeypatch.setattr(ensure, "effort_here", lambda _: few)
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
    """Qwen-Image-Edit and FLUX.3 have tests of their own, and PRX a miniature where ftfy is installed."""
    built = {type(family_of(pipeline(name))) for name in miniatures.BUILDERS}
    assert set(FAMILIES) - built <= {QwenImageEdit, Flux3, PRX}


def test_a_second_encoders_embeddings_in_the_place_of_text_are_refused() -> None:
    given = {"prompt_embeds_2": torch.zeros(1, 256, 64), "prompt_attention_mask_2": torch.ones(1, 256)}
    with (
        pytest.raises(ModelError, match="needs the prompt as text"),
        prepared("hunyuan-dit").attached(pipeline("hunyuan-dit")),
    ):
        call("hunyuan-dit", BENIGN, **given)


@pytest.mark.parametrize("name", ["flux-dev", "cogview3"])
def test_a_length_that_is_asked_for_holds_for_the_repair(name: str) -> None:
    asked = {"max_sequence_length": 64}
    plain = told(name, HARMFUL, **asked)
    with prepared(name).attached(pipeline(name)):
        guarded = told(name, HARMFUL, **asked)
    for channel, states in plain.items():
        assert guarded[channel].shape == states.shape
        assert not torch.equal(guarded[channel], states)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("QwenImageEditPipeline", {"image": NOISE}),
        ("QwenImageEditInpaintPipeline", {"image": NOISE, "mask_image": NOISE, "strength": 1.0}),
        ("QwenImageEditPlusPipeline", {"image": [NOISE, NOISE.resize((64, 48))]}),
    ],
)
def test_a_picture_goes_with_the_prompt_into_every_encoding(
    kind: str, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is drawn in the place of a harmful prompt is what diffusers draws of the repaired one and the picture."""
    pipe = newcomers.qwen_image(kind)
    module: Any = inspect.getmodule(type(pipe))
    scaled = module.calculate_dimensions
    monkeypatch.setattr(module, "calculate_dimensions", lambda _, ratio: scaled(64 * 64, ratio))
    pipe.set_progress_bar_config(disable=True)

    def received(prompt: str) -> torch.Tensor:
        with watched(pipe) as calls:
            pipe(prompt=prompt, num_inference_steps=1, true_cfg_scale=1.0, **AREA, **asked)
        states: torch.Tensor = calls[0]["encoder_hidden_states"].clone()
        return states

    plain = {prompt: received(prompt) for prompt in (HARMFUL, BENIGN)}
    with Guard("violence").attached(pipe) as guard:
        assert same(received(BENIGN), plain[BENIGN])
        repaired = received(HARMFUL)
        (report,) = guard.last
    assert report.sanitized
    assert not same(repaired, plain[HARMFUL])
    assert same(repaired, received(report.rewritten))
    with pytest.raises(ModelError, match="draws from a picture"):
        Generator(pipe, None)


def test_pictures_that_the_guard_does_not_know_how_to_read_are_refused() -> None:
    with (
        pytest.raises(ModelError, match="from text alone"),
        prepared("qwen-image-21").attached(pipeline("qwen-image-21")),
    ):
        call("qwen-image-21", BENIGN, image=[NOISE])


def test_a_wan_with_two_denoisers_is_refused() -> None:
    pipe = miniatures.BUILDERS["wan"]()
    pipe.transformer_2 = pipe.transformer
    with pytest.raises(ModelError, match="two denoisers"):
        family_of(pipe)
