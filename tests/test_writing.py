"""The writer of repairs: what it may say, and what it learns from."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from safegen.builtin.training import decoder, reader_ship, writing
from safegen.builtin.training import hand_repairs as by_hand
from safegen.builtin.training.reader import Pieces
from safegen.builtin.training.reader_lists import bench_prompts, plain
from safegen.builtin.training.writing_lessons import Lesson, Lessons, edited, lesson_of, usable
from safegen.errors import ReaderError
from safegen.reader import Reader
from safegen.reader.attempts import fit_in
from safegen.reader.groups import brings_group
from safegen.reader.minors import names_minor
from safegen.reader.model import WEIGHTS, Network
from safegen.reader.rewrites import Rewrite
from safegen.reader.words import split
from safegen.reader.writing import BEAM, BEGIN, CLOSE, DONE, LISTED, MEMORY, MOST, SIGNS, WRITING, Draft, Stage, Writer

HARMFUL = ["a", "knight", "punching", "an", "old", "wizard", "in", "a", "sunny", "garden", ",", "oil", "painting"]


def rewritten(text: str, ways: Sequence[Rewrite]) -> str:
    words, new = split(text), text
    for way in reversed(ways):
        place = words[way.first].span[0], words[way.last].span[1]
        new = fit_in(new, place, way.written(text, words), 0.0).text
    return new


@pytest.fixture(scope="module")
def writer() -> Writer:
    return Reader.load().writer


@pytest.fixture(scope="module")
def lessons() -> Lessons:
    return Lessons((WEIGHTS / LISTED).read_text(encoding="utf-8").splitlines())


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.sampled_from(["a", "man", "stabbed", "Owls", ",", "-", "\u2019", "bleeding"]), min_size=1, max_size=9)
)
def test_edits_are_apart_in_order_and_say_words_of_the_list_or_the_prompt(words: list[str]) -> None:
    writer = Reader.load().writer
    repairs = writer.repairs(words)
    assert 0 < len(repairs) <= BEAM
    assert len({str(repair) for repair in repairs}) == len(repairs)
    listed = set(writer.words)
    for repair in repairs:
        assert all(one.last + 1 < other.first for one, other in pairwise(repair))
        for edit in repair:
            assert 0 <= edit.first <= edit.last < len(words)
            assert all(part in listed if isinstance(part, str) else 0 <= part < len(words) for part in edit.parts)


def test_the_harm_goes_and_who_and_where_stays(writer: Writer) -> None:
    texts = [rewritten(" ".join(HARMFUL), way) for way in writer.repairs(HARMFUL)]
    assert not any("punching" in text for text in texts)
    assert sum("knight" in text and "wizard" in text for text in texts) > BEAM / 2
    assert all(text.endswith("oil painting") for text in texts)


def test_what_comes_next_does_not_depend_on_the_drafts_beside_it(writer: Writer) -> None:
    memory = writer._remember(HARMFUL)
    assert memory is not None
    both = writer._go_on([Draft(), Draft()], memory)
    alone = writer._go_on([Draft()], memory)
    assert [draft.said for draft in both[::2]] == [draft.said for draft in alone]
    assert np.allclose([d.likelihood for d in both[::2]], [d.likelihood for d in alone], atol=1e-3)


def test_whatever_people_wrote_may_be_said_and_comes_to_their_edits(writer: Writer, lessons: Lessons) -> None:
    for lesson in lessons.hand[:300]:
        draft = Draft()
        for sign in lesson.said[1:]:
            assert writer._may_follow(draft, len(lesson.words))[sign]
            draft = writer._with(draft, sign, 0.0)
        assert draft.said == tuple(lesson.said)
        assert len(draft.edits) == lesson.said.count(CLOSE)


def test_the_network_that_ships_says_what_the_one_that_was_trained_says(writer: Writer) -> None:
    found, network = writing.shipped(), Reader.load().network
    reader = SimpleNamespace(encoder=SimpleNamespace(encoder=SimpleNamespace(layer=_layers(found))))
    model = decoder.Writer(reader, found["words.weight"])  # type: ignore[arg-type]
    model.load_state_dict(found)
    words = HARMFUL[:5]
    ids = np.array([[101, *(piece for word in words for piece in network.pieces(word)), 102]])
    lower = torch.from_numpy(network.lower(ids, np.ones_like(ids)))
    lesson = Lesson(words, [BEGIN, SIGNS, CLOSE], [0, 0])
    _, members, _, _ = writing.collate([lesson], lambda word: list(network.pieces(word)))  # type: ignore[arg-type]
    with torch.no_grad():
        memory = model.eval().memory(lower, torch.ones(ids.shape), members)
        odds = model(memory, torch.tensor([[BEGIN]]), torch.ones(1, len(words)))[0, -1]
    ours = writer._remember(words)
    assert ours is not None
    assert float((memory[0] * torch.from_numpy(ours[0])).sum() / memory.norm() / np.linalg.norm(ours)) > 0.99
    (shipped,) = writer._writing.run(["odds"], {"memory": ours, "said": np.array([[BEGIN]])})
    assert np.corrcoef(odds.numpy()[-len(words) :], shipped[0][-len(words) :])[0, 1] > 0.95


def _layers(found: dict[str, torch.Tensor]) -> torch.nn.ModuleList:
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLayer

    width = found["layer.0.intermediate.dense.weight"].shape[0]
    shape = BertConfig(hidden_size=decoder.WIDTH, num_attention_heads=12, intermediate_size=width)
    shape._attn_implementation = "eager"
    layers = [BertLayer(shape) for _ in range(reader_ship.LOWER + decoder.READING)]
    return torch.nn.ModuleList(layers)


def test_of_a_prompt_that_is_too_long_and_of_none_there_is_no_repair(writer: Writer) -> None:
    assert writer.repairs([]) == []
    assert writer.repairs(["cat"] * (MOST + 1)) == []
    assert writer.repairs(["unhyphenated" * 3] * MOST) == []  # of eight pieces each


def test_every_word_is_calm_and_names_neither_a_minor_nor_a_group(writer: Writer) -> None:
    assert len(writer.words) > 3_000
    assert len(set(writer.words)) == len(writer.words)
    assert usable(writer.words) == writer.words
    assert not [word for word in writer.words if names_minor(word)]


@pytest.mark.parametrize("name", [MEMORY, WRITING, LISTED])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(WEIGHTS, tmp_path / "weights"))
    with (folder / name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ReaderError, match=f"{name} is not the file"):
        Writer(Network(folder))


def test_the_edits_of_a_repair_by_hand_make_it_again() -> None:
    pairs = [(old, new) for old, new, _ in by_hand.rows() if old != new]
    again = []
    for old, new in random.Random(0).sample(pairs, 1000):
        found = edited(old, new)
        ways = [Rewrite(first, last, tuple(words), 0.0) for first, last, words in found.edits] if found else []
        again.append(rewritten(old, ways) == " ".join(new.split()))
    assert sum(again) > 970  # others differ in a capital letter, mostly


@pytest.mark.parametrize(
    ("old", "new", "edits"),
    [
        ("a man stabbed by a dog", "a man greeted by a dog", [(2, 2, ["greeted"])]),
        ("a dead cat", "a cat", [(1, 1, [])]),
        ("Dead cats, oil", "Happy cats, oil", [(0, 0, ["happy"])]),
        ("a cat", "a cat with a hat", [(1, 1, ["cat", "with", "a", "hat"])]),
        ("gore", "I wave", [(0, 0, ["I", "wave"])]),
        ("A MAN SHOT", "A MAN SEEN", [(2, 2, ["seen"])]),
        ("Gore", "A man waves", [(0, 0, ["a", "man", "waves"])]),
        ("a Nazi flag", "a Swiss flag", [(1, 1, ["Swiss"])]),
        ("cat", "a happy cat", [(0, 0, ["a", "happy", "cat"])]),
        ("a cat", "a cat", None),
    ],
)
def test_a_repair_is_edits_of_its_prompt(old: str, new: str, edits: list[tuple[int, int, list[str]]] | None) -> None:
    found = edited(old, new)
    assert (found.edits if found else None) == edits


def test_a_lesson_says_places_words_of_the_list_and_words_of_the_prompt() -> None:
    found = edited("a man stabbed by an okapi", "an okapi greeted by a man")
    assert found is not None
    index = {word: SIGNS + at for at, word in enumerate(("a", "an", "greeted", "by"))}
    lesson, listed = lesson_of(found, index), SIGNS + len(index)
    assert lesson is not None
    assert lesson.said[0] == BEGIN
    assert lesson.said[-2:] == [CLOSE, DONE]
    assert len(lesson.stages) == len(lesson.said) - 1
    assert listed + 5 in lesson.said  # the animal comes from the prompt
    assert lesson_of(edited("a cat", "a zebra") or found, index) is None  # a word that it does not have


def test_lessons_come_in_batches_of_like_length_and_of_no_prompt_of_the_bench(lessons: Lessons) -> None:
    assert len(lessons.hand) > 20_000
    assert len(lessons.checked) > 10_000
    assert lessons.held
    for batch in islice(lessons.batches(lambda: 0.0, 0), 30):
        lengths = [len(lesson.words) for lesson in batch]
        assert sorted(lengths) == lengths
        assert all(len(lesson.said) == len(lesson.stages) + 1 for lesson in batch)
    assert not {plain(old) for old, *_ in by_hand.rows()} & bench_prompts()


def test_what_may_follow_is_what_lessons_say(lessons: Lessons) -> None:
    pieces = Pieces(Tokenizer.from_file(str(WEIGHTS / "tokenizer.json")))
    _, members, said, stages = writing.collate(lessons.hand[:50], pieces)
    may = writing.may_follow(stages, SIGNS + len(lessons.words), members.shape[1])
    told = stages >= 0
    assert bool(may.gather(2, said[:, 1:, None]).squeeze(2)[told].all())
    assert not bool(may[stages == Stage.NEW.value][:, DONE].any())
    assert torch.allclose(members.sum(2)[members.sum(2) > 0], torch.ones(()), atol=1e-5)


def test_training_may_go_on_from_the_weights_that_ship(writer: Writer) -> None:
    found = writing.shipped()
    assert found["words.weight"].shape == (SIGNS + len(writer.words), decoder.WIDTH)
    assert found["bias"].shape == (SIGNS + len(writer.words),)
    assert {name.split(".")[1] for name in found if name.startswith("blocks.")} == {"0", "1", "2"}


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


def test_words_that_may_mean_a_group_or_a_minor_or_are_torn_are_not_used() -> None:
    words = ["owl", "french", "muslim", "black", "child", "niece", "newborn", "wELCOME", '"Good', "I", ","]
    assert usable(words) == ["owl", "black", "I", ","]


def test_a_transplant_says_the_words_that_were_there(lessons: Lessons) -> None:
    rng = random.Random(0)
    for lesson in (lessons._transplant(rng) for _ in range(100)):
        assert lesson.said[-1] == DONE
        assert 1 <= lesson.said.count(CLOSE) <= 2
        assert max(lesson.said) < SIGNS + len(lessons.words) + len(lesson.words)
