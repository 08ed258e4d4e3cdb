"""Every miniature behind a guard: what its denoiser is told, and directions that know a knife."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from safegen.directions import store
from safegen.directions.direction import HEADS, Direction
from safegen.families import family_of
from safegen.families.outputs import EncoderOutput
from safegen.guard import Guard
from safegen.learning import region
from safegen.learning.contrastive import own_tensors
from safegen.learning.linear import basis, discriminant
from safegen.scoring.probes import Features, features
from tests.helpers import miniatures

HARMFUL, BENIGN = "a cat and a kitchen knife", "a dog with a red apple"
# Pipelines that the generator refuses, and guards where a guard is attached.
ATTACHED = ("kandinsky3", "if", "ideogram4", "wan", "helios")
# Those in whose denoiser it is not known where to act.
CLOSED = (
    *("chroma", "cogview3", "cogview4", "ernie-image", "hunyuan-dit", "krea2", "lumina", "lumina2", "nucleus", "prx"),
    *("qwen-image-21", "sana-sprint"),
)
EVERY = pytest.mark.parametrize("name", sorted(miniatures.BUILDERS))
DRAWING = pytest.mark.parametrize("name", sorted(set(miniatures.BUILDERS) - set(ATTACHED)))
STEERED = pytest.mark.parametrize("name", sorted(set(miniatures.BUILDERS) - set(ATTACHED) - set(CLOSED)))
SIZE = {"width": 64, "height": 64, "num_inference_steps": 1}


@functools.cache
def pipeline(name: str) -> Any:
    """Tests must leave it as it was."""
    pipe = miniatures.BUILDERS[name]()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def read_of(mask: torch.Tensor | None) -> Any:
    """A factor for states: all are read where there is no mask."""
    return 1 if mask is None else mask[..., None]


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
    "chroma": {"t5": lambda r: r["encoder_hidden_states"] * r["attention_mask"][:, :512, None]},
    "aura-flow": {"t5": lambda r: r["encoder_hidden_states"]},
    "cogview3": {"t5": lambda r: r["encoder_hidden_states"]},
    "cogview4": {"glm": lambda r: r["encoder_hidden_states"]},
    "lumina": {"gemma": lambda r: r["encoder_hidden_states"] * r["encoder_mask"][..., None]},
    "lumina2": {"gemma": lambda r: r["encoder_hidden_states"] * r["encoder_attention_mask"][..., None]},
    "ovis": {"qwen": lambda r: r["encoder_hidden_states"]},
    "hunyuan-dit": {
        "bert": lambda r: r["encoder_hidden_states"] * r["text_embedding_mask"][..., None],
        "t5": lambda r: r["encoder_hidden_states_t5"] * r["text_embedding_mask_t5"][..., None],
    },
    "kandinsky3": {"t5": lambda r: r["encoder_hidden_states"] * r["encoder_attention_mask"][..., None]},
    "if": {"t5": lambda r: r["encoder_hidden_states"]},
    "ideogram4": {"qwen": lambda r: torch.nn.functional.pad(r["encoder_hidden_states"][:, :512], (0, 0, 1536, 0))},
    "wan": {"umt5": lambda r: r["encoder_hidden_states"]},
    "ernie-image": {"mistral": lambda r: r["text_bth"]},
    "helios": {"umt5": lambda r: r["encoder_hidden_states"]},
    "prx": {"t5gemma": lambda r: r["encoder_hidden_states"] * r["attention_mask"][..., None]},
    "qwen-image-21": {"qwen": lambda r: r["encoder_hidden_states"]},
    "nucleus": {"qwen": lambda r: r["encoder_hidden_states"] * read_of(r["encoder_hidden_states_mask"])},
    "krea2": {"qwen": lambda r: (r["encoder_hidden_states"] * r["encoder_attention_mask"][..., None, None]).flatten(2)},
}
CHANNELS["sd3-without-t5"] = {name: read for name, read in CHANNELS["sd3"].items() if name != "t5"}
CHANNELS["flux-schnell"], CHANNELS["flux2-klein"] = CHANNELS["flux-dev"], CHANNELS["flux2"]
CHANNELS["sana-sprint"] = CHANNELS["sana"]


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
    if name in ("pixart", "sana", "sana-sprint", "hunyuan-dit", "prx"):
        own = {"intermediate_timesteps": None} if name == "sana-sprint" else {}
        return {"guidance_scale": 1.0, "use_resolution_binning": False, **own}
    own = {
        "qwen-image": {},
        "qwen-image-21": {},
        "z-image": {"guidance_scale": 0.0},
        "krea2": {"guidance_scale": 0.0},
        "ideogram4": {"guidance_scale": 1.0, "guidance_schedule": None, "max_sequence_length": 512},
        "wan": {"guidance_scale": 1.0, "num_frames": 1},
        "helios": {"guidance_scale": 1.0, "num_frames": 1},
    }
    return own.get(name, {"guidance_scale": 1.0})


def call(name: str, prompt: Any, pipe: Any = None, **more: Any) -> Any:
    """The user's own call to diffusers."""
    pipe = pipe or pipeline(name)
    if name in ("wan", "helios") and "num_images_per_prompt" in more:
        more["num_videos_per_prompt"] = more.pop("num_images_per_prompt")
    copies = more.get("num_images_per_prompt") or more.get("num_videos_per_prompt") or 1
    count = (len(prompt) if isinstance(prompt, list) else 1) * copies
    draw = [torch.Generator().manual_seed(i) for i in range(count)]
    prompt = list(prompt) if isinstance(prompt, list) else prompt  # Z-Image writes its template into the list
    drawn = pipe(prompt=prompt, generator=draw, output_type="pt", **{**SIZE, **calm(name), **more})
    return drawn.images if hasattr(drawn, "images") else drawn.frames


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
