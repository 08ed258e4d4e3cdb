"""Marks of weight: what is one, what is punctuation, and that any text can be read."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safegen.prompts import emphasis
from safegen.prompts.emphasis import MOST, Marked, Weight, parse
from safegen.prompts.prompt import clean

WORDS = st.text("abc (]1:.,\\\u00e9", min_size=1, max_size=12).map(lambda text: " ".join(text.split()))
VALUES = st.integers(0, 200).map(lambda n: n / 100)


def render(text: str, weights: tuple[Weight, ...]) -> str:
    """The text with explicit marks, and brackets that are none escaped."""

    def escaped(part: str) -> str:
        return re.sub(r"([\\()\[\]])", r"\\\1", part)

    written, done = "", 0
    for weight in weights:
        start, end = weight.span
        written += f"{escaped(text[done:start])}({escaped(text[start:end])}:{weight.value:.2f})"
        done = end
    return written + escaped(text[done:])


@st.composite
def marked(draw: st.DrawFn) -> tuple[str, tuple[Weight, ...]]:
    """Words with and without weights, a bracket somewhere, so that there is something to read."""
    text, weights = "(x)", []
    for part in draw(st.lists(WORDS.filter(bool), min_size=1, max_size=5)):
        value = draw(VALUES)
        text += " "
        if value != 1:
            weights.append(Weight((len(text), len(text) + len(part)), value))
        text += part
    return text, tuple(weights)


def values(written: str) -> dict[str, float]:
    found = parse(written)
    return {found.text[slice(*w.span)]: w.value for w in found.weights}


@settings(deadline=None)
@given(marked())
def test_what_was_written_is_read(case: tuple[str, tuple[Weight, ...]]) -> None:
    text, weights = case
    found = parse(render(text, weights))
    assert found.text == text
    # Neighbours of one weight are written as two marks and read as two, for the space between them has none.
    assert found.weights == weights


@settings(deadline=None)
@given(st.text() | st.text("()[]:\\1.9 a", max_size=60))
def test_any_text_has_a_reading_and_every_character_a_place(written: str) -> None:
    found = parse(written)
    if found.text == written:
        assert found in (Marked(written), Marked(written, (), found.places))
        return
    assert len(found.places) == len(found.text)
    assert "".join(written[place] for place in found.places) == found.text
    assert list(found.places) == sorted(set(found.places))
    ends = [0]
    for weight in found.weights:
        assert ends[-1] <= weight.span[0] < weight.span[1] <= len(found.text)
        assert 0 <= weight.value <= MOST
        ends.append(weight.span[1])


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="()[]")))
def test_without_brackets_nothing_is_read(written: str) -> None:
    assert parse(written) == Marked(written)


@pytest.mark.parametrize(
    ("written", "text", "weights"),
    [
        ("a (red cat:1.3)", "a red cat", {"red cat": 1.3}),
        ("a (red cat: 1.3 ) sat", "a red cat sat", {"red cat": 1.3}),
        ("a (cat:.5)", "a cat", {"cat": 0.5}),
        ("a ((cat))", "a cat", {"cat": 1.21}),
        ("a [cat] sat", "a cat sat", {"cat": 0.9091}),
        ("((a:1.2):1.5)", "a", {"a": 1.8}),
        ("(a [b] c:1.1)", "a b c", {"a": 1.1, "c": 1.1}),
        ("(a) and (b:1.2)", "a and b", {"a": 1.1, "b": 1.2}),
        ("a (cat:7)", "a cat", {"cat": MOST}),
        ("a (cat:-1)", "a cat", {"cat": 0.0}),
        ("a (cat:1.0)", "a cat", {}),
        (r"a (cat \(tabby\):1.2)", "a cat (tabby)", {"cat (tabby)": 1.2}),
        (r"a cat \(tabby\)", "a cat (tabby)", {}),
        ("k(ni:1.1)fe", "knife", {"ni": 1.1}),
        ("a ( cat :1.2 ) sat", "a cat sat", {"cat": 1.2}),
    ],
)
def test_marks(written: str, text: str, weights: dict[str, float]) -> None:
    assert parse(written).text == text
    assert values(written) == weights


@pytest.mark.parametrize(
    "written",
    [
        *("a cat (on a mat)", "(a) cat", "a cat (on (a) mat)", "16:9", "(16:9)", "(3:2)", "at noon (12:30)"),
        *("a smile :) and :(", "(a cat", "a cat)", "(a [cat) b]", "()", "[]", "(( ))", "(:1.3)", "x[0] and cat[s]"),
        *("[bold]a cat[/red]", r"C:\cats", "", " "),
    ],
)
def test_punctuation_is_text(written: str) -> None:
    assert parse(written) == Marked(written)


def test_many_brackets_are_read_in_no_time() -> None:
    assert parse("(" * 5000 + "a" + ")" * 5000).weights == (Weight((0, 1), MOST),)
    assert parse("[" * 5000 + "a" + "]" * 5000).text == "a"
    assert parse("(a:1.2" * 2000).weights == ()


def test_a_prompt_keeps_what_its_user_wrote() -> None:
    prompt = clean("  a (red\tcat:1.3)\u200b sat ")
    assert (prompt.text, prompt.own) == ("a red cat sat", "a (red cat:1.3) sat")
    assert prompt.own[slice(*prompt.placed((6, 9)))] == "cat"
    assert clean(prompt.own) == clean(clean(prompt.own).own)
    assert prompt.verbatim.text == prompt.verbatim.own == prompt.own
    assert prompt.id == prompt.verbatim.id != clean(prompt.text).id
    plain = clean("a cat (on a mat)")
    assert (plain.text, plain.marked, plain.weights, plain.verbatim) == ("a cat (on a mat)", "", (), plain)


def test_letters_of_another_script_do_not_hide_behind_a_mark() -> None:
    assert clean("a (\u0441: 1.2)at").text == "a cat"


def test_values_are_steps() -> None:
    assert values("a (((cat)))") == {"cat": round(emphasis.STEP**3, 4)}
