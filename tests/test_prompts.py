"""Prompts: what is read, what is cleaned, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safegen import console
from safegen.errors import PromptError
from safegen.prompts import MAX_CHARACTERS, clean, gather


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
