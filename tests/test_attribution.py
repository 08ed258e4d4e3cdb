"""Causes, minimal sets and the grammar of what is left."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safegen.conditioning import Conditioning
from safegen.generator import Generator
from safegen.guard import Guard
from safegen.reader import editing
from safegen.safeguards import SafeguardContext
from safegen.scoring import attribution
from safegen.scoring.attribution import TriggerWords
from safegen.scoring.scorer import Scorer
from tests.helpers import handmade
from tests.helpers.handmade import direction


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
        *(
            (right, right)
            for right in (
                "an SUV",
                "an x-ray",
                "a European city",
                "a one-way street",
                "a ewe",
                "an hour",
                "grade A eggs",
            )
        ),
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


@pytest.mark.parametrize("spans", [[(0, 8), (2, 8)], [(2, 8), (0, 8), (0, 8)], [(0, 5), (4, 8)]])
def test_spans_that_overlap_take_nothing_else(spans: list[tuple[int, int]]) -> None:
    assert editing.without("a pistol and a tractor", spans) == "and a tractor"


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


# On a scorer and an encoder made by hand: what each word means is known, and so is what has to go.

MEANINGS = {"knife": (3.0, 0.0), "gun": (2.5, 0.0), "axe": (3.0, 0.0), "skull": (0.0, 4.0), "calm": (-1.0, 0.0)}
MANY = ("knife", "dagger", "sword", "pistol", "rifle", "bomb", "grenade")
ABOUT = Scorer({"text": [direction("violence"), direction("shocking", (0.0, 1.0))]})


def added_up(prompts: Sequence[str]) -> Conditioning:
    """An encoder to which a prompt is as harmful as its words together."""
    return handmade.encode(prompts, {**dict.fromkeys(MANY, (3.0, 0.0)), **MEANINGS})


def at_its_worst(prompts: Sequence[str]) -> Conditioning:
    """An encoder to which a prompt is as harmful as its worst word, and but a little more for all of them."""
    return handmade.encode(prompts, MEANINGS, lambda words: words.amax(0) + 0.1 * words.sum(0))


def found(prompt: str, encode: attribution.Encode, concept: str = "violence") -> tuple[list[str], bool]:
    (sheet,) = ABOUT.score(encode([prompt]))
    trigger = attribution.trigger_words(sheet, concept, ABOUT, encode)
    assert trigger.concept == concept
    return [sheet.words[i].text for i in trigger.words], trigger.clears


def test_a_cause_is_what_the_word_adds() -> None:
    (sheet,) = ABOUT.score(added_up(["a calm knife , a skull"]))
    both = attribution.with_causes(sheet, ["shocking", "violence"], ABOUT, added_up)
    causes = {word.text: (word.causes["violence"], word.causes["shocking"]) for word in both.words}
    expected = {"a": (0, 0), "calm": (-1, 0), "knife": (3, 0), ",": (0, 0), "skull": (0, 4)}
    assert causes == {text: pytest.approx(values, abs=1e-4) for text, values in expected.items()}


def test_causes_come_beside_those_that_are_known() -> None:
    (sheet,) = ABOUT.score(added_up(["a knife"]))
    assert attribution.with_causes(sheet, [], ABOUT, added_up) is sheet
    first = attribution.with_causes(sheet, ["violence"], ABOUT, added_up)
    assert [set(word.causes) for word in first.words] == [{"violence"}] * 2
    second = attribution.with_causes(first, ["shocking"], ABOUT, added_up)
    assert [set(word.causes) for word in second.words] == [{"violence", "shocking"}] * 2
    assert [w.causes["violence"] for w in second.words] == [w.causes["violence"] for w in first.words]


def test_a_prompt_without_words_has_no_cause() -> None:
    (sheet,) = ABOUT.score(added_up([""]))
    assert attribution.with_causes(sheet, ["violence"], ABOUT, added_up) is sheet
    assert attribution.trigger_words(sheet, "violence", ABOUT, added_up) == TriggerWords("violence", (), False)


@pytest.mark.parametrize(
    ("prompt", "concept", "words"),
    [
        ("a cat and a knife", "violence", ["knife"]),
        ("a skull and a knife", "shocking", ["skull"]),
        ("a gun and a knife", "violence", ["gun", "knife"]),  # in reading order, though the knife is the worse
        ("a knife , a Knife , a cat", "violence", ["knife", "Knife"]),  # the capital means nothing here, yet goes along
        ("a knife and a knife", "violence", ["knife", "knife"]),
        ("an axe and an axe", "violence", ["axe", "axe"]),  # short words go one by one
        ("a knife , a sword and a bomb", "violence", ["knife", "sword", "bomb"]),
    ],
)
def test_the_fewest_words_that_clear_the_classifier_go(prompt: str, concept: str, words: list[str]) -> None:
    assert found(prompt, added_up, concept) == (words, True)


def test_words_that_hide_each_other_are_found_one_by_one() -> None:
    """Without either, the other is as bad: no single word is a cause, and no set of causes clears the classifier."""
    prompt = "a knife and an axe"
    (sheet,) = ABOUT.score(at_its_worst([prompt]))
    causes = attribution.with_causes(sheet, ["violence"], ABOUT, at_its_worst)
    assert max(word.causes["violence"] for word in causes.words) < attribution.LEAST
    assert found(prompt, at_its_worst) == (["knife", "axe"], True)


def test_more_harm_than_may_go_is_told_as_such() -> None:
    words, clears = found(" ".join(MANY), added_up)
    assert not clears
    assert len(words) == attribution.MOST < len(MANY)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["a", "cat", "calm", "knife", "gun", "axe"]), min_size=1, max_size=attribution.MOST))
def test_words_that_clear_the_classifier_do_so_and_none_of_them_is_benign(words: list[str]) -> None:
    prompt = " ".join(words)
    (sheet,) = ABOUT.score(added_up([prompt]))
    trigger = attribution.trigger_words(sheet, "violence", ABOUT, added_up)
    assert list(trigger.words) == sorted(set(trigger.words))
    rest = editing.without(prompt, [sheet.words[i].span for i in trigger.words])
    assert trigger.clears <= bool(ABOUT.below(added_up([rest]), attribution.CLEARED)[0, 0])
    if sheet.flagged:
        assert trigger.clears
        assert {sheet.words[i].text for i in trigger.words} <= {"knife", "gun", "axe"}
