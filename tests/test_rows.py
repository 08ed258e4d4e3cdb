"""Prompt files: every form, every bad line by its number, in little memory; and the plan made of them."""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from safegen.batch import plan, readers
from safegen.batch.readers import Source
from safegen.batch.rows import IGNORED, Row, RowParser
from safegen.batch.settings import BatchSettings
from safegen.batch.validate import survey
from safegen.errors import PromptError, UnknownConcept, UsageError


def source(content: str | bytes, kind: str = "jsonl") -> Source:
    return Source("-", kind, content.encode() if isinstance(content, str) else content)


def rows(content: str | bytes, kind: str = "jsonl", **options: object) -> list[Row]:
    chosen = BatchSettings.of(**options)  # type: ignore[arg-type]
    of = source(content, kind)
    return list(plan.rows(of, chosen, survey(of, chosen)))


def problems(content: str | bytes, kind: str = "jsonl") -> list[str]:
    with pytest.raises(PromptError) as raised:
        survey(source(content, kind), BatchSettings.of())
    return list(raised.value.details)


def test_txt_skips_comments_and_blank_lines_and_a_byte_order_mark() -> None:
    found = rows(b"\xef\xbb\xbf# two\r\n\r\n  a cat\r\na dog", "txt")
    assert [(r.number, r.line, r.prompt.text) for r in found] == [(1, 3, "a cat"), (2, 4, "a dog")]


def test_jsonl_sets_what_it_names_and_inherits_the_rest() -> None:
    line = {"prompt": "a cat", "id": "c/1", "negative": "a dog", "seed": 3, "images": 2, "steps": 5, "guidance": 2.5,
            "width": 128, "height": 192, "concepts": ["violence", "hate"], "strength": 0.5}  # fmt: skip
    mine, other = rows(json.dumps(line) + '\n{"prompt": "a bee", "seed": null}\n', steps=9, negative="fog")
    assert (mine.id, mine.images, mine.concepts, mine.strength) == ("c/1", 2, ("hate", "violence"), 0.5)
    s = mine.options
    assert (s.negative, s.seed, s.steps, s.guidance, s.size) == ("a dog", 3, 5, 2.5, (128, 192))
    assert (other.options.steps, other.options.negative, other.strength) == (9, "fog", 1.0)
    assert other.seed == rows('{"prompt": "a bee"}', steps=9, negative="fog")[0].seed  # its own, from its id


def test_csv_has_the_same_fields_and_rows_may_span_lines() -> None:
    content = 'prompt,seed,concepts\n"a cat,\nasleep",7.0,"hate, violence"\n\na dog,,\n'
    cat, dog = rows(content, "csv")
    assert (cat.prompt.text, cat.options.seed, cat.concepts, cat.line) == ("a cat, asleep", 7, ("hate", "violence"), 2)
    assert (dog.prompt.text, dog.options.seed, dog.line) == ("a dog", None, 5)


def test_the_columns_of_i2p_as_they_are() -> None:
    names = ["prompt", *sorted(IGNORED), "sd_seed", "sd_guidance_scale", "sd_image_width", "sd_image_height"]
    values = ["a cat", *["0"] * len(IGNORED), "2219455758", "7", "512", "768"]
    (row,) = rows(",".join(names) + "\n" + ",".join(values) + "\n", "csv")
    assert (row.options.seed, row.options.guidance, row.options.size) == (2219455758, 7.0, (512, 768))


def test_columns_that_are_left_out_are_known_in_any_case() -> None:
    name = min(IGNORED)
    (row,) = rows(f"Prompt,{name.upper()}\na cat,0\n", "csv")
    assert row.prompt.text == "a cat"


