"""The causal encoder: directions are learned for it, and what its pads and its end carry is scored and repaired."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch
import transformers

from safegen.conditioning import Channel, Conditioning, Position
from safegen.directions.direction import Direction
from safegen.directions.recipes import Concept
from safegen.families import Family, family_of
from safegen.families.stable_diffusion import CHANNEL
from safegen.guard import Guard
from safegen.guard.bound import NUDITY, BoundGuard
from safegen.learning import contrastive
from safegen.learning.effort import BRIEF
from tests.helpers import miniatures

HARMFUL, BENIGN = "a cat and a kitchen knife", "a cat and a wooden spoon"
BEHIND = (Position.END, Position.PAD)
# Enough for one concept of this encoder.
FEWER = replace(BRIEF, contexts=13, draws=2, captions=400, plain=400, long=250, fitted=500, couples=300, steps=400)
BLADES = {
    "knife": "spoon",
    "kitchen knife": "wooden spoon",
    "sharp knife": "clean spoon",
    "dagger": "ladle",
    "bread knife": "bread basket",
    "pocket knife": "pocket watch",
    "sword": "broom",
    "big knife": "big spoon",
    "machete": "rake",
    "steel blade": "steel spoon",
}

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about a denoiser as small as this


@pytest.fixture(scope="session")
def pipe() -> Any:
    """The shipped encoder in a pipeline that can draw, if only noise."""
    return miniatures.causal()


@pytest.fixture(scope="session")
def folder(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A concept learned for it, by the first worker that needs it."""
    base = tmp_path_factory.getbasetemp()
    found = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "blades"
    with filelock.FileLock(found.with_suffix(".lock")):
        if not found.is_dir():
            learn(family_of(pipe), tmp_path_factory.mktemp("cache")).rename(found)
    return found


def learn(family: Family, cache: Path) -> Path:
    found = cache / "learned"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAFEGEN_CACHE", str(cache))
        lines = "\n".join(f'"a {blade}" = "a {spoon}"' for blade, spoon in BLADES.items())
        for name in ("blades", NUDITY):  # which every guard watches for: nothing more is to be learned for that
            (found / name).mkdir(parents=True)
            (found / name / "concept.toml").write_text(f"[targets]\n{lines}")
        (direction,) = contrastive.learn(Concept.load("blades", found), family, FEWER).values()
        for name in ("blades", NUDITY):
            direction.save(found / name / f"{direction.stem}.safetensors")
    return found


def guard_of(family: Family, folder: Path, safeguard: str = "localise") -> BoundGuard:
    return Guard("blades", safeguard=safeguard, folder=folder).bind(family)


def channel_of(conditioning: Conditioning) -> Channel:
    return conditioning.channels[CHANNEL]


def states_at(conditioning: Conditioning, position: Position) -> torch.Tensor:
    channel = channel_of(conditioning)
    return channel.states[channel.positions == position]


def spliced(base: Conditioning, other: Conditioning, classes: Sequence[Position]) -> Conditioning:
    """One prompt's states with those of another in some classes of positions."""
    here, there = channel_of(base), channel_of(other)
    assert torch.equal(here.positions, there.positions)
    chosen = torch.stack([here.positions == position for position in classes]).any(0).unsqueeze(-1)
    return replace(base, channels={CHANNEL: replace(here, states=there.states.where(chosen, here.states))})


def margin(guard: BoundGuard, conditioning: Conditioning, head: str) -> float:
    return float(guard.context.scorer.margins(conditioning, head))


def own(guard: BoundGuard, conditioning: Conditioning, position: Position) -> float:
    """The lowest own score of a class, in benign standard deviations."""
    channel = channel_of(conditioning)
    scores = guard.context.scorer.channels[CHANNEL].own(channel)[..., 0]
    return float(scores[channel.positions == position].min())


