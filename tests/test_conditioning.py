"""Conditioning: batches are cut, joined and changed without a state, a position or a span going astray."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from safegen.conditioning import Channel, Conditioning, Position, Token
from tests.helpers import handmade

WORDS = ["a", "cat", "dog", "red", "big", "knife", ",", "house"]
PROMPTS = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)
BATCHES = st.lists(PROMPTS, min_size=1, max_size=4)
quick = settings(max_examples=20, deadline=None)


def meaning(word: str) -> list[float]:
    """Another vector for every word."""
    place = WORDS.index(word)
    return [1.0 + place, 0.5 * place**2, -1.0]


def batch(*prompts: str) -> Conditioning:
    """A worded channel, a wider one that reads the same, and a pooled vector."""
    text = handmade.channel(prompts, meaning)
    wide = handmade.channel(prompts, lambda word: [*meaning(word), 7.0])
    return Conditioning(prompts, {"text": text, "wide": wide, "pooled": handmade.pooled([[len(p)] for p in prompts])})


def same(one: Conditioning, other: Conditioning) -> bool:
    """Equal to the bit, in everything that they hold."""
    pairs = [(channel, other.channels[name]) for name, channel in one.channels.items()]
    return (one.prompts, list(one.channels)) == (other.prompts, list(other.channels)) and all(
        torch.equal(a.states, b.states)
        and torch.equal(a.positions, b.positions)
        and (a.tokens, a.truncated, a.lengths) == (b.tokens, b.truncated, b.lengths)
        for a, b in pairs
    )


def spelled(*pieces: str, gaps: str = "") -> Channel:
    """One prompt of the given tokens; `gaps` says with `_` which of them a space comes after."""
    tokens, at = [Token("<s>", Position.START)], 0
    for piece, gap in zip(pieces, gaps.ljust(len(pieces), "."), strict=True):
        tokens.append(Token(piece, Position.TOKEN, (at, at + len(piece))))
        at += len(piece) + (gap == "_")
    tokens.append(Token("</s>", Position.END))
    positions = torch.tensor([[int(token.position) for token in tokens]])
    return Channel(torch.zeros(1, len(tokens), 1), positions, (tuple(tokens),), ("",), (len(pieces),))


# Batches


@quick
@given(BATCHES)
def test_one_prompt_of_a_batch_is_what_it_is_alone(prompts: list[str]) -> None:
    together = batch(*prompts)
    assert all(same(together.only(row), batch(prompt)) for row, prompt in enumerate(prompts))


@quick
@given(BATCHES)
def test_prompts_joined_one_by_one_are_the_batch(prompts: list[str]) -> None:
    first, *others = map(batch, prompts)
    assert same(first.joined(others), batch(*prompts))


@quick
@given(BATCHES, BATCHES)
def test_batches_are_joined_in_their_order(some: list[str], others: list[str]) -> None:
    assert same(batch(*some).joined([batch(*others)]), batch(*some, *others))


@quick
@given(BATCHES, PROMPTS, st.data())
def test_a_row_that_is_replaced_leaves_the_others_as_they_were(
    prompts: list[str], other: str, data: st.DataObject
) -> None:
    row = data.draw(st.integers(0, len(prompts) - 1))
    replaced = batch(*prompts).with_row(row, batch(other), 1.0)
    assert same(replaced, batch(*prompts[:row], other, *prompts[row + 1 :]))


@quick
@given(BATCHES, st.integers(0, 12))
def test_what_is_padded_is_absent_and_goes_again(prompts: list[str], length: int) -> None:
    text = batch(*prompts).channels["text"]
    padded = text.padded(length)
    before, after = text.states.shape[1], padded.states.shape[1]
    assert after == max(length, before) == len(padded.tokens[0])
    assert torch.equal(padded.states[:, :before], text.states)
    assert not padded.states[:, before:].any()
    assert (padded.positions[:, before:] == Position.ABSENT).all()
    again = padded.rows(slice(None))
    assert torch.equal(again.states, text.states)
    assert again.tokens == text.tokens


def test_what_is_long_enough_is_not_padded() -> None:
    text = batch("a red cat").channels["text"]
    assert text.padded(2) is text


def test_rows_are_as_long_as_the_longest_of_them() -> None:
    text = batch("a", "a red cat", "a big red dog").channels["text"]
    assert [text.rows(part).states.shape[:2] for part in (slice(0, 1), slice(0, 2), slice(3, None))] == [
        (1, 3), (2, 5), (0, 0),
    ]  # fmt: skip


# Towards another prompt


@quick
@given(BATCHES, PROMPTS, st.data())
def test_no_share_at_all_keeps_every_bit(prompts: list[str], other: str, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(prompts) - 1))
    before = batch(*prompts)
    assert same(before.with_row(row, batch(other), 0.0), before)


@quick
@given(BATCHES, PROMPTS, st.floats(0.01, 0.99), st.data())
def test_a_share_moves_one_row_alone_and_keeps_its_text(
    prompts: list[str], other: str, share: float, data: st.DataObject
) -> None:
    row = data.draw(st.integers(0, len(prompts) - 1))
    before, known = batch(*prompts), batch(*prompts)
    after = before.with_row(row, batch(other), share)
    assert same(before, known)  # which is a value
    assert after.prompts == before.prompts
    for name, channel in after.channels.items():
        old = before.channels[name]
        assert channel.tokens == old.tokens
        assert all(torch.equal(channel.states[i], old.states[i]) for i in range(len(prompts)) if i != row)
        assert not channel.states[row][old.positions[row] == Position.ABSENT].any()


def test_half_way_is_the_mean() -> None:
    text, other = batch("a red cat").channels["text"], batch("a big dog").channels["text"]
    assert torch.equal(text.towards(0, other, 0.5).states, (text.states + other.states) / 2)


@pytest.mark.parametrize("other", ["", "cat", "a big red dog , cat house"])
def test_a_prompt_of_another_length_is_spread_from_its_first_state_to_its_last(other: str) -> None:
    text, there = batch("a red cat").channels["text"], batch(other).channels["text"]
    moved = text.towards(0, there, 1.0).states[0]
    assert torch.equal(moved[0], there.states[0, 0])
    assert torch.equal(moved[-1], there.states[0, -1])
    places = [next(i for i, state in enumerate(there.states[0]) if torch.equal(state, one)) for one in moved]
    assert places == sorted(places)


# Abreast


def test_parts_abreast_are_one_prompt_with_spans_of_the_whole() -> None:
    parts, text = [batch("a cat"), batch("red dog")], "a cat, red dog"
    whole = parts[0].abreast(parts[1:], text, (0, 7))
    channel = whole.channels["text"]
    assert whole.prompts == (text,)
    assert [text[slice(*t.span)] for t in channel.tokens[0] if t.span] == ["a", "cat", "red", "dog"]
    assert torch.equal(channel.states, torch.cat([part.channels["text"].states for part in parts], 1))
    assert (channel.lengths, channel.truncated) == ((4,), ("",))
    assert torch.equal(whole.channels["pooled"].states, parts[0].channels["pooled"].states)


def test_what_any_part_has_not_seen_is_told() -> None:
    one, other = (replace(batch("a").channels["text"], truncated=(text,)) for text in ("this", "that"))
    assert one.abreast([other], (0, 2)).truncated == ("this that",)


# Words


@pytest.mark.parametrize(
    ("pieces", "gaps", "words"),
    [
        (("kit", "chen", "knife"), "._", ["kitchen", "knife"]),
        (("a", "cat", ",", "a", "dog"), "_._.", ["a", "cat", ",", "adog"]),
        (("cat", ",", "dog"), "", ["cat", ",", "dog"]),
        (("kitchen", "-", "knife"), "", ["kitchen", "-", "knife"]),
        (("isn", "'", "t"), "", ["isn't"]),
        (("isn", "\u2019", "t"), "", ["isn\u2019t"]),
        (("'", "toy", "'"), "", ["'", "toy'"]),
        (("3", "d"), "", ["3d"]),
        ((), "", []),
    ],
)
def test_tokens_that_touch_are_one_word(pieces: tuple[str, ...], gaps: str, words: list[str]) -> None:
    assert [word.text for word in spelled(*pieces, gaps=gaps).words(0)] == words


@quick
@given(st.lists(st.tuples(st.sampled_from(["ab", "c", "1", ",", "-", "'", "\u2019", "("]), st.sampled_from("._"))))
def test_every_token_is_in_one_word_and_words_are_what_the_prompt_says(pieces: list[tuple[str, str]]) -> None:
    channel = spelled(*(piece for piece, _ in pieces), gaps="".join(gap for _, gap in pieces))
    text = "".join(piece + " " * (gap == "_") for piece, gap in pieces)
    words = channel.words(0)
    assert [i for word in words for i in word.tokens] == list(range(1, len(pieces) + 1))
    assert all(word.text == text[slice(*word.span)] for word in words)
    assert all(one.span[1] <= other.span[0] for one, other in itertools.pairwise(words))


def test_further_vectors_of_an_inversion_are_the_same_word() -> None:
    toy = [Token("<toy>", Position.TOKEN, (2, 7))] * 3
    tokens = (Token("a", Position.TOKEN, (0, 1)), *toy, Token("cat", Position.TOKEN, (8, 11)))
    channel = replace(spelled("a"), tokens=(tokens,))
    assert [(word.text, word.tokens) for word in channel.words(0)] == [("a", (0,)), ("<toy>", (1, 2, 3)), ("cat", (4,))]


def test_tokens_of_no_characters_are_no_words() -> None:
    tokens = (Token("\u2581", Position.TOKEN, (0, 0)), Token("cat", Position.TOKEN, (0, 3)))
    assert [word.tokens for word in replace(spelled("cat"), tokens=(tokens,)).words(0)] == [(1,)]


def test_a_word_is_found_in_every_channel_that_has_words() -> None:
    fine, coarse = spelled("a", "kit", "chen", "knife", gaps="_._"), spelled("a", "kitchen", "knife", gaps="__")
    both = Conditioning(("a kitchen knife",), {"fine": fine, "coarse": coarse, "pooled": handmade.pooled([[1.0]])})
    kitchen = next(word for word in both.words(0) if word.text == "kitchen")
    assert both.tokens_of(0, kitchen) == {"fine": [2, 3], "coarse": [2]}
    assert list(both.word_channels) == ["fine", "coarse"]


def test_words_are_of_the_channel_that_saw_most_of_each_prompt() -> None:
    one = handmade.channel(["a red cat", "a"], meaning)
    other = replace(handmade.channel(["a", "a red cat"], meaning), truncated=(" red cat", ""))
    both = Conditioning(
        ("a red cat", "a red cat"),
        {"pooled": handmade.pooled([[1.0]] * 2), "one": replace(one, truncated=("", " red cat")), "other": other},
    )
    assert both.reference(0) is both.channels["one"]
    assert both.reference(1) is other
    assert [[word.text for word in both.words(row)] for row in (0, 1)] == [["a", "red", "cat"]] * 2


# New states


def test_new_states_are_put_into_the_named_channels_alone() -> None:
    before = batch("a cat", "a red dog")
    new = before.channels["text"].states + 1
    after = before.with_states({"text": new})
    assert after.channels["text"].states is new
    assert after.channels["wide"] is before.channels["wide"]
    assert same(before, batch("a cat", "a red dog"))
    assert same(before.with_states({}), before)


@pytest.mark.parametrize("change", [lambda s: s[:, :-1], lambda s: s[:1], lambda s: s.half(), lambda s: s.to("meta")])
def test_new_states_of_another_form_are_refused_by_the_channel_s_name(change: handmade.Whole) -> None:
    before = batch("a cat", "a dog")
    with pytest.raises(ValueError, match="channel 'text' must keep"):
        before.with_states({"text": change(before.channels["text"].states)})


def test_states_of_a_channel_that_is_not_there_are_refused() -> None:
    before = batch("a cat")
    with pytest.raises(ValueError, match="other"):
        before.with_states({"other": before.channels["text"].states})