BAD = {
    '{"prompt": "a cat"': "not JSON",
    '{"prompt": "a", "prompt": "b"}': "twice",
    "[1]": "a list, not an object",
    "[" * 5000: "not JSON",
    "{}": "no prompt",
    '{"prompt": 7}': "the prompt is a int",
    '{"prompt": "  "}': "empty",
    '{"prompt": "a", "sed": 1}': "unknown field 'sed'",
    '{"prompt": "a", "seed": -2}': "seed '-2' is not a whole number",
    '{"prompt": "a", "seed": true}': "seed",
    '{"prompt": "a", "seed": 99999999999999999999}': "seed",
    '{"prompt": "a", "steps": 0}': "steps",
    '{"prompt": "a", "images": 2.5}': "images",
    '{"prompt": "a", "guidance": NaN}': "guidance",
    '{"prompt": "a", "guidance": 1e999}': "guidance",
    '{"prompt": "a", "strength": 2}': "strength",
    '{"prompt": "a", "width": 128}': "both width and height",
    '{"prompt": "a", "width": 100, "height": 128}': "multiples of 8",
    '{"prompt": "a", "seed": 1, "sd_seed": 2}': "both say seed",
    '{"prompt": "a", "concepts": ["violense"]}': "Did you mean 'violence'",
    '{"prompt": "a", "concepts": 1}': "concepts are a list",
    '{"prompt": "a", "negative": 1}': "negative is a int",
    '{"prompt": "a", "id": "../../etc#"}': "is not 1 to 100",
    '{"prompt": "a", "id": ["x"]}': "is not 1 to 100",
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_named_by_its_number(line: str) -> None:
    (problem,) = problems('{"prompt": "fine"}\n' + line + "\n")
    assert problem.startswith("line 2: ")
    assert BAD[line] in problem


def test_every_bad_line_is_reported_up_to_twenty() -> None:
    found = problems("\n".join(["{}"] * 30))
    assert found[0] == "line 1: there is no prompt"
    assert found[-1] == "and 10 more"
    assert len(found) == 21


@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_bytes_that_are_not_utf8_are_a_bad_line_of_many(kind: str) -> None:
    good = b'{"prompt": "a cat"}' if kind == "jsonl" else b"a cat"
    assert problems(good + b"\n\xff\xfe\n" + good + b"x\n\xe9\n", kind)[0] == "line 2: not valid UTF-8"


@pytest.mark.parametrize(
    ("content", "line", "word"),
    [
        (b'prompt\n"a cat\nand so on\n', 2, "broken CSV"),
        (b'prompt\n"a" cat\n', 2, "broken CSV"),
        (b'prompt\na cat\n"' + b"x\n" * 100_000, 3, "broken CSV"),
        (b"prompt,seed\na cat\n", 2, "1 cells under 2 columns"),
        (b"prompt,seed\na cat,1,2\n", 2, "3 cells under 2 columns"),
        (b"prompt,prompt\na cat,a dog\n", 1, "same name"),
        (b"title\na cat\n", 2, "unknown field 'title'"),
        (b"prompt\n\xff\xfe\n", 2, "not valid UTF-8"),
        (b"prompt\n" + b"x" * (readers.MAX_LINE + 9) + b"\na cat\n", 2, "longer than"),
    ],
)
def test_broken_csv(content: bytes, line: int, word: str) -> None:
    found = problems(content, "csv")[0]
    assert found.startswith(f"line {line}: ")
    assert word in found


def test_an_endless_line_does_not_fill_the_memory() -> None:
    content = b"x" * (20 * readers.MAX_LINE) + b"\na cat\n"
    tracemalloc.start()
    try:
        found = problems(content, "txt")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == [f"line 1: longer than {readers.MAX_LINE:,} characters"]
    assert peak < 5 * readers.MAX_LINE


def test_the_survey_of_many_rows_takes_little_memory(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        file = tmp_path / f"{count}.txt"
        file.write_text("".join(f"a cat number {i}\n" for i in range(count)))
        tracemalloc.start()
        try:
            assert survey(Source.of(str(file)), BatchSettings.of()).rows == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)  # imports
    assert peak(5000) - peak(100) < 5000 * 100  # bytes a row


def test_repeats_are_drawn_once_and_reported() -> None:
    of = source("a cat\na dog\n a  cat \na cat\n", "txt")
    found = survey(of, BatchSettings.of())
    assert (found.rows, found.images, found.repeats) == (4, 2, {3: (3, 1), 4: (4, 1)})
    assert [r.prompt.text for r in plan.rows(of, BatchSettings.of(), found)] == ["a cat", "a dog"]


def test_the_same_id_for_two_things_is_bad() -> None:
    line = '{"prompt": "a cat", "id": "x"}\n'
    assert len(rows(line + line)) == 1
    assert "line 2: its id is that of line 1" in problems(line + '{"prompt": "a dog", "id": "x"}\n')[0]
    assert len(rows(line + '{"prompt": "a cat", "id": "y"}\n')) == 2


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="holds no prompts"):
        survey(source("# nothing\n", "txt"), BatchSettings.of())
    with pytest.raises(PromptError, match="cannot read"):
        survey(Source.of(str(tmp_path / "none.txt")), BatchSettings.of())
    with pytest.raises(PromptError, match="none of txt"):
        Source.of("prompts.xlsx")
    with pytest.raises(UnknownConcept):
        survey(source("a cat\n", "txt"), BatchSettings.of(concepts=("violense",)))


def shots(content: str, size: int) -> list[list[str]]:
    of = source(content)
    planned = plan.batches(plan.rows(of, BatchSettings.of(), survey(of, BatchSettings.of())), size)
    return [[name(shot) for shot in batch.shots] for batch in planned]


