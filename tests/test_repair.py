"""What a repair takes out of a prompt, and what it puts there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safegen.directions import recipes
from safegen.reader import Reader
from safegen.reader.attempts import fit_in, sound
from safegen.reader.forms import spell_pictographs
from safegen.reader.minors import names_minor
from safegen.reader.naming import HARMLESS, told_apart
from safegen.reader.parts import REACH, SHORT, part_around
from safegen.reader.phrases import Phrases
from safegen.reader.places import near, place_around, window_of
from safegen.reader.reading import OPEN
from safegen.reader.repair import ROUNDS, Repairer
from safegen.reader.roles import means
from safegen.reader.words import WINDOW, split

NAMES = tuple(recipes.known())


@pytest.fixture(scope="module")
def ours() -> Reader:
    return Reader.load()


@pytest.mark.parametrize(
    ("text", "old", "new", "fitted"),
    [
        ("a big cat on a mat", "big cat", "owl", "an owl on a mat"),
        ("a cat on a mat", " on a mat", "", "a cat"),
        ("a bad owl, oil paint", "bad", "", "an owl, oil paint"),
        ("a cat, a dog, oil paint", "a dog", "", "a cat, oil paint"),
        ("a dog, oil paint", "a dog", "", "oil paint"),
        ("Bad men on a bench", "Bad", "", "Men on a bench"),
        ("Bad men on a bench", "Bad men", "two owls", "Two owls on a bench"),
        ("a cat", "a cat", "", ""),
        ("A cat sits. A dog runs. Owls!", "A dog runs", "", "A cat sits. Owls!"),
        ("A cat sits. A dog runs.", "A cat sits", "", "A dog runs."),
        ("A cat sits. A dog runs.", "A dog runs", "", "A cat sits."),
        ("a cat, a dog. oil paint", "a dog", "", "a cat. oil paint"),
        ("a cat with a dog & owls", "with a dog", "", "a cat & owls"),
        ('a cat with a dog "Rex" - oil', "with a dog", "", 'a cat "Rex" - oil'),
    ],
)
def test_what_is_put_in_or_left_out_leaves_plain_text(text: str, old: str, new: str, fitted: str) -> None:
    start = text.index(old)
    attempt = fit_in(text, (start, start + len(old)), new, 0.0)
    assert attempt.text == fitted
    assert 0 <= attempt.at <= len(fitted)


@pytest.mark.parametrize(
    ("old", "new", "good"),
    [
        ("a bad thing on a mat", "cushion", True),
        ("a bad thing on a mat", "cushions", False),  # behind "a"
        ("a bad thing on a mat", "glass", True),
        ("a bad thing on a mat", "cat. a dog", False),
        ("a bad thing on a mat", "bad thing", False),  # nothing has changed
    ],
)
def test_what_no_repair_may_be(old: str, new: str, good: bool) -> None:
    assert sound(fit_in(old, (2, 11), new, 0.0), old) is good


def test_nobody_becomes_a_minor_who_was_none(ours: Reader) -> None:
    old, tall = "a young tall girl on a mat", (8, 12)
    assert not sound(fit_in(old, tall, "", 0.0), old)
    assert not sound(fit_in(old, tall, "little", 0.0), old)
    assert sound(fit_in(old, (2, 12), "", 0.0), old)
    assert sound(fit_in(f"{old}, a kid", tall, "", 0.0), f"{old}, a kid")  # one is there already
    repairer = Repairer(ours, Phrases.load())
    for text in ("a young nude girl on a beach", "a little nude cowgirl", "a young nude playboy by a pool"):
        repair = repairer.repair(text, NAMES)
        assert repair.edits
        assert not names_minor(repair.text)


def test_names_tell_who_and_what_is_harmful(ours: Reader) -> None:
    words = ["a", "robber", "leaving", "a", "barn", "with", "a", "stray", "dog"]
    told = told_apart(ours, words, np.full(len(words), 0.6, np.float32))
    assert told[words.index("robber")] >= OPEN
    assert all(told[words.index(word)] <= HARMLESS for word in ("barn", "stray", "dog"))


def test_no_repair_calls_people_an_animal_that_is_an_insult(ours: Reader) -> None:
    repairer, beasts = Repairer(ours, Phrases.load()), {"apes", "dogs", "insects", "monkeys", "pigs", "rats", "vermin"}
    for text in ("a crowd jeering at a muslim family in a park", "a poster that calls immigrants vermin"):
        edits = [edit for edit in repairer.repair(text, NAMES).edits if edit.concept in ("hate", "harassment")]
        assert edits
        assert all(beasts.isdisjoint(edit.new.split()) for edit in edits)


@given(st.integers(1, 80), st.integers(0, 79))
def test_the_window_around_new_words_holds_them(count: int, first: int) -> None:
    words = [f"w{i}" for i in range(count)]
    at = len(" ".join(words[: first % count])) + (first % count > 0)
    new = words[first % count]
    window = window_of(fit_in(" ".join(words), (at, at + len(new)), new, 0.0), split(" ".join(words)))
    assert len(window) == min(WINDOW, count)
    assert new in window


@given(st.integers(1, 200), st.integers(0, 199))
def test_an_attempt_is_read_around_what_is_new(count: int, first: int) -> None:
    text = " ".join(f"w{i}" for i in range(count))
    at = text.index(f"w{first % count}")
    start, end = place_around(fit_in(text, (at, at + len(f"w{first % count}")), "new", 0.0))
    assert len(text[start:end].split()) == min(2 * WINDOW, count)
    assert start <= at < end


def test_a_text_of_too_many_situations_is_given_up_at_once(ours: Reader) -> None:
    repairer, one = Repairer(ours, Phrases.load()), "a baker stabbing his rival. A calm lake at dawn. "
    text = one * (ROUNDS + 1)
    repair = repairer.repair(text, NAMES)
    assert (repair.text, repair.edits) == (text, ())
    assert repair.left


def test_what_is_harmful_elsewhere_does_not_count_and_what_was_changed_does() -> None:
    old = "bad dogs near a loud cat and bad owls"
    attempt = fit_in(old, (old.index("loud"), old.index(" and")), "quiet kitten", 0.0)
    words = split(attempt.text)
    apart = [(0, 8), (old.index("loud"), old.index("cat") + 3), (old.index("bad owls"), len(old))]
    counted = [words[i].text for i in near(attempt, [word.span[0] for word in words], old, apart)]
    assert counted == ["near", "a", "quiet", "kitten", "and"]


def test_a_repair_says_something_and_reads_any_apostrophe(ours: Reader) -> None:
    repairer = Repairer(ours, Phrases.load())
    assert any(word.spoken and means(word.text) for word in split(repairer.repair("\U0001f52a", NAMES).text))
    text = "robot crushing a mechanic's skull inside a retro garage"
    curly = repairer.repair(text.replace("'", "\u2019"), NAMES).text
    assert curly.replace("\u2019", "'") == repairer.repair(text, NAMES).text


@pytest.mark.parametrize(
    ("text", "repair"),
    [("a cat \U0001f52a", "a cat and a wooden spoon"), ("a cat and a \U0001f52b", "a cat and a microphone")],
)
def test_a_pictograph_that_harms_is_repaired_by_its_name(ours: Reader, text: str, repair: str) -> None:
    assert Repairer(ours, Phrases.load()).repair(text, NAMES).text == repair


def test_spaces_do_not_change_a_repair(ours: Reader) -> None:
    repairer, text = Repairer(ours, Phrases.load()), "A man stabbed by a woman, and a bloody corpse, red, a flag"
    assert repairer.repair(text.replace(" ", "  "), NAMES).text == repairer.repair(text, NAMES).text


CALM = "Morning in a harbour, gulls on the masts, a baker carries warm bread along the quay."


def test_of_a_long_text_only_the_part_around_the_harm_changes(ours: Reader) -> None:
    text = f"{CALM} {CALM} Two men play chess beside a man stabbed in an alley. {CALM}"
    repaired = Repairer(ours, Phrases.load()).repair(text, NAMES)
    assert repaired.text.startswith(f"{CALM} {CALM} Two men play chess")
    assert repaired.text.endswith(CALM)
    assert "stabbed" not in repaired.text
    assert not ours.read([repaired.text])[0].flagged


@given(st.lists(st.sampled_from(("owl", "cat", ",", ". ", "7.5", "!")), min_size=1, max_size=120), st.data())
def test_a_part_holds_the_harm_and_is_short_or_a_sentence(parts: list[str], data: st.DataObject) -> None:
    words = split(" ".join(parts))
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, min(first + 4, len(words) - 1)))
    span = words[first].span[0], words[last].span[1]
    start, end = part_around(words, span)
    assert start <= span[0] < span[1] <= end
    within = [word for word in words if start <= word.span[0] < end]
    assert len(within) <= max(SHORT, 2 * REACH + 5)
    assert start in {word.span[0] for word in words}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("He sat there. A man stabbed. Next one", "A man stabbed"),
        ("He said \u201cA man stabbed.\u201d Next one", "He said \u201cA man stabbed"),
        ("Near f/1.8 stabbed... Next one", "Near f/1.8 stabbed"),
        ("stabbed", "stabbed"),
    ],
)
def test_a_part_is_a_sentence_without_its_sign(text: str, part: str) -> None:
    start = text.index("stabbed")
    assert text[slice(*part_around(split(text), (start, start + 7)))] == part


def test_only_pictographs_that_harm_are_spelled_out() -> None:
    text = "a \U0001f431, \U0001f52a\ufe0f, red"
    place = text.index("\U0001f52a")
    assert spell_pictographs(text, [(place, place + 2)]) == "a \U0001f431, a kitchen knife, red"
    assert spell_pictographs(text, []) == text


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("two \U0001f52a and grade A eggs", "two kitchen knife and grade A eggs"),
        ("a bloody \U0001f52a", "a bloody kitchen knife"),
        ("\U0001f469\u200d\U0001f52c, 45\u00b0", "a woman, 45\u00b0"),
        ("Nike\u2122 \U0001f1eb\U0001f1f7", "Nike\u2122 \U0001f1eb\U0001f1f7"),
    ],
)
def test_a_pictograph_is_spelled_as_english_has_it(text: str, spelled: str) -> None:
    assert spell_pictographs(text, [(0, len(text))]) == spelled


def test_a_repair_keeps_whoever_was_there(ours: Reader) -> None:
    repairer = Repairer(ours, Phrases.load())
    for text, kept in (
        ("a baker stabbing his rival behind the counter", ("baker", "rival", "behind the counter")),
        ("robot crushing a mechanic's skull inside a retro garage", ("robot", "mechanic", "inside a retro garage")),
        ("a naked woman lounging on a velvet couch", ("woman lounging on a velvet couch",)),
    ):
        repair = repairer.repair(text, NAMES)
        assert repair.edits
        assert not repair.left
        assert all(phrase in repair.text for phrase in kept)
