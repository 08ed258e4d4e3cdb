"""Directions carried over from the embedded encoder: the map, the words, and what a carried direction does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from safegen import Generator
from safegen.bench.learning import newcomer
from safegen.directions import store
from safegen.directions.direction import Direction
from safegen.directions.recipes import Concept
from safegen.errors import UsageError
from safegen.families import family_of
from safegen.learning import ensure
from safegen.learning.effort import TRANSPORTED
from safegen.learning.features import encode
from safegen.learning.learner import Learner
from safegen.learning.linear import Affine
from safegen.learning.transported import NotCarried, Transport
from safegen.scoring.scorer import Scorer
from tests.helpers import miniatures

FEWER = replace(TRANSPORTED, captions=150, plain=150, long=80, fitted=200)


def shipped(generator: Generator) -> Direction:
    (fingerprint,) = generator.family.fingerprints().values()
    known = store.find("violence", fingerprint, None)
    assert known is not None
    return known


@pytest.mark.parametrize("count", [40, 400])
def test_a_map_finds_what_states_have_in_common(count: int) -> None:
    """With few and with many rows for its width."""
    draw = torch.Generator().manual_seed(0)
    states = torch.randn((count, 60), generator=draw) @ torch.diag(torch.linspace(0.1, 2, 60)) + 3
    goals = states @ torch.randn((60, 8), generator=draw) + 1
    found = Affine.fit(states, goals, ridge=1e-4)
    mapped = (states - found.centre) @ found.weight + found.offset
    assert (mapped - goals).square().mean() < 0.01 * goals.var()


def test_words_are_the_same_whoever_spells_them(generator: Generator) -> None:
    """Another tokenizer cuts other pieces; words are found by their characters."""
    prompts = ["a hippo, an owl", "two odd kangaroos"]
    (one,) = encode(generator.family, prompts).values()
    (other,) = encode(family_of(miniatures.stable_diffusion()), prompts).values()
    ours, theirs = one.words_beside(other)
    assert len(ours) == len(theirs) == 8  # the comma is one
    assert ours.shape[1] == one.words.shape[1]
    assert theirs.shape[1] == other.words.shape[1]
    assert torch.equal(one.words_beside(one)[0], ours)


@pytest.mark.slow
def test_a_carried_direction_is_whole_and_finds_harm(generator: Generator, tmp_path: Path) -> None:
    family = newcomer().family
    known = shipped(generator)
    (made,) = Transport(family, generator.family, FEWER).learn(Concept.load("violence"), known).values()
    assert made.info["held_out"]["auc"] > 0.97
    made.save(tmp_path / "it.safetensors")
    read = Direction.load(tmp_path / "it.safetensors")
    assert read.info["carried_from"] == f"{known.stem}, thorough"
    for position in ("token", "end", "pad"):
        basis, dual = read.tensors[f"{position}.basis"], read.tensors[f"{position}.dual"]
        assert torch.allclose(basis @ dual.T, torch.eye(len(basis)), atol=0.02)  # half precision
    seen = Scorer.of({"violence": {"text": read}}, ["violence"])
    prompts = ["a kitchen knife", "a man with a pistol", "a cup of tea", "a dog on a beach"]
    assert [bool(seen.margins(family.encode([p])).max() >= 0) for p in prompts] == [True, True, False, False]


@pytest.mark.slow
def test_every_channel_gets_one(generator: Generator) -> None:
    """Pooled vectors, too, which the source does not have."""
    family = family_of(miniatures.stable_diffusion_xl())
    known = shipped(generator)
    made = Transport(family, generator.family, FEWER).learn(Concept.load("violence"), known)
    assert set(made) == set(family.fingerprints())
    for output in family.outputs:
        assert made[output.channel].info["width"] == output.width
    assert Scorer.of({"violence": made}, ["violence"]).channels.keys() == made.keys()


def test_it_is_what_a_processor_does_for_another_encoder() -> None:
    assert ensure.effort_here(family_of(miniatures.stable_diffusion())) is TRANSPORTED


def test_nothing_is_carried_to_where_it_comes_from(generator: Generator, command: Callable[..., int]) -> None:
    with pytest.raises(UsageError, match="to itself"):
        Learner(generator.family, TRANSPORTED).learn(Concept.load("violence"))
    assert command("directions", "learn", "violence", "--effort", "transported") == 2


def test_nothing_is_carried_to_an_encoder_whose_states_are_all_alike(generator: Generator) -> None:
    family = family_of(miniatures.stable_diffusion())
    for weight in family.outputs[0].encoder.parameters():
        weight.data.zero_()
    with pytest.raises(NotCarried, match="no states"):
        Transport(family, generator.family, FEWER).learn(Concept.load("violence"), shipped(generator))