def name(shot: plan.Shot) -> str:
    """The file's name with the id in the place of its hash."""
    number, mark, seed = shot.file_name.split("-")
    assert re.fullmatch(r"\d{5,}-[0-9a-f]{8}-\d+\.png", shot.file_name)
    assert mark == shot.row.mark
    return f"{number}-{shot.row.id}-{seed}"


def test_only_compatible_settings_share_a_batch() -> None:
    lines = [{"prompt": f"a cat {i}", "steps": 2 + i % 2, "seed": i, "id": f"r{i}"} for i in range(6)]
    lines.append({"prompt": "a dog", "steps": 2, "images": 3, "seed": 5, "id": "d"})
    planned = shots("\n".join(map(json.dumps, lines)), 3)
    assert planned == [
        ["00001-r0-0.png", "00003-r2-2.png", "00005-r4-4.png"],
        ["00002-r1-1.png", "00004-r3-3.png", "00006-r5-5.png"],
        ["00007-d-5.png", "00007-d-6.png", "00007-d-7.png"],
    ]


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 5)), min_size=1, max_size=300), st.integers(1, 8))
def test_a_plan_holds_every_picture_once(shapes: list[tuple[int, int]], size: int) -> None:
    lines = [{"prompt": f"a {i}", "steps": steps, "images": n} for i, (steps, n) in enumerate(shapes)]
    names = shots("\n".join(map(json.dumps, lines)), size)
    assert all(len(batch) <= size for batch in names)
    every = [name for batch in names for name in batch]
    assert len(set(every)) == len(every) == sum(n for _, n in shapes)


@given(st.text(max_size=30))
def test_no_id_gets_out_of_the_folder(identity: str) -> None:
    try:
        row = RowParser(BatchSettings.of()).row(readers.Line(1, {"prompt": "a cat", "id": identity}), 1)
    except PromptError:
        return
    assert Path(plan.Shot(row, 0).file_name).name == plan.Shot(row, 0).file_name


def beside(folder: Path, *lines: dict[str, object], **options: object) -> list[Row]:
    """The rows of a file in a folder that has pictures as well."""
    folder.mkdir(exist_ok=True)
    for name, colour in (("one.png", "red"), ("two.png", "blue"), ("mask.png", "white")):
        Image.new("RGB", (64, 64), colour).save(folder / name)
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    chosen, of = BatchSettings.of(**options), Source.of(str(folder / "rows.jsonl"))  # type: ignore[arg-type]
    return list(plan.rows(of, chosen, survey(of, chosen)))


def test_pictures_lie_beside_the_file_and_count_by_what_is_in_them(tmp_path: Path) -> None:
    cat: dict[str, object] = {"prompt": "a cat"}
    lines = [
        cat,
        {**cat, "image": "one.png"},
        {**cat, "image": "two.png"},
        {**cat, "init_image": "one.png", "image_strength": 0.5},
        {**cat, "image": "one.png", "mask": "mask.png"},
    ]
    found = beside(tmp_path / "run", *lines)
    assert len({row.id for row in found}) == len(lines)
    assert found[0].id == rows('{"prompt": "a cat"}')[0].id  # as before there were pictures
    elsewhere = beside(tmp_path / "moved", *lines)
    assert [row.id for row in elsewhere] == [row.id for row in found]
    again = beside(tmp_path / "run", *lines[:1], {**cat, "image": "mask.png"})
    assert again[1].id != found[1].id
    together = [[shot.row.number for shot in batch.shots] for batch in plan.batches(found, 8)]
    assert together == [[1], [2], [3], [4], [5]]  # only pictures from the same source are drawn together


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secret.png", "not in the folder"),
        ("link.png", "not in the folder"),
        ("nothing.png", "cannot read the picture nothing.png"),
        (".", "cannot read"),
        ("rows.jsonl", "not a picture"),
        ("a\0b.png", "not in the folder"),
        (7, "not a path"),
    ],
)
def test_no_row_draws_from_beyond_the_folder_of_its_file(tmp_path: Path, path: object, reason: str) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "secret.png")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    for given_ in (path, str(tmp_path / "secret.png")) if path == "../secret.png" else (path,):
        with pytest.raises(PromptError) as raised:
            beside(folder, {"prompt": "a cat", "image": given_})
        assert reason in raised.value.details[0]


def test_standard_input_and_the_whole_run_have_no_pictures() -> None:
    assert "no folder" in problems('{"prompt": "a cat", "image": "one.png"}')[0]
    assert "no picture to draw from" in problems('{"prompt": "a cat", "image_strength": 0.5}')[0]
    with pytest.raises(UsageError, match="belongs to a row"):
        BatchSettings.of(image=Image.new("RGB", (64, 64)))
