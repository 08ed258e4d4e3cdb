"""What the reader is taught: lines that can be read, and none that it is tested with."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from safegen.builtin.training import reader_texts, wordnet
from safegen.builtin.training.reader_grammar import Grammar
from safegen.builtin.training.reader_lists import bench_prompts, listed, parse, phrase_of, plain
from safegen.builtin.training.reader_parses import UNKNOWN, Parses, matched
from safegen.builtin.training.reader_texts import Lessons, lessons
from safegen.directions import recipes

ROOT = recipes.directions_folder()
NAMES = sorted(recipes.known())


@pytest.fixture(scope="module")
def taught() -> Lessons:
    return lessons(None)


def texts(taught: Lessons) -> Iterator[str]:
    """Yield every text that a lesson is made of, alone."""
    for pairs in taught.harmful:
        yield from (line.text for pair in pairs for line in pair)
    for _, lines in taught.harmless:
        yield from lines


def test_no_line_of_the_bench_is_a_lesson(taught: Lessons) -> None:
    known = {plain(text) for text in texts(taught)}
    assert len(bench_prompts()) > 1_000
    assert not known & bench_prompts()


@pytest.mark.parametrize("name", NAMES)
def test_every_phrase_has_its_marks_and_a_safe_half(name: str) -> None:
    path: Path = ROOT / name / "phrases.txt"
    lines = listed(path)
    assert len(lines) == len(set(lines)) > 300
    for number, line in enumerate(lines):
        harm, safe = parse(line, 0)
        assert "{" not in harm.text + safe.text, f"{path.name}: phrase {number}"
        assert harm.marks, f"{path.name}: phrase {number}"
        assert plain(harm.text) != plain(safe.text), f"{path.name}: phrase {number}"


def test_a_window_keeps_its_labels_in_any_company(taught: Lessons) -> None:
    rng = random.Random(5)
    for _ in range(300):
        for sample in taught.sample(rng):
            assert len(sample.words) == len(sample.labels) <= reader_texts.WINDOW
            assert (sample.concept >= 0) == any(label != -1 for label in sample.labels)


def test_lines_are_set_by_text_that_nothing_was_taught_with(taught: Lessons) -> None:
    known = {plain(text) for _, lines in taught.harmless for text in lines}
    lists = reader_texts.harmless_lists(None)
    kept = {plain(text) for lines in lists.values() for text in lines if reader_texts.reserved(text)}
    assert 0.08 < len(kept) / (len(kept) + len(known)) < 0.12
    assert not kept & known


def test_broken_text_is_marked_where_it_breaks(taught: Lessons) -> None:
    english, rng = Grammar(taught, Parses([])), random.Random(5)
    samples = [english.sample(rng) for _ in range(500)]
    assert all(len(s.words) == len(s.labels) <= reader_texts.WINDOW and set(s.labels) <= {0, 1} for s in samples)
    broken = [s for s in samples if any(s.labels)]
    assert 0.3 < len(broken) / len(samples) < 0.7
    # A break lies at one place: its words stand together.
    for sample in broken:
        marked = [i for i, label in enumerate(sample.labels) if label]
        assert marked == list(range(marked[0], marked[-1] + 1))


WORDNET = {
    "noun": "  1 a licence\n"
    '00000010 06 n 02 reading_lamp 0 lamp 0 000 | a lamp to read by; "the lamp stood on a desk"; "lamps"\n'
    "00000020 18 n 01 Einstein 0 000 | physicist\n"
    '00000030 06 n 01 rack 0 000 | an instrument; "not for this list"\n',
    "verb": '00000010 30 v 01 glow 0 000 01 + 01 00 | shine; "the stove glowed"\n',
    "adj": "",
    "adv": "",
}


def test_wordnet_gives_its_sentences_and_nouns_without_those_left_out(tmp_path: Path) -> None:
    for part, text in WORDNET.items():
        (tmp_path / f"data.{part}").write_text(text)
    keys = [key for key, _ in wordnet.entries(tmp_path)]
    assert keys == ["n00000010.0", "n00000010.w", "n00000030.0", "n00000030.w", "v00000010.0"]
    left_out = frozenset(key for key in keys if key.startswith("n00000030"))
    sentences, nouns = wordnet.harmless(tmp_path, left_out)
    assert sentences == ["the lamp stood on a desk", "the stove glowed"]
    assert nouns == ["a reading lamp"]


def test_a_phrase_that_takes_anothers_place_is_marked_and_harms_under_its_own_concept(taught: Lessons) -> None:
    rng = random.Random(5)
    moved = 0
    for _ in range(300):
        pair = rng.choice(rng.choice(taught.harmful))
        harm, safe = taught._swapped(pair, rng)
        moved += harm != pair[0]
        assert (harm.concept, safe.concept) == (harm.concept, -1)
        assert harm.concept >= 0
        assert not harm.marks or phrase_of(harm)
    assert moved > 100


@pytest.mark.parametrize(
    ("text", "tree", "tags"),
    [
        ("a cat chases two dogs", "(S (NP a cat.n) (VP chases.v (NP two dogs.n)))", [0, 2, 1, 0, 2]),
        ("The cat's tail is red", "(S (NP (NP the cat.n 's.p) tail.n) (VP is.v (ADJP red.a)))", [0, 2, 2, 1, 3]),
        ("a ruined mill at night", "(S (VP a ruined.v mill.n (PP at (NP night.n-u))))", [0, 3, 2, 0, 2]),
        ("burger with a tail", "(S (VP burger{?}.v (PP with (NP a tail.n))))", [UNKNOWN, 0, 0, 2]),
    ],
)
def test_a_parsers_words_are_laid_over_the_readers(text: str, tree: str, tags: list[int]) -> None:
    assert [sample.labels for sample in matched([text], iter([tree]))] == [tags]


def test_a_parse_that_leaves_a_word_out_teaches_nothing() -> None:
    assert list(matched(["switch grass a"], iter(["(S {a} switch.v (NP grass.n-u))"]))) == []
