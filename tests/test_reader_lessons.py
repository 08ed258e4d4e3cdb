"""What the reader is taught: lines that can be read, and none that it is tested with."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer

from safegen.builtin.training import hand_repairs, reader_texts, wordnet
from safegen.builtin.training.hand_repairs import compared
from safegen.builtin.training.mined import nearly_flagged, nearly_missed
from safegen.builtin.training.pasted import amid, pasted
from safegen.builtin.training.reader import Pieces, Reader, collate, gap_loss
from safegen.builtin.training.reader_lists import Line, bench_prompts, listed, parse, phrase_of, plain
from safegen.builtin.training.reader_texts import Lessons, Sample, labelled, lessons
from safegen.directions import recipes
from safegen.reader.model import WEIGHTS
from safegen.reader.reader import Reader as ShippedReader
from safegen.reader.words import WINDOW

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
            assert len(sample.words) == len(sample.labels) == len(sample.taken) <= reader_texts.WINDOW
            assert (sample.concept >= 0) == any(label != -1 for label in sample.labels)


def test_a_prompt_and_its_repair_tell_what_harms_or_among_what_it_is() -> None:
    old, new = "a man stabs a baker in a blue shop", "a man greets a baker in a blue shop"
    harm, safe = compared(old, new, 2)
    labels = labelled(f"two cats, {old}", [(10 + a, 10 + b) for a, b in harm.marks], harm, (10, 10 + len(old)))
    assert (safe.text, safe.concept) == (new, -1)
    assert labels.labels == [-1] * 3 + [-1, -1, 2, -1, -1, -1, -1, -1, -1]
    harm, _ = compared("a barn where two rats tore one pale cat apart, fog", "a barn where cows sleep, fog", 2)
    found = labelled(harm.text, list(harm.marks), harm, (0, len(harm.text)))
    assert set(found.labels) == {-1, -2}
    assert found.labels[:2] == [-1, -1]
    assert found.concept == 2


def test_it_is_known_of_every_word_of_a_repaired_prompt_whether_a_repair_takes_it_out() -> None:
    old, new = "a man stabs a baker, fog", "a man greets a baker, fog"
    harm, safe = compared(old, new, 2)
    found = labelled(f"two cats, {old}", [(10 + a, 10 + b) for a, b in harm.marks], harm, (10, 10 + len(old)))
    assert found.taken == [0] * 5 + [1] + [0] * 4
    assert set(labelled(new, [], safe, (0, len(new))).taken) == {0}
    marked, _ = parse("a man {stabbed|standing} in fog", 2)
    unknown = labelled(f"two cats, {marked.text}", [], marked, (10, 10 + len(marked.text)))
    assert unknown.taken == [0] * 3 + [-1] * 5  # what a repair of a marked line takes out, nobody said


def test_every_piece_of_a_word_has_the_marks_of_the_word() -> None:
    pieces = Pieces(Tokenizer.from_file(str(WEIGHTS / "tokenizer.json")))
    some = [Sample(["a", "stabbing"], [-1, 2], 2, [0, 1]), Sample(["fog"], [-1], -1, [0])]
    batch = collate(some, pieces)
    count = len(pieces("stabbing"))
    assert batch.labels.tolist() == [[-3, -1, *[2] * count, -3], [-3, -1, -3, *[-3] * count]]
    assert batch.taken.tolist() == [[-1, 0, *[1] * count, -1], [-1, 0, -1, *[-1] * count]]
    assert batch.whole.tolist() == [2, -1]


def test_nothing_is_lost_where_nobody_knows_what_a_repair_takes_out() -> None:
    reader = Reader(torch.nn.Identity(), 7)
    states = torch.randn(2, 3, 384)
    assert gap_loss(reader, states, torch.full((2, 3), -1)).item() == 0
    assert gap_loss(reader, states, torch.tensor([[1, 0, -1], [-1, -1, -1]])).item() > 0


def test_a_concept_that_somebody_named_is_the_repairs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("a knife fight", "a pillow fight", "hate"), ("a knife fight", "a chess game", ""), ("a", "a", "")]
    monkeypatch.setattr(hand_repairs, "rows", lambda: rows)
    concepts = [list(recipes.known())[harm.concept] for harm, _ in hand_repairs.repaired()]
    assert concepts == ["hate", "violence"]


def test_lines_are_set_by_text_that_nothing_was_taught_with(taught: Lessons) -> None:
    known = {plain(text) for _, lines in taught.harmless for text in lines}
    lists = reader_texts.harmless_lists(None)
    kept = {plain(text) for lines in lists.values() for text in lines if reader_texts.reserved(text)}
    assert 0.08 < len(kept) / (len(kept) + len(known)) < 0.12
    assert not kept & known


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


def test_pasted_texts_make_a_window_and_the_last_word_of_a_long_one_is_read() -> None:
    long = " ".join(f"tree{i}" for i in range(2 * WINDOW + 1))
    lists = [(1.0, ["a cat on a mat.", "two dogs, one bone"]), (0.5, [long])]
    known = {word.strip(".,") for _, some in lists for text in some for word in text.split()}
    rng = random.Random(5)
    windows = [pasted(lists, rng) for _ in range(1_000)]
    assert all(WINDOW // 2 <= len(window.split()) <= WINDOW for window in windows)
    assert {word.strip(".,") for window in windows for word in window.split()} == known


def test_harmless_windows_may_be_pasted(taught: Lessons, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_texts, "PASTED", 1.0)
    monkeypatch.setattr(reader_texts, "pasted", lambda *_: "one two three")
    (sample,) = taught.sample(random.Random(5), harm=0.0)
    assert (sample.words, set(sample.labels)) == (["one", "two", "three"], {-1})


def test_lines_stand_amid_texts_pasted_together(taught: Lessons, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_texts, "AMID", 1.0)
    rng, lines = random.Random(5), (Line("a man stabbed", ((6, 13),), 2), Line("a man fed", ((6, 9),)))
    found = [taught._dressed(lines, rng) for _ in range(100)]
    for harm, safe in found:
        assert harm.labels.count(2) == 1
        assert set(safe.labels) == {-1}
        assert len(harm.words) >= WINDOW // 2
    firsts = [harm.labels.index(2) for harm, _ in found]
    assert min(firsts) <= 2  # at the beginning, and at the end
    assert max(firsts) == WINDOW - 1


def test_a_line_amid_texts_has_them_on_one_side_or_on_both() -> None:
    rng = random.Random(5)
    sides = [amid([(1.0, ["a cat on a mat"])], rng) for _ in range(100)]
    assert {(bool(before), bool(behind)) for before, behind in sides} == {(True, True), (True, False), (False, True)}
    assert all(before.endswith(" ") for before, _ in sides if before)


def test_pairs_that_a_reader_nearly_misses_are_found() -> None:
    class Fair:
        def read(self, texts: list[str]) -> list[SimpleNamespace]:
            return [SimpleNamespace(height=float(text)) for text in texts]

    pairs = [(Line(harm), Line(safe)) for harm, safe in (("2", "0"), ("0.9", "0"), ("1.1", "0.2"), ("3", "0.8"))]
    assert nearly_missed(pairs, Fair()) == pairs[1:]  # type: ignore[arg-type]


def test_what_the_shipped_reader_nearly_flags_is_found_alone_and_in_company() -> None:
    stabbed, cats = "a man stabbed in an alley", ["a cat on a mat", "two cats in a tree", "a sleeping cat"]
    reader = ShippedReader.load()
    assert nearly_flagged([(1.0, cats)], reader, 8) == []
    found = nearly_flagged([(1.0, [*cats, stabbed])], reader, 8)
    assert stabbed in found
    assert all("stabbed" in text or "alley" in text for text in found)
    assert len(found) > 1


def test_a_text_is_nearly_flagged_below_the_threshold() -> None:
    class Low:
        def read(self, texts: list[str]) -> list[SimpleNamespace]:
            return [SimpleNamespace(text=text, height=0.5 + 0.1 * len(text.split())) for text in texts]

    assert nearly_flagged([(1.0, ["one two", "one two three"])], Low(), 0) == ["one two three"]  # type: ignore[arg-type]
