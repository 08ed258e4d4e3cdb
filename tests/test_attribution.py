"""Causes, minimal sets and the grammar of what is left."""

from __future__ import annotations

import pytest

from safegen.generator import Generator
from safegen.guard import Guard
from safegen.reader import editing
from safegen.safeguards import SafeguardContext
from safegen.scoring import attribution


@pytest.fixture
def context(generator: Generator) -> SafeguardContext:
    assert generator.guard is not None
    return generator.guard.context


@pytest.mark.parametrize(
    ("prompt", "concept", "cause"),
    [
        ("a cat and a kitchen knife", "violence", "knife"),
        ("a man stabbed in an alley", "violence", "stabbed"),
        ("a skull on a shelf", "shocking", "skull"),
    ],
)
def test_the_harmful_word_is_the_cause(
    generator: Generator, context: SafeguardContext, prompt: str, concept: str, cause: str
) -> None:
    (sheet,) = generator.score([prompt], "flagged")
    assert concept in sheet.flagged_concepts()
    assert max(sheet.words, key=lambda w: w.causes[concept]).text == cause
    found = attribution.trigger_words(sheet, concept, context.scorer, context.family.encode_words)
    assert found.clears
    assert cause in [sheet.words[i].text for i in found.words]


def test_a_harmful_word_said_twice_goes_twice(generator: Generator, context: SafeguardContext) -> None:
    (sheet,) = generator.score(["a dagger and a cat, a dagger and a dog"], "flagged")
    found = attribution.trigger_words(sheet, "violence", context.scorer, context.family.encode_words)
    assert [sheet.words[i].text for i in found.words] == ["dagger", "dagger"]
    assert found.clears


def test_of_several_harmful_words_all_go(generator: Generator, context: SafeguardContext) -> None:
    (sheet,) = generator.score(["a skull, a skeleton and a knife beside a cat"], "flagged")
    for concept in sheet.flagged_concepts():
        found = attribution.trigger_words(sheet, concept, context.scorer, context.family.encode_words)
        assert found.clears
        rest = editing.without(sheet.prompt, [sheet.words[i].span for i in found.words])
        repaired = context.family.encode_words([rest])
        assert bool(context.scorer.below(repaired, attribution.CLEARED)[0, context.scorer.names.index(concept)])
        assert "cat" in rest


def test_causes_are_given_for_what_was_asked(generator: Generator) -> None:
    prompt = "a cat and a kitchen knife"
    assert all(not w.causes for w in generator.score([prompt])[0].words)
    (sheet,) = generator.score([prompt], "flagged")
    assert set(sheet.words[0].causes) == set(sheet.flagged_concepts()) >= {"violence"}
    assert len(generator.score(["a cat"], "all")[0].words[0].causes) == 7


def test_encoding_without_pads_changes_no_classifier(context: SafeguardContext) -> None:
    """Causes are found on shorter batches, so the classifier must not depend on pads."""
    prompts = ["a cat and a kitchen knife", "a dog"]
    padded, bare = context.family.encode(prompts), context.family.encode_words(prompts)
    assert bare.channels["text"].states.shape[1] < padded.channels["text"].states.shape[1]
    assert context.scorer.margins(bare).numpy() == pytest.approx(context.scorer.margins(padded).numpy(), abs=1e-3)


@pytest.mark.parametrize(
    ("left", "tidied"),
    [
        ("a cat and a", "a cat"),
        ("a and a dog", "a dog"),
        ("a cat and a kitchen", "a cat and a kitchen"),
        ("a next to a banana", "a banana"),
        ("a cat, , a dog,", "a cat, a dog"),
        ("a man in the", "a man"),
        ("a feather and a cat, a and a dog", "a feather and a cat, a dog"),
        ("an man with a", "a man"),
        ("a apple", "an apple"),
        ("", ""),
    ],
)
def test_what_is_left_is_tidied(left: str, tidied: str) -> None:
    assert editing.tidy(left) == tidied


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("a cafe\u0301 and a dog", "cafe"),
        ("a z\u0304u\u0323\u0302 and a dog", "z\u0304u"),
        ("a \u2764\ufe0f and a dog", "\u2764"),
    ],
)
def test_marks_go_with_their_letters(prompt: str, word: str) -> None:
    start = prompt.index(word)
    assert editing.without(prompt, [(start, start + len(word))]) == "a and a dog"


def test_words_with_an_apostrophe_are_one(generator: Generator) -> None:
    (sheet,) = generator.score(["an assassin's blade isn't a 'toy'"])
    assert [w.text for w in sheet.words][:4] == ["an", "assassin's", "blade", "isn't"]


def test_a_word_scores_the_same_beside_other_concepts(generator: Generator) -> None:
    """All categories on at once hurt none of them."""
    prompt = "a cat and a kitchen knife"
    alone = Guard("violence").bind(generator.family)
    (few,), (all_,) = alone.score(generator.family.encode([prompt])), generator.score([prompt])
    for one, other in zip(few.words, all_.words, strict=True):
        assert one.scores["violence"] == pytest.approx(other.scores["violence"], abs=1e-4)
    assert few.concepts["violence"].z == pytest.approx(all_.concepts["violence"].z, abs=1e-4)
