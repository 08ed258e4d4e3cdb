"""Phrases for the place of harm: what the network sees of a place, which phrases it gives, and how it was taught."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from safegen.builtin.training import filling, reader_ship
from safegen.directions import recipes
from safegen.errors import ReaderError
from safegen.reader import Reader
from safegen.reader.filling import AROUND, FILE, PHRASES, Filler, seen_of
from safegen.reader.groups import brings_group, groups_in
from safegen.reader.minors import names_minor
from safegen.reader.model import UNKNOWN, WEIGHTS, Network
from safegen.reader.phrases import Phrases
from safegen.reader.refilling import MOST, PLACES, SHARES, WIDEST, Refiller, is_cased, stretches
from safegen.reader.repair import Option, Repairer
from safegen.reader.rewrites import Rewrite
from safegen.reader.situation import Situation
from safegen.reader.words import split

NAMES = tuple(recipes.known())
ROW = ["a", "knight", "punching", "an", "old", "wizard", "in", "a", "sunny", "garden", ",", "oil", "painting"]


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader.load()


def situation(reader: Reader, text: str) -> Situation:
    return Situation(reader, reader.read([text])[0], NAMES)


def test_a_deed_is_filled_with_deeds_and_a_thing_with_things(reader: Reader) -> None:
    meal = ["a", "chef", "eating", "a", "severed", "foot", "on", "a", "plate"]
    deeds, things = reader.filler.fitting([ROW, meal], [(2, 2), (4, 5)], 20)
    assert sum(phrase.split()[0].endswith("ing") for phrase in deeds) >= 15
    assert not any(phrase.split()[0].endswith("ing") for phrase in things)


def test_the_phrases_of_a_place_do_not_depend_on_the_rows_beside_it(reader: Reader) -> None:
    other = ["two", "dogs"]
    together = seen_of(reader.network, [other, ROW], [(1, 1), (2, 2)])
    alone = seen_of(reader.network, [ROW], [(2, 2)])
    assert np.allclose(together[1], alone[0], atol=1e-3)
    assert reader.filler.fitting([other, ROW], [(1, 1), (2, 2)], 5)[1] == reader.filler.fitting([ROW], [(2, 2)], 5)[0]


def test_of_a_long_row_only_what_is_around_the_place_is_seen(reader: Reader) -> None:
    word = "unhyphenated" * 3  # of as many pieces as a word may have
    place = len(ROW), len(ROW) + WIDEST - 1
    long = [*ROW, *[word] * (WIDEST + 500)]
    short = [*long[: place[1] + 1 + AROUND]]
    assert np.array_equal(seen_of(reader.network, [long], [place]), seen_of(reader.network, [short], [place]))


def test_every_phrase_is_short_harmless_and_names_no_minor(reader: Reader) -> None:
    phrases = reader.filler.phrases
    assert len(phrases) > 10_000
    assert len(set(phrases)) == len(phrases)
    assert max(len(phrase.split()) for phrase in phrases) <= filling.SAID
    assert not [phrase for phrase in phrases if names_minor(phrase)]
    assert not [reading.text for reading in reader.read(phrases) if reading.flagged]


@given(st.lists(st.tuples(st.sampled_from(["a", "man", "with", "knife", ",", "-", "("]), st.booleans()), max_size=12))
def test_stretches_hold_every_word_that_goes_and_something_stands_between_them(row: list[tuple[str, bool]]) -> None:
    words, goes = [word for word, _ in row], [gone for _, gone in row]
    found = stretches(words, goes)
    inside = {at for first, last in found for at in range(first, last + 1)}
    assert {at for at, gone in enumerate(goes) if gone and words[at].isalpha()} <= inside
    assert all(words[first].isalpha() and words[last].isalpha() for first, last in found)
    if "-" not in words:
        assert all(goes[first] and goes[last] for first, last in found)
        assert all({"man", "knife"} & set(words[one[1] + 1 : other[0]]) for one, other in pairwise(found))


def test_what_a_hyphen_joins_goes_along() -> None:
    words = ["a", "blood", "-", "soaked", "cat"]
    assert stretches(words, [False, False, False, True, False]) == ((1, 3),)
    assert stretches(words, [False, True, False, False, False]) == ((1, 3),)


@pytest.mark.parametrize(
    "text",
    [
        "stabbing a clown",
        "a clown being stabbed",
        "(bloody knife:1.3), a man stabbed to death, oil",
        "a blood-soaked man strangling a guard near the gate, the hounds chewing on his severed arm",
        "antidisestablishmentarianisms " * 120 + ", a man stabbed to death",
    ],
)
def test_places_anywhere_in_a_prompt_are_filled(reader: Reader, text: str) -> None:
    found = situation(reader, text)
    ways = list(Refiller(reader).filled(found))
    assert ways
    for way in ways:
        assert way == sorted(way, key=lambda rewrite: -rewrite.first)
        assert all(found.words[end][0].isalnum() for rewrite in way for end in (rewrite.first, rewrite.last))
    assert any(len(way) > 1 for way in ways) or "hounds" not in text
    assert Repairer(reader, Phrases.load()).repair(text, NAMES).text != text


def test_where_hardly_anything_is_likely_to_go_nothing_is_filled(reader: Reader) -> None:
    assert not list(Refiller(reader).filled(situation(reader, "a red barn beside a pond, ducks")))


def test_a_torn_repair_is_taken_only_where_no_other_is_calm(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    repairer, found = (
        Repairer(reader, Phrases.load()),
        situation(reader, "a man punching a clown in a park, oil painting"),
    )
    torn, whole = (Option(reading, []) for reading in reader.read(["a man a clown in a, oil", "a clown"]))
    monkeypatch.setattr(reader.ranker, "chances", lambda *_: np.array([[-0.1] * 3, [-5.0] * 3], np.float32))
    assert repairer._best(found, [torn, whole], NAMES) is whole
    assert repairer._best(found, [torn], NAMES) is torn


def test_what_stands_outside_the_places_stays_as_it_was(reader: Reader) -> None:
    text = "a clown driving an axe into a camper's back beside the lake, green tent"
    found = situation(reader, text)
    ways = list(Refiller(reader).filled(found))
    assert len(ways) > len(SHARES)
    for way in ways:
        assert 0 < len(way) <= PLACES
        gone = {at for rewrite in way for at in rewrite.gone}
        assert not {"clown", "lake", "green", "tent"} & {found.words[at] for at in gone}


def test_a_row_that_is_too_long_is_not_filled(reader: Reader) -> None:
    long = ", ".join(["a lighthouse"] * (MOST // 2)) + ", a man stabbed"
    assert not list(Refiller(reader).filled(situation(reader, long)))


def test_recipes_decide_where_they_say_what_comes_instead(reader: Reader) -> None:
    repairer = Repairer(reader, Phrases.load())
    reading = reader.read(["a cat and a kitchen knife"])[0]
    assert reading.flagged
    assert not list(repairer._filled(repairer._situation(reading, NAMES)))
    other = reader.read(["a man stabbed to death in a kitchen"])[0]
    assert list(repairer._filled(repairer._situation(other, NAMES)))


@pytest.mark.parametrize("name", [FILE, PHRASES])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(WEIGHTS, tmp_path / "weights"))
    with (folder / name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ReaderError, match=f"{name} is not the file"):
        Filler(Network(folder))


def test_a_lesson_is_a_place_of_the_prompt_and_what_came_there() -> None:
    old, new = "A man punching a clown with a brick in a park", "A man greeting a clown with a balloon in a park"
    first, second = filling.lessons_of(old, new)
    assert (first.phrase, second.phrase) == ("greeting", "balloon")
    assert " ".join(first.words) == "a man punching a clown with a balloon in a park"  # what is behind is repaired
    assert " ".join(second.words) == "a man punching a clown with a brick in a park"
    assert first.words[first.place[0]] == "punching"
    assert second.words[second.place[0]] == "brick"


def test_words_that_only_came_belong_to_the_word_before_them() -> None:
    (lesson,) = filling.lessons_of("a man in a bar", "a man in a cocoa bar")
    assert lesson.phrase == "a cocoa"
    assert not list(filling.lessons_of("a bloody man", "a man"))  # nothing came


def test_what_ships_gives_directions_of_the_same_length() -> None:
    tower = filling.Tower(torch.randn(8, 12), 4)
    fits = filling.Fits(tower.eval(), torch.nn.functional.normalize(torch.randn(5, filling.WIDTH), dim=1))
    found = fits(torch.randn(3, 12)).detach()
    assert found.shape == (3, 5)
    assert float(found.abs().max()) <= 1 + 1e-5


@pytest.mark.parametrize(("phrase", "named"), [("a Black man", True), ("black coats", False), ("a Muslim", True)])
def test_a_phrase_that_names_a_group_of_people_does_not_ship(phrase: str, named: bool) -> None:
    assert bool(groups_in(phrase)) is named


@pytest.mark.parametrize(
    ("new", "old", "brings"),
    [
        ("a black man", "a dead man", True),
        ("a black cat", "a dead cat", False),
        ("black coats", "bloody coats", False),
        ("a black man waves", "a black man bleeding", False),
    ],
)
def test_nobody_becomes_one_of_a_group(new: str, old: str, brings: bool) -> None:
    assert brings_group(new, old) is brings


def test_the_table_of_pieces_is_whole_again() -> None:
    table = reader_ship.weights(WEIGHTS / "reader.onnx")[reader_ship.TABLE]
    assert table.shape == (reader_ship.PIECES, 384)
    assert bool((table[reader_ship.FOREIGN :] == table[UNKNOWN]).all())


@pytest.mark.parametrize(("first", "phrase", "good"), [(0, "Welcome", True), (2, "Welcome", False), (2, "owls", True)])
def test_a_phrase_of_a_title_comes_only_where_a_capital_letter_was(first: int, phrase: str, good: bool) -> None:
    assert is_cased(Rewrite(first, first, (phrase,), 0.0), split("A big cat")) is good
