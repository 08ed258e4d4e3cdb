"""What a picture says of itself: all, how it was generated, or that a machine made it."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from safegen import records
from safegen.errors import UsageError
from safegen.files import readable
from safegen.generator import Generator
from safegen.models.options import DrawOptions
from safegen.pictures import metadata
from safegen.records import Picture, Record

PROMPT = "a dog and a blue boat"
# How the web UI finds the settings in the last line.
FOUND = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


@pytest.fixture(scope="module")
def picture(generator: Generator) -> Picture:
    (one,), _ = generator.generate(PROMPT, DrawOptions(seed=7, steps=1, negative="fog"))
    return one


def inside(record: Record) -> dict[str, Any]:
    """A record as a picture holds it, where the text is called prompt."""
    said = record.as_json()
    return {"prompt": said.pop("text"), **said}


def parsed(parameters: str) -> dict[str, str]:
    last = parameters.rsplit("\n", maxsplit=1)[-1]
    return {k: json.loads(v) if v[:1] == '"' else v for k, v in FOUND.findall(last)}


@pytest.mark.parametrize(
    "model", ["embedded", "SD 1.5, mine", "a:b", 'an "anime" one', "Steps: 3, Seed: 9", "two\nlines", "back\\slash, x"]
)
@pytest.mark.parametrize("kept", ["full", "mark"])
def test_other_tools_read_every_value(picture: Picture, kept: str, model: str) -> None:
    record = {**inside(picture.record), "model": model}
    said = record if kept == "full" else metadata.mark(record)
    found = parsed(metadata.parameters_line(said))
    assert (found["Model"], found["Seed"], found["Steps"], found["Size"]) == (model, "7", "1", "128x128")
    assert found["Date"] == record["created"]


def test_a_mark_tells_how_it_was_generated_and_nothing_of_the_prompt(picture: Picture, tmp_path: Path) -> None:
    picture.save(tmp_path / "x.png")
    found = metadata.read_picture(tmp_path / "x.png")
    record = found["record"]
    assert set(record) == {"schema", "model", "seed", "steps", "size", "created", "guard", "versions"}
    assert (record["schema"], record["seed"], record["steps"]) == (metadata.MARK, 7, 1)
    assert record["guard"] == {"safeguard": "localise", "strength": 1.0}
    assert record["created"] == "2026-01-01T00:00:00Z"
    assert found["source_type"] == "trainedAlgorithmicMedia"
    content = (tmp_path / "x.png").read_bytes()
    for secret in (*PROMPT.split(" and "), "fog", picture.record.id, "violence"):
        assert secret.encode() not in content


def test_none_leaves_the_mark_of_ai_alone_and_full_says_all(picture: Picture, tmp_path: Path) -> None:
    picture.save(tmp_path / "none.png", "none")
    with Image.open(tmp_path / "none.png") as bare:
        assert list(bare.text) == ["XML:com.adobe.xmp"]
    assert metadata.read_picture(tmp_path / "none.png")["source_type"] == "trainedAlgorithmicMedia"
    picture.save(tmp_path / "full.png", "full")
    assert metadata.read_picture(tmp_path / "full.png")["record"] == {
        "schema": metadata.SCHEMA,
        **inside(picture.record),
    }
    unknown: Any = "some"
    with pytest.raises(UsageError, match="some"):
        picture.save(tmp_path / "some.png", unknown)
    assert not (tmp_path / "some.png").exists()


def test_pictures_of_older_versions_are_read(picture: Picture, tmp_path: Path) -> None:
    old = {key: value for key, value in inside(picture.record).items() if key != "created"}
    metadata.save_picture(picture.image, tmp_path / "old.png", old, "full")
    assert metadata.read_picture(tmp_path / "old.png")["record"]["prompt"] == PROMPT
    metadata.save_picture(picture.image, tmp_path / "marked.png", old)
    assert "Date" not in parsed(metadata.read_picture(tmp_path / "marked.png")["parameters"])


@pytest.mark.parametrize("line", ['{"file_name": "x.png", "seed": 8}', "{torn x.png", '["x.png"]', ""])
def test_a_manifest_of_other_pictures_says_nothing_of_this_one(picture: Picture, tmp_path: Path, line: str) -> None:
    picture.save(tmp_path / "x.png")
    (tmp_path / "metadata.jsonl").write_text(f"{line}\n")
    assert metadata.read_picture(tmp_path / "x.png")["beside"] is None


def test_the_time_is_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    told = datetime.strptime(records.now(), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    assert abs((datetime.now(timezone.utc) - told).total_seconds()) < 5


@pytest.mark.parametrize("name", [b"model-\xff", b"\xe9t\xe9"])
def test_names_that_are_no_text_are_escaped(picture: Picture, name: bytes) -> None:
    record = {**inside(picture.record), "model": readable(os.fsdecode(name))}
    assert metadata.encode_picture(picture.image, record, "full")