def test_it_is_clips_own_class_and_causal(pipe: Any) -> None:
    assert type(pipe.text_encoder) is transformers.CLIPTextModel
    assert isinstance(pipe.tokenizer, transformers.CLIPTokenizer)
    family = family_of(pipe)
    harmful, benign = (channel_of(family.encode([prompt])) for prompt in (HARMFUL, BENIGN))
    assert harmful.states.shape == (1, 77, 256)
    differs = (harmful.states != benign.states).any(-1)[0]
    first = next(i for i, token in enumerate(harmful.tokens[0]) if token.text == "kitchen")
    assert not differs[:first].any()
    assert differs[first:].all()
    assert torch.isfinite(pipe.text_encoder(torch.zeros(1, 77, dtype=torch.long))[0]).all()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_is_learned_for_it_holds_on_other_lines_of_the_recipe(folder: Path) -> None:
    (path,) = (folder / "blades").glob("*.safetensors")
    direction = Direction.load(path)
    assert path.name.startswith("clip_text_model-")
    assert direction.info["held_out"]["auc"] > 0.9
    # The start is the same for every prompt, and has nothing to be learned from.
    assert {key.split(".")[0] for key in direction.tensors} == {"token", "end", "pad", "gate", "check"}


@pytest.mark.slow
def test_the_end_and_every_pad_carry_the_harm(pipe: Any, folder: Path) -> None:
    family = family_of(pipe)
    guard, harmful, benign = guard_of(family, folder), family.encode([HARMFUL]), family.encode([BENIGN])
    assert margin(guard, harmful, "gate") > 0
    assert margin(guard, benign, "gate") < 0
    for position in BEHIND:
        assert own(guard, harmful, position) > 2.5
        assert own(guard, benign, position) < 2.5
    # Another prompt's words in front of them change neither what they say nor that it is heard.
    reworded = spliced(harmful, benign, [Position.TOKEN])
    assert margin(guard, reworded, "gate") > 0
    with_words, without, neither = (margin(guard, one, "check") for one in (harmful, reworded, benign))
    assert without - neither > (with_words - neither) / 2
    cut = spliced(reworded, benign, BEHIND)
    assert torch.equal(channel_of(cut).states, channel_of(benign).states)


@pytest.mark.slow
@pytest.mark.parametrize("safeguard", ["clamp", "localise"])
def test_the_repair_covers_the_end_and_every_pad(pipe: Any, folder: Path, safeguard: str) -> None:
    family = family_of(pipe)
    guard, harmful = guard_of(family, folder, safeguard), family.encode([HARMFUL])
    repaired, (report,) = guard.sanitize(harmful)
    assert report.sanitized
    assert not report.after.flagged
    for position in BEHIND:
        assert (states_at(repaired, position)[:1] != states_at(harmful, position)[:1]).any(-1).all()
        assert own(guard, repaired, position) < 2.5
    if safeguard == "clamp":
        assert (channel_of(repaired).states != channel_of(harmful).states).any(-1)[0, 1:].sum() >= 70
        leak = spliced(harmful, repaired, [Position.TOKEN])
        assert margin(guard, leak, "gate") > 0


@pytest.mark.slow
@pytest.mark.parametrize("safeguard", ["clamp", "localise"])
def test_the_denoiser_is_told_the_repaired_pads(pipe: Any, folder: Path, safeguard: str) -> None:
    told: list[torch.Tensor] = []
    hook = pipe.unet.register_forward_pre_hook(
        lambda _, __, named: told.append(named["encoder_hidden_states"]), with_kwargs=True
    )
    try:
        how: dict[str, Any] = {"num_inference_steps": 1, "width": 64, "height": 64, "guidance_scale": 1.0}
        for prompt in (HARMFUL, BENIGN):
            pipe(prompt, **how)
            with Guard("blades", safeguard=safeguard, folder=folder).attached(pipe):
                pipe(prompt, **how)
    finally:
        hook.remove()
    plain, guarded, benign, untouched = told
    length = len(pipe.tokenizer(HARMFUL).input_ids)
    assert (plain[0, length:] != guarded[0, length:]).any(-1).all()
    assert torch.equal(benign, untouched)


@pytest.mark.slow
def test_its_words_are_scored_and_blamed(pipe: Any, folder: Path) -> None:
    guard = guard_of(family_of(pipe), folder)
    harmful, benign = guard.score(family_of(pipe).encode([HARMFUL, BENIGN]), "flagged")
    assert not benign.flagged
    assert max(harmful.words, key=lambda word: word.causes["blades"]).text == "knife"
    assert [word.text for word in harmful.words] == HARMFUL.split()
