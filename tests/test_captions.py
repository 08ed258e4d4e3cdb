"""JSON captions: what is a text in them, that repairs keep their form, and that nothing hides in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from safegen import Generator, Guard
from safegen.batch.readers import Line
from safegen.batch.rows import RowParser
from safegen.cli import tables
from safegen.errors import PromptError, Unread
from safegen.models.options import DrawOptions
from safegen.prompts.prompt import clean
from safegen.reader import Reader, captions
from tests.helpers.batches import options
from tests.helpers.pipelines import pipeline, prepared

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=15,
).filter(lambda value: isinstance(value, (dict, list)))
HARM = {"scene": "a kitchen", "subjects": [{"is": "a cat", "beside": "a kitchen knife"}], "steps": 3, "wide": False}


def texts(value: Any) -> Iterator[str]:
    """Every text that is no key, in reading order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)


def form(value: Any) -> Any:
    """The same with every text left out: keys, order and types."""
    if isinstance(value, dict):
        return [(key, form(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [form(inner) for inner in value]
    return str if isinstance(value, str) else (type(value), value)


@settings(max_examples=300, deadline=None)
@given(JSON, st.booleans(), st.sampled_from([None, 2]))
def test_every_text_is_found_at_its_place(value: Any, ascii_: bool, indent: int | None) -> None:
    written = json.dumps(value, ensure_ascii=ascii_, indent=indent)
    caption = captions.parse(written)
    assert caption is not None
    assert [one.text for one in caption.values] == list(texts(value))
    assert len(caption.prose) == len(written)
    for one in caption.values:
        assert json.loads(f'"{written[slice(*one.span)]}"') == one.text
        assert len(one.places) == len(one.text)
        if one.text:
            assert caption.path(one.span) == one.path
            assert one.within(one.span) == (0, len(one.text))


@settings(max_examples=300, deadline=None)
@given(JSON, TEXT)
def test_a_change_of_texts_keeps_keys_order_and_types(value: Any, new: str) -> None:
    written = json.dumps(value)
    assert captions.change_texts(written, lambda text: text) == written
    changed = json.loads(captions.change_texts(written, lambda _: new))
    assert form(changed) == form(value)
    assert set(texts(changed)) <= {new}


@settings(max_examples=200, deadline=None)
@given(JSON, st.lists(st.tuples(st.integers(0, 200), st.integers(0, 50)), max_size=5))
def test_whatever_is_taken_out_what_is_left_is_json_of_the_same_form(value: Any, cuts: list[tuple[int, int]]) -> None:
    written = json.dumps(value, ensure_ascii=False)
    left = captions.take_out(written, [(start, start + length) for start, length in cuts])
    assert form(json.loads(left)) == form(value)


@settings(max_examples=200, deadline=None)
@given(JSON, st.booleans())
def test_cleaning_spells_letters_out_and_keeps_the_form(value: Any, indented: bool) -> None:
    written = json.dumps(value, indent=2 if indented else None)
    try:
        cleaned = clean(written)
    except PromptError:
        reject()  # nothing is left of it
    if captions.begins(written):
        caption = captions.parse(cleaned.text)
        assert caption is not None
        assert "\\u" not in cleaned.text.replace("\\\\", "")
        assert len(caption.values) == len(list(texts(value)))  # two keys may be the same without invisible letters


@pytest.mark.parametrize(
    "text",
    ["a cat", "[a cat:0.5]", "{a cat|a dog}", '"a cat"', "12", "[1, 2", "{", "[a cat]", '{"a"|"b"}', '["neon":1.2]'],
)
def test_what_does_not_begin_as_json_is_plain_text(text: str) -> None:
    assert captions.parse(text) is None
    assert not captions.begins(text)
    clean(text)


@pytest.mark.parametrize(
    "text",
    ['{"a": "cat"', '{"a": cat}', '["a cat", dog]', '[{"a": "b"}', '{"a": "b"} and more', '{"a": NaN}', '["a cat"',
     '[' * 3 + '{"a": 1}'],
)  # fmt: skip
def test_what_begins_as_json_and_is_none_is_refused(text: str) -> None:
    if not captions.begins(text):
        assert clean(text).text
        return
    with pytest.raises(PromptError, match="begins as JSON and is none"):
        clean(text)


def test_letters_that_stand_as_numbers_are_read() -> None:
    hidden = json.dumps(HARM).replace("knife", "".join(f"\\u{ord(c):04x}" for c in "knife"))
    assert clean(hidden).text == clean(json.dumps(HARM)).text
    assert clean('{"a": "red\\nknife \\"big\\" \\ud83d\\ude00"}').text == '{"a": "red knife \\"big\\" \U0001f600"}'
    (reading,) = Reader.load().read([hidden])
    assert not reading.legible  # where nobody has cleaned it


def test_brackets_of_json_are_no_marks_of_weight() -> None:
    prompt = clean('{"things": ["a (red:1.3) cat", "[a dog]"]}')
    assert prompt.weights == ()
    assert prompt.text == prompt.own


def test_a_harmful_text_is_flagged_wherever_it_stands_and_its_key_is_named() -> None:
    (sheet,) = Guard().score([json.dumps(HARM)])
    assert "violence" in sheet.flagged_concepts()
    knife = next(word for word in sheet.as_json("x")["words"] if word["text"] == "knife")
    assert knife["key"] == "subjects[0].beside"
    assert any(span.get("key") == "subjects[0].beside" for span in sheet.as_json("x")["spans"])
    (calm,) = Guard().score([json.dumps({**HARM, "subjects": ["a cat"]})])
    assert not calm.flagged


def test_a_harmful_key_is_seen_as_well() -> None:
    (sheet,) = Guard().score(['{"a man stabbed in an alley": "photo"}'])
    assert sheet.flagged


def test_a_repaired_caption_is_json_of_the_same_form(generator: Generator) -> None:
    (picture,), report = generator.generate(json.dumps(HARM), DrawOptions(seed=3, steps=2))
    assert report is not None
    repaired = json.loads(report.rewritten)
    assert form(repaired) == form(HARM)
    assert repaired["scene"] == "a kitchen"
    assert "knife" not in report.rewritten
    assert not report.after.flagged
    assert picture.record.guard["words"][0]["key"] == "subjects[0].beside"


def test_directions_take_words_out_of_texts_alone() -> None:
    value = {"one": "a dog", "two": "a cat and a kitchen knife", "three": 3}
    family = prepared("flux2-klein").bind(Generator(pipeline("flux2-klein"), None).family)
    _, (report,) = family.sanitize(family.context.family.encode([json.dumps(value)]))
    assert report.sanitized
    assert form(json.loads(report.after.prompt)) == form(value)
    assert "knife" not in report.after.prompt


def test_a_caption_of_several_windows_is_refused_where_windows_are_cut(generator: Generator) -> None:
    long = json.dumps({f"thing {i}": "a red apple on a table beside a window" for i in range(12)})
    (found,) = generator.prepare([clean(long)])
    assert isinstance(found, PromptError)
    assert "windows" in str(found)


def test_a_row_may_hold_a_caption_as_json() -> None:
    row = RowParser(options()).row(Line(1, {"prompt": HARM}), 1)
    assert row.prompt.text == json.dumps(HARM)


def test_hidden_letters_are_refused_by_a_guard_that_cleans_nothing_and_has_no_directions() -> None:
    guard = Guard("hate")
    bound = guard.bind(Generator(pipeline("flux2-klein"), None).family)
    hidden = '{"a": "c\\u0061t"}'
    with pytest.raises(Unread):
        bound.sanitize(bound.context.family.encode([hidden]))


def test_no_span_reaches_beyond_its_text() -> None:
    (sheet,) = Guard().score([json.dumps(HARM)])
    assert sheet.spans
    assert all('"' not in span.text and sheet.key_of(span.span) for span in sheet.spans)


def test_the_table_names_keys(capsys: pytest.CaptureFixture[str]) -> None:
    (sheet,) = Guard().score([json.dumps(HARM)])
    tables.show_sheet(sheet)
    shown = capsys.readouterr().out
    assert "key" in shown
    assert "knife (subjects[0].beside)" in shown


NUMBERED = "a \\u006bitchen knife"  # its first letter stands as a number


@pytest.mark.parametrize(
    "typed",
    [
        NUMBERED,
        f'a picture {{"scene": "{NUMBERED}"}}',
        f'[1, "{NUMBERED}", "x"',
        f"{{'scene': '{NUMBERED}'}}",
        f'"{NUMBERED}"',
        "a \\u005cu006bitchen knife",  # the sign that begins a number stands as a number
    ],
)
def test_letters_that_stand_as_numbers_are_read_in_any_prompt(typed: str) -> None:
    assert "kitchen knife" in clean(typed).text


@pytest.mark.parametrize("invisible", ["\u200b", "\ufeff", "\u2060"])
def test_invisible_letters_do_not_hide_that_a_prompt_is_json(invisible: str) -> None:
    caption = f'{{"scene": "{NUMBERED}"}}'
    for hidden in (invisible + caption, caption.replace("{", "{" + invisible)):
        assert clean(hidden).text == '{"scene": "a kitchen knife"}'
        with pytest.raises(PromptError, match="begins as JSON"):
            clean(hidden[:-1])


@pytest.mark.parametrize("typed", ['[null, "a cat"]', '[1, "a cat"]', '\u200b["a cat", "a dog"]'])
def test_every_list_that_is_json_is_a_caption(typed: str) -> None:
    found = clean(typed)
    assert found.text == typed.removeprefix("\u200b")
    assert not found.weights
