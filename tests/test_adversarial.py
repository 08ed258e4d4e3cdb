"""Word salads, tossed and searched: the encoder's own words, near what they are aimed at, the same every time."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from safegen.conditioning import Conditioning
from safegen.directions.direction import Direction
from safegen.directions.recipes import Concept
from safegen.errors import UsageError
from safegen.families import family_of
from safegen.generator import Generator
from safegen.learning import adversarial, alphabet, contrastive, corpus, hardening
from safegen.learning.adversarial import Salads
from safegen.learning.dataset import Material
from safegen.learning.effort import ANALYTIC, BRIEF, HARDENED, THOROUGH
from safegen.learning.features import background
from safegen.learning.hardening import harden
from safegen.learning.searched import Search, meaning
from safegen.learning.vocabulary import Lexicon, meanings, whole_words
from safegen.prompts import refusal
from safegen.scoring.probes import Probes
from tests.helpers import miniatures

FEW = replace(THOROUGH, vocabulary=1200, salads=12, calm_salads=6, plain_salads=20, random_salads=5)


@pytest.mark.parametrize("kind", ["byte", "unigram", "word"])
def test_a_vocabulary_gives_its_whole_words(kind: str) -> None:
    pieces = {
        "byte": ["the</w>", "kni", "fe</w>", "cat</w>", "!</w>"],
        "unigram": ["\u2581the", "fe", "\u2581cat", "\u2581"],
        "word": ["[CLS]", "the", "cat", "##fe", "a"],
    }[kind]

    class Tokenizer:
        def get_vocab(self) -> dict[str, int]:
            return {piece: i for i, piece in enumerate(pieces)}

    found = list(whole_words(Tokenizer()))
    assert found[0] == "the"
    assert "cat" in found
    assert all(word.isalpha() and len(word) >= 3 for word in found)
    assert "##fe" not in found


@pytest.mark.slow
def test_salads_mean_what_they_are_aimed_at(generator: Generator) -> None:
    recipe = Concept.load("violence")
    recipe = replace(recipe, targets=dict(list(recipe.targets.items())[:6]))
    found = Salads.of(recipe, generator.family, FEW)
    assert len(found.harmful) == len(found.groups)
    assert set(found.groups) == set(range(6))
    assert not any(map(refusal.names_minor, found.harmful))
    targets, anchors = (meanings(generator.family, list(t)) for t in (recipe.targets, recipe.targets.values()))
    way = (targets - anchors).mean(0)
    along = [(meanings(generator.family, texts) @ way).mean() for texts in (found.harmful, found.harmless, found.plain)]
    assert along[0] > along[1] + 0.1
    assert along[0] > along[2] + 0.1
    assert Salads.of(recipe, generator.family, FEW) == found


def test_words_come_nearest_to_the_aim(generator: Generator) -> None:
    words = ("dog", "puppy", "cat", "table", "justice", "river")
    lexicon = Lexicon(words, meanings(generator.family, words))
    aims = meanings(generator.family, ["hound", "bench"])
    first, _ = lexicon.near(aims, 2).tolist()
    assert set(first) == {0, 1}
    assert 3 in lexicon.near(aims, 2, off=aims[0])[1].tolist()
    aim = aims[0]
    texts = [adversarial.toss(aim, lexicon, torch.arange(6), random.Random(seed)).split() for seed in range(20)]
    assert all(text for text in texts)
    assert sum("dog" in text or "puppy" in text for text in texts) >= 18


def test_an_encoder_with_few_words_has_no_salads() -> None:
    family = family_of(miniatures.stable_diffusion())
    assert Salads.of(Concept.load("violence"), family, THOROUGH) == Salads([], [], [], [])


def test_an_effort_without_words_makes_none(generator: Generator) -> None:
    assert Salads.of(Concept.load("violence"), generator.family, BRIEF) == Salads([], [], [], [])


@pytest.mark.slow
def test_a_search_comes_nearer_to_its_aim_without_its_words(generator: Generator) -> None:
    aims = ["a dagger", "a coffin"]
    short, long = (Search(generator.family, steps).find(aims, 5, seed=3) for steps in (1, 12))
    assert long.likeness > short.likeness
    assert set(long.aims) == {0, 1}
    words = {word for salad in long.salads for word in salad.split()}
    assert not words & {"dagger", "coffin"}
    assert not any(map(refusal.names_minor, long.salads))
    assert Search(generator.family, 12).find(aims, 5, seed=3) == long


@pytest.mark.slow
def test_a_search_keeps_away_from_what_it_is_told_to(generator: Generator) -> None:
    aim, shunned = ["a dagger"], meaning(generator.family.encode(["a dagger"]))

    def near(conditioning: Conditioning) -> torch.Tensor:
        return 50 * torch.relu(torch.cosine_similarity(meaning(conditioning), shunned) - 0.2)

    free, shy = (Search(generator.family, 12).find(aim, 5, under, seed=3).likeness for under in (None, near))
    assert shy < free


@pytest.mark.slow
def test_rounds_of_searches_teach_a_classifier_what_passed_it(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With so little to learn from, it still flags more of what was found than one that was not taught."""
    monkeypatch.setattr(hardening, "BATCH", 9)  # harmless aims
    recipe = Concept.load("violence")
    recipe = replace(recipe, targets=dict(list(recipe.targets.items())[:8]))
    effort = replace(ANALYTIC, name="hardened", rounds=1, search_steps=3, line=0.0, steps=200, members=1)
    material = Material.of(
        effort,
        corpus.Corpus.of(recipe, effort),
        Salads([], [], [], []),
        generator.family,
        background(generator.family, effort),
    )
    (one,) = harden(recipe, generator.family, material, contrastive.fit_gate).values()
    assert one.searched is not None
    assert one.searched_groups is not None
    assert one.soothed is not None
    assert set(one.searched_groups.tolist()) == set(range(8))
    (before,), after = material.values(), contrastive.fit_gate(one)
    found = [
        Probes([Direction(tensors, {})]).calibrated(
            one.values(one.searched, tensors, "gate")[:, None], one.searched.bins
        )
        for tensors in (contrastive.fit_gate(before), after)
    ]
    shares = [contrastive.over(z - lines) for z, lines in found]
    assert shares[1] > shares[0]


def test_an_encoder_with_few_words_cannot_be_hardened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alphabet, "LEAST", 1000)
    family = family_of(miniatures.stable_diffusion())
    material = SimpleNamespace(effort=replace(HARDENED, search_steps=1))
    with pytest.raises(UsageError, match="hardened"):
        harden(Concept.load("violence"), family, {"text": cast(Material, material)}, contrastive.fit_gate)


def test_hardened_is_thorough_with_searches() -> None:
    assert replace(HARDENED, name="thorough", rounds=0) == THOROUGH


def test_a_slip_changes_the_words_that_it_is_to_change() -> None:
    rng = random.Random(0)
    for _ in range(200):
        slipped = corpus.misspelt(rng, "a kitchen knife", {"knife"})
        assert slipped.startswith("a kitchen ")
        assert abs(len(slipped) - len("a kitchen knife")) <= 3
    assert sum(corpus.misspelt(rng, "knife") != "knife" for _ in range(100)) > 90
