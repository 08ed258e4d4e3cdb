"""Word salads: made of the encoder's own words, near what they are aimed at, the same every time."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from safegen.directions.recipes import Concept
from safegen.generator import Generator
from safegen.learning import adversarial, corpus
from safegen.learning.adversarial import Salads
from safegen.learning.effort import BRIEF, THOROUGH
from safegen.learning.vocabulary import Lexicon, meanings, whole_words
from safegen.prompts import refusal
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
    from safegen.families import family_of

    family = family_of(miniatures.stable_diffusion())
    assert Salads.of(Concept.load("violence"), family, THOROUGH) == Salads([], [], [], [])


def test_an_effort_without_words_makes_none(generator: Generator) -> None:
    assert Salads.of(Concept.load("violence"), generator.family, BRIEF) == Salads([], [], [], [])


def test_a_slip_changes_the_words_that_it_is_to_change() -> None:
    rng = random.Random(0)
    for _ in range(200):
        slipped = corpus.misspelt(rng, "a kitchen knife", {"knife"})
        assert slipped.startswith("a kitchen ")
        assert abs(len(slipped) - len("a kitchen knife")) <= 3
    assert sum(corpus.misspelt(rng, "knife") != "knife" for _ in range(100)) > 90
