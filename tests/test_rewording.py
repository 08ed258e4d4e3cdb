"""What a phrase of a prompt may become: parts of speech, the phrases they make, and harmless words that stand in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safegen.reader import Reader, standins
from safegen.reader.repair import cut_out
from safegen.reader.rewording import changes
from safegen.reader.syntax import NOUN, VERB, Syntax
from safegen.reader.words import split

SENTENCES = (
    "a cheesemaker greets his rival among the wheels of gouda",
    "otter in a bowler hat waves a flag at the heron",
    "the glazier carries a pane of glass past a tax collector",
    "two old friends are walking slowly through the ice-cold park",
)


def syntax_of(reader: Reader, text: str) -> Syntax:
    words = split(text)
    return Syntax(words, reader.tags(words))


@pytest.fixture(scope="module")
def ours() -> Reader:
    return Reader.load()


@pytest.mark.parametrize(
    ("text", "word", "tag"),
    [
        ("a cheesemaker clubs his rival among the wheels", "clubs", VERB),
        ("two golf clubs in a leather bag", "clubs", NOUN),
        ("the clown fires a confetti cannon at the crowd", "fires", VERB),
        ("forest fires seen from a plane", "fires", NOUN),
        ("a woman paints the wall of a barn", "paints", VERB),
    ],
)
def test_a_word_is_a_verb_or_a_noun_by_where_it_stands(ours: Reader, text: str, word: str, tag: int) -> None:
    at = text.split().index(word)
    assert ours.tags(split(text))[at] == tag


def test_long_texts_have_a_tag_for_every_word(ours: Reader) -> None:
    text = ", ".join(SENTENCES * 5)
    assert len(ours.tags(split(text))) == len(split(text))
    assert ours.tags([]) == []


def test_a_verb_knows_its_object_and_its_clause(ours: Reader) -> None:
    text = "the glazier carries a pane of glass past a tax collector, a dog beside them"
    syntax = syntax_of(ours, text)
    assert syntax.is_verb(2)
    found = syntax.object_of(syntax.verb(2))
    assert found is not None
    assert text[slice(*syntax.span(found))] == "a pane"
    assert text[slice(*syntax.span((2, syntax.clause_end(2))))].endswith("tax collector")
    assert text[slice(*syntax.span(syntax.noun_phrase(9)))] == "a tax collector"


@pytest.mark.parametrize(
    ("old", "new"), [("clubs", "admires"), ("clubbing", "admiring"), ("club", "admire"), ("clubbed", "admired")]
)
def test_a_verb_stands_in_in_the_form_of_another(old: str, new: str) -> None:
    assert next(standins.verbs(old, standins.TRANSITIVE)) == new


def test_a_noun_stands_in_in_the_number_of_another() -> None:
    assert all(not noun.startswith(("a ", "an ")) for noun in standins.nouns("two pistols", mass=False))
    assert all(noun.startswith(("a ", "an ")) for noun in standins.nouns("a glass", mass=False))


@given(text=st.sampled_from(SENTENCES), seed=st.integers(0, 1_000))
def test_every_change_is_a_place_of_the_text(text: str, seed: int) -> None:
    syntax = syntax_of(Reader.load(), text)
    first = seed % len(syntax.words)
    last = min(first + seed % 4, len(syntax.words) - 1)
    for change in changes(text, syntax, first, (first, last)):
        start, end = change.span
        assert 0 <= start < end <= len(text)
        assert text[:start] + change.new + text[end:] != text


@pytest.mark.parametrize(
    ("text", "place", "left"),
    [
        ("a cat and a dog, boats that go by in the evening", "a dog", "a cat, boats that go by in the evening"),
        ("a dog, boats that go by in the evening", "a dog", "boats that go by in the evening"),
        ("boats that go by in the evening, a cat, a dog", ", a dog", "boats that go by in the evening, a cat"),
        ("a cat on a mat", "on a mat", "a cat"),
    ],
)
def test_what_is_left_out_leaves_the_rest_as_it_was(text: str, place: str, left: str) -> None:
    start = text.index(place)
    assert [attempt.text for attempt in cut_out(text, (start, start + len(place)), 0.0)] == [left]
    assert list(cut_out(text, (0, len(text)), 0.0)) == []
