"""Folders that several commands, editors and people share: nothing is overwritten, nothing counts that is not there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from safegen import Generator
from safegen.batch import gallery
from safegen.batch.interrupt import Watch
from safegen.batch.local import LocalEngine
from safegen.batch.manifest import read_records, rewrite
from safegen.batch.readers import Source
from safegen.batch.run import prepare_run
from safegen.batch.run_folder import open_run_folder
from safegen.batch.store import GUEST, LOCK
from safegen.batch.worker import Worker
from safegen.cli import picture_folder
from safegen.errors import OutputError, UsageError
from tests.helpers.batches import draw, options, pictures, records
from tests.helpers.commands import ENTRY

MANIFEST = "metadata.jsonl"


def lines(folder: Path, name: str = MANIFEST) -> list[dict[str, Any]]:
    return list(read_records(folder / name))


def redraw(generator: Generator, out: Path, *prompts: str) -> list[str]:
    """The texts that the same command draws again."""
    before = {r["file_name"] for r in lines(out)}
    drawn = draw(generator, out, prompts, steps=1)
    assert drawn.left == 0
    assert len(lines(out)) == len({r["file_name"] for r in lines(out)}) >= len(prompts)
    return sorted(r["text"] for r in lines(out) if r["file_name"] not in before) + ["again"] * drawn.drawn


@pytest.mark.slow
def test_two_commands_at_once_keep_all_of_both(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENTRY, "generate", "a cat", "--steps", "1", "--seed", "7", "--images", "3"]
    both = [subprocess.Popen([*command, "--out", "o"], cwd=tmp_path, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
    names = [record["file_name"] for record in lines(tmp_path / "o")]
    assert len(set(names)) == 6
    assert set(names) == set(pictures(tmp_path / "o"))
    assert sorted(name[:4] for name in names) == [f"{i:04d}" for i in range(1, 7)]
    assert not list((tmp_path / "o").glob(GUEST.format("*")))


def a_picture(generator: Generator, out: Path, seed: int = 7) -> str:
    from safegen.models.options import DrawOptions

    (picture,), _ = generator.generate("a cat", DrawOptions(seed=seed, steps=1))
    with picture_folder.open_picture_folder(out) as kept:
        path, line = kept.add(picture.image, picture.record, "full")
    assert line["file_name"] == path.name
    return path.name


@pytest.mark.slow
def test_the_number_of_a_deleted_picture_is_not_given_again(generator: Generator, tmp_path: Path) -> None:
    first, second = a_picture(generator, tmp_path), a_picture(generator, tmp_path)
    (tmp_path / second).unlink()
    third = a_picture(generator, tmp_path)
    assert [name[:4] for name in (first, second, third)] == ["0001", "0002", "0003"]
    (tmp_path / MANIFEST).unlink()
    assert a_picture(generator, tmp_path)[:4] == "0004"


@pytest.mark.parametrize("end", [b"", b"\r\n", b'\n{"id": "torn', b"\n\n"])
def test_a_manifest_that_an_editor_or_a_crash_left_open_takes_another_line(
    generator: Generator, tmp_path: Path, end: bytes
) -> None:
    a_picture(generator, tmp_path)
    path = tmp_path / MANIFEST
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().rstrip(b"\n") + end)
    if b"torn" in end:
        rewrite(path, lambda _: True)
    a_picture(generator, tmp_path, seed=8)
    assert [record["seed"] for record in lines(tmp_path)] == [7, 8]


def test_a_folder_is_of_one_command(generator: Generator, tmp_path: Path) -> None:
    batch, own = tmp_path / "batch", tmp_path / "own"
    draw(generator, batch, ["a cat"], steps=1)
    with pytest.raises(UsageError, match="folder of a batch"), picture_folder.open_picture_folder(batch):
        pass
    a_picture(generator, own)
    with pytest.raises(UsageError, match="no batch made"), open_run_folder(own):
        pass
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "missing.jsonl").write_text('{"id": "1", "status": "error"}\n')
    with pytest.raises(UsageError, match="no batch made"), open_run_folder(tmp_path / "left"):
        pass


def test_a_batch_waits_for_a_guest_and_a_guest_for_a_batch(tmp_path: Path) -> None:
    another = pytest.raises(OutputError, match="another run")
    with (
        picture_folder.open_picture_folder(tmp_path),
        picture_folder.open_picture_folder(tmp_path),
        another,
        open_run_folder(tmp_path),
    ):
        pass
    with (
        open_run_folder(tmp_path),
        pytest.raises(OutputError, match="another run"),
        picture_folder.open_picture_folder(tmp_path),
    ):
        pass
    (tmp_path / GUEST.format("dead")).touch()  # of a command that was killed
    with open_run_folder(tmp_path):
        pass
    assert (tmp_path / LOCK).exists()
    with FileLock(tmp_path / LOCK, timeout=0):
        pass


@pytest.mark.parametrize("hand", ["a line twice", "lines of elsewhere", "a picture cut short", "a picture emptied"])
def test_what_was_edited_by_hand_counts_only_where_it_is_there(generator: Generator, tmp_path: Path, hand: str) -> None:
    draw(generator, tmp_path, ["a cat", "a dog"], steps=1)
    path = tmp_path / MANIFEST
    first, second = path.read_bytes().splitlines(keepends=True)
    picture = tmp_path / json.loads(second)["file_name"]
    if hand == "a line twice":
        path.write_bytes(first + first)
        picture.unlink()
    elif hand == "lines of elsewhere":
        other = json.loads(second) | {"file_name": "00002-00000000-1.png"}
        (tmp_path / other["file_name"]).write_bytes(picture.read_bytes())
        path.write_bytes(first + json.dumps(other).encode() + b"\n")
    else:
        picture.write_bytes(picture.read_bytes()[: 200 if hand == "a picture cut short" else 0])
    assert redraw(generator, tmp_path, "a cat", "a dog")[-1:] == ["again"]
    assert picture.is_file()


@pytest.mark.slow
def test_no_id_of_another_run_stands_in_for_one_of_this(generator: Generator, tmp_path: Path) -> None:
    """Ids are often plain numbers, and people put the pictures of several runs together."""

    def run(out: Path, *texts: str) -> int:
        rows = "\n".join(json.dumps({"id": str(i), "prompt": text}) for i, text in enumerate(texts, 1))
        source = Source("-", "jsonl", rows.encode())
        with prepare_run(source, options(steps=1), out) as ready:
            return ready.run(LocalEngine(lambda: Worker(generator, options(steps=1))), Watch()).drawn

    one, two = tmp_path / "one", tmp_path / "two"
    assert (run(one, "a cat", "a dog"), run(two, "an owl", "a dog")) == (2, 2)
    assert not {r["file_name"] for r in records(one) if r["text"] == "a cat"} & set(pictures(two))
    for name, content in pictures(one).items():
        (two / name).write_bytes(content)
    (two / MANIFEST).write_bytes((one / MANIFEST).read_bytes())
    assert run(two, "an owl", "a dog") == 1
    assert {r["text"] for r in lines(two)} == {"a cat", "a dog", "an owl"}
    (two / "missing.jsonl").write_text('{"id": "1", "row": 1, "status": "error", "text": "a cat"}\n')
    (two / MANIFEST).write_bytes((one / MANIFEST).read_bytes())
    assert run(two, "an owl", "a dog") == 1


def test_names_differ_between_runs_of_other_settings(generator: Generator, tmp_path: Path) -> None:
    for name, changes in (("a", {}), ("b", {"safeguard": "clamp"}), ("c", {"steps": 2})):
        draw(generator, tmp_path / name, ["a cat"], seed=3, **{"steps": 1, **changes})
    assert len({name for part in "abc" for name in pictures(tmp_path / part)}) == 3


@pytest.mark.slow
def test_ids_that_look_like_splits_load(generator: Generator, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    ids = ["test-1", "train-3", "val_2", "dev", "a/eval/b"]
    rows = "\n".join(json.dumps({"id": i, "prompt": "a cat"}) for i in ids)
    out = tmp_path / "run"
    with prepare_run(Source("-", "jsonl", rows.encode()), options(steps=1), out) as ready:
        ready.run(LocalEngine(lambda: Worker(generator, options(steps=1))), Watch())
    found = datasets.load_dataset("imagefolder", data_dir=str(out), split="train", cache_dir=str(tmp_path / "c"))
    assert sorted(found["id"]) == sorted(ids)


@pytest.mark.slow
def test_a_gallery_drops_what_is_gone_and_data_sets_load(
    generator: Generator, tmp_path: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    datasets = pytest.importorskip("datasets")
    batch, own = tmp_path / "batch", tmp_path / "own"
    draw(generator, batch, ["a cat", "a dog"], steps=1)
    gone = [batch / str(lines(batch)[0]["file_name"]), own / a_picture(generator, own), own / a_picture(generator, own)]
    a_picture(generator, own, seed=9)
    for path in gone:
        path.unlink()
    for folder, left in ((batch, 1), (own, 1)):
        assert command("gallery", str(folder)) == 0
        assert "removed.jsonl" in capsys.readouterr().err
        assert len(lines(folder)) == left
        assert {r["file_name"] for r in lines(folder, gallery.REMOVED)} == {p.name for p in gone if p.parent == folder}
        loaded = datasets.load_dataset(
            "imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "c" / folder.name)
        )
        assert [row["image"].size for row in loaded] == [(128, 128)] * left
        assert not any(p.name in (folder / gallery.NAME).read_text() for p in gone)
    with open_run_folder(batch):  # at work
        (batch / lines(batch)[0]["file_name"]).unlink()
        assert gallery.prune(batch) == 0
    assert gallery.prune(batch) == 0  # of pictures that are all elsewhere, records are kept
    assert len(lines(batch)) == 1
    with pytest.raises(UsageError, match="no records"):
        gallery.write(batch)
    assert gallery.prune(tmp_path / "nowhere") == 0
    assert not (tmp_path / "nowhere").exists()
