"""Prompts: what is read, what is cleaned, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safegen.batch.settings import BatchSettings
from safegen.cli import console
from safegen.errors import PromptError
from safegen.models.options import DrawOptions
from safegen.prompts.prompt import MAX_CHARACTERS, clean, clean_negative, gather


def test_ordinary_text_is_left_alone() -> None:
    assert clean("A cat, [from below] (big:1.2)!").own == "A cat, [from below] (big:1.2)!"
    assert clean("A cat (from below)!").text == "A cat (from below)!"
    assert clean("A cat").typed == ""


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("a\u200bcat", "acat"),
        ("a \x1b[31mcat", "a [31mcat"),
        ("a\tcat\nsleeps", "a cat sleeps"),
        ("a c\u0430t", "a cat"),  # Cyrillic a inside a Latin word
        ("\u043a\u043e\u0442", "\u043a\u043e\u0442"),  # a wholly Cyrillic word stays
    ],
)
def test_hidden_characters_are_removed(typed: str, text: str) -> None:
    prompt = clean(typed)
    assert prompt.text == text
    assert prompt.typed == ("" if typed == text else typed)


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("a knife\u0301", "a knif\u00e9"),
        ("ca\u0301i ne\u0323\u0302m", "c\u00e1i n\u1ec7m"),  # two marks on one letter
        ("\u1112\u1161\u11ab", "\ud55c"),  # Hangul
        ("\u212bngstr\u00f6m", "\u00c5ngstr\u00f6m"),
        ("a c\u0430\u0301t", "a c\u00e1t"),  # composed only after the look-alike is folded
        ("e\u200d\u0301", "\u00e9"),  # composed only without the joiner
    ],
)
def test_letters_are_composed(typed: str, text: str) -> None:
    assert clean(typed).text == clean_negative(typed) == text


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("an \U0001f469\u200d\U0001f680", "an \U0001f469\u200d\U0001f680"),
        ("\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f3f3\ufe0f\u200d\U0001f308"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("\u0915\u094d\u200d\u0937", "\u0915\u094d\u200d\u0937"),
        ("\U0001f469\u200d\u200d\U0001f680", "\U0001f469\u200d\U0001f680"),
        ("a c\u200da\u200ct\u200d", "a cat"),
        ("\u043a\u200d\u043e\u0442", "\u043a\u043e\u0442"),
    ],
)
def test_joiners_stay_where_they_show(typed: str, text: str) -> None:
    assert clean(typed).text == text


@pytest.mark.parametrize(
    "door", [lambda text: DrawOptions(negative=text), lambda text: BatchSettings.of(negative=text).draw]
)
def test_a_negative_prompt_goes_through_the_same_door(door: Callable[[str], DrawOptions]) -> None:
    assert door("fog\nSteps: 3, Seed: 9").negative == "fog Steps: 3, Seed: 9"
    assert door("a\u0301 \x1b[31m\u202er\u0435d").negative == "\u00e1 [31mred"
    assert door("(blurry:1.2)").negative == "(blurry:1.2)"
    assert door(" \n ").negative == ""
    for bad in ("\udcff", "x" * (MAX_CHARACTERS + 1), "\u200b"):
        with pytest.raises(PromptError, match="the negative prompt"):
            door(bad)


@pytest.mark.parametrize("typed", ["", "   ", "\u200b", "\x00", "\udcff", "x" * (MAX_CHARACTERS + 1)])
def test_unusable_prompts_are_errors(typed: str) -> None:
    with pytest.raises(PromptError):
        clean(typed)


def test_a_file_holds_one_prompt_a_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("# a comment\n\na cat\n  a dog  \n")
    assert [p.text for p in gather([], file)] == ["a cat", "a dog"]


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"a cat\n\xff\xfe\n")
    with pytest.raises(PromptError, match=r"prompts\.txt, line 2"):
        gather([], file)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="cannot read"):
        gather([], tmp_path / "none.txt")


@given(st.text(max_size=200))
def test_nothing_shown_can_steer_a_terminal(text: str) -> None:
    shown = console.plain(text)
    assert not any(ord(c) < 32 or ord(c) == 127 or 0x80 <= ord(c) < 0xA0 for c in shown)


@given(st.text(min_size=1, max_size=200))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    try:
        once = clean(text)
    except PromptError:
        return
    again = clean(once.own)
    assert (again.text, again.own, again.weights) == (once.text, once.own, once.weights)
