"""A batch on the real embedded model: records, resume, flags, faults, and every kind of death."""

from __future__ import annotations

import io
import json
import resource
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from safegen import Generator
from safegen.batch import plan
from safegen.batch.interrupt import Watch
from safegen.batch.local import LocalEngine
from safegen.batch.readers import Source
from safegen.batch.run import Summary, prepare_run
from safegen.batch.run_folder import open_run_folder
from safegen.batch.settings import BatchSettings, hash_text
from safegen.batch.validate import survey
from safegen.batch.worker import Worker
from safegen.errors import OutputError, UsageError
from safegen.guard.preparation import Prepared
from safegen.prompts.prompt import Prompt
from tests.helpers.batches import KNIFE, PROMPTS, check, draw, interrupted, options, pictures, records, start

MINOR = "a child, nude"


@pytest.fixture(scope="module")
def whole(generator: Generator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run; tests must not change it."""
    out = tmp_path_factory.mktemp("whole")
    draw(generator, out, PROMPTS)
    return out


def test_every_row_has_its_picture_and_its_record(whole: Path) -> None:
    check(whole)
    found = records(whole)
    assert [(r["text"], r["status"]) for r in found] == [
        (p, "sanitized" if p == KNIFE else "ok") for p in PROMPTS
    ]  # fmt: skip
    knife = found[1]
    words = {word["text"]: KNIFE[slice(*word["span"])] for word in knife["guard"]["words"]}
    assert "knife" in words  # and "kitchen": the phrase is what is harmful
    assert all(text == cut for text, cut in words.items())
    assert knife["guard"]["before"]["violence"]["flagged"] is True
    assert knife["guard"]["after"]["violence"]["flagged"] is False
    assert len(knife["guard"]["directions"]["violence"]) == 64
    assert knife["batch"] == 3
    assert knife["seconds"] > 0
    assert {"safegen", "torch"} <= set(knife["versions"])


def test_a_picture_of_a_batch_is_that_of_generate_but_for_rounding(generator: Generator, whole: Path) -> None:
    from safegen.models.options import DrawOptions

    for record in records(whole)[:2]:
        (alone,), _ = generator.generate(record["text"], DrawOptions(seed=record["seed"], steps=2))
        with Image.open(whole / record["file_name"]) as picture:
            apart = torch.tensor(list(picture.tobytes())).int() - torch.tensor(list(alone.image.tobytes())).int()
        assert int(apart.abs().max()) <= 1  # of 255: kernels round differently at another batch size


def test_a_benign_picture_is_that_of_a_loop_by_hand_bit_for_bit(generator: Generator, whole: Path) -> None:
    found = records(whole)[:3]  # one batch
    texts = [r["text"] for r in found]
    seeds = [torch.Generator().manual_seed(r["seed"]) for r in found]
    drawn = generator.pipe(texts, generator=seeds, num_inference_steps=2, guidance_scale=3.0).images
    for record, image in zip(found, drawn, strict=True):
        with Image.open(whole / record["file_name"]) as picture:
            assert (picture.tobytes() == image.tobytes()) == (record["status"] == "ok")


def test_the_same_command_again_draws_nothing_and_loads_nothing(whole: Path) -> None:
    before = pictures(whole), (whole / "metadata.jsonl").read_bytes()
    source = Source("-", "txt", "\n".join(PROMPTS).encode())
    with prepare_run(source, options(), whole) as ready:
        summary = ready.run(LocalEngine(lambda: pytest.fail("loaded a model")), Watch())
    assert (summary.left, summary.drawn, summary.exit_code) == (0, 0, 0)
    assert before == (pictures(whole), (whole / "metadata.jsonl").read_bytes())


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(generator: Generator, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        draw(generator, tmp_path, PROMPTS, watch=interrupted())
    assert len(pictures(tmp_path)) == 3
    # Of what is there, lose a record, a picture and the end of a line.
    manifest = tmp_path / "metadata.jsonl"
    first, second, *_ = manifest.read_bytes().splitlines(keepends=True)
    (tmp_path / json.loads(second)["file_name"]).unlink()
    manifest.write_bytes(first + second + b'{"id": "torn')
    (tmp_path / ".leftover.partial").touch()
    summary = draw(generator, tmp_path, PROMPTS)
    assert (summary.drawn, summary.left) == (4, 0)
    check(tmp_path)
    assert pictures(tmp_path) == pictures(whole)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["full", "mark", "none"])
def test_what_pictures_say_is_the_run_s_and_of_its_beginning(
    generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    draw(generator, tmp_path, PROMPTS[:2], record=kept)
    before, (first, _) = pictures(tmp_path), records(tmp_path)
    (tmp_path / first["file_name"]).unlink()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
    draw(generator, tmp_path, PROMPTS[:2], record=kept)
    assert pictures(tmp_path) == before  # to the byte, though it is another day
    assert {r["created"] for r in records(tmp_path)} == {"2026-01-01T00:00:00Z", "2027-01-15T08:00:00Z"}
    assert records(tmp_path)[1]["guard"]["words"]
    assert [b"knife" in content for content in pictures(tmp_path).values()].count(True) == (kept == "full")
    with pytest.raises(UsageError, match="other settings"):
        draw(generator, tmp_path, PROMPTS[:2], record="none" if kept == "mark" else "mark")


def test_a_record_broken_in_the_middle_is_not_passed_over(whole: Path, tmp_path: Path) -> None:
    lines = (whole / "metadata.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "metadata.jsonl").write_bytes(lines[0] + b"garbage\n" + lines[1])
    (tmp_path / "batch.json").write_bytes((whole / "batch.json").read_bytes())
    with open_run_folder(tmp_path) as folder, pytest.raises(OutputError, match="line 2"):
        folder.take_stock(retry=False)


def test_changed_settings_are_refused_with_the_difference(generator: Generator, whole: Path) -> None:
    with pytest.raises(UsageError, match="other settings") as raised:
        draw(generator, whole, PROMPTS, steps=3, strength=0.5)
    assert raised.value.details == ("steps: 2 -> 3", "strength: 1.0 -> 0.5")
    with pytest.raises(UsageError, match="other prompts") as raised:
        draw(generator, whole, [*PROMPTS, "a pizza"])
    assert "images: 5 -> 6" in raised.value.details


@pytest.mark.parametrize(("on_flag", "status"), [("skip", "skipped"), ("warn", "flagged")])
def test_what_to_do_with_a_flagged_prompt(generator: Generator, tmp_path: Path, on_flag: str, status: str) -> None:
    summary = draw(generator, tmp_path, PROMPTS[:3], on_flag=on_flag)
    assert (summary.counts, summary.exit_code) == ({"ok": 2, status: 1}, 0)
    check(tmp_path)
    found = records(tmp_path, "missing.jsonl" if on_flag == "skip" else "metadata.jsonl")
    assert [r["status"] for r in found if r["text"] == KNIFE] == [status]
    assert draw(generator, tmp_path, PROMPTS[:3], on_flag=on_flag).drawn == 0


@pytest.mark.parametrize("kept", ["mark", "full"])
def test_redact_keeps_hashes_alone(generator: Generator, tmp_path: Path, kept: str) -> None:
    draw(generator, tmp_path, PROMPTS[:2], redact=True, negative="a purple hat", record=kept)
    check(tmp_path)
    assert {r["text"] for r in records(tmp_path)} == {hash_text(p) for p in PROMPTS[:2]}
    kept = " ".join(p.read_text() for p in tmp_path.glob("*.json*"))
    for file in tmp_path.glob("*.png"):
        with Image.open(file) as picture:
            kept += json.dumps(picture.text)
    assert not [word for word in ("cat", "knife", "purple") if word in kept.lower()]


def test_the_one_refusal_fails_its_row_and_leaves_its_hash(generator: Generator, tmp_path: Path) -> None:
    summary = draw(generator, tmp_path, ["a cat", MINOR])
    assert (summary.counts, summary.exit_code) == ({"ok": 1, "error": 1}, 4)
    (record,) = records(tmp_path, "missing.jsonl")
    assert record["error"]["code"] == "refused"
    assert record["text"] == hash_text(MINOR)
    assert not [p for p in tmp_path.iterdir() if MINOR.encode() in p.read_bytes()]


def test_rows_with_concepts_and_strength_of_their_own(generator: Generator, tmp_path: Path) -> None:
    lines = [{"prompt": KNIFE, "id": "off", "strength": 0}, {"prompt": KNIFE, "id": "other", "concepts": "nudity"},
             {"prompt": KNIFE, "id": "on", "images": 2}]  # fmt: skip
    source = Source("-", "jsonl", "\n".join(map(json.dumps, lines)).encode())
    with prepare_run(source, options(), tmp_path) as ready:
        ready.run(LocalEngine(lambda: Worker(generator, options())), Watch())
    check(tmp_path)
    found = {r["id"]: (r["status"], list(r["guard"]["directions"])) for r in records(tmp_path)}
    assert found["off"][0] == found["other"][0] == "ok"
    assert found["other"][1] == ["nudity"]
    assert found["on#1"][0] == found["on#2"][0] == "sanitized"


class Faulty(Generator):
    """The real model with a fault laid into its denoising."""

    def __init__(self, generator: Generator, fault: Any) -> None:
        self.__dict__.update(generator.__dict__)
        self.fault, self.sizes = fault, []

    def draw(self, prepared: Any, options: Any, seeds: Any, on_step: Any = None) -> Any:
        self.sizes.append(len(seeds))
        self.fault(prepared, seeds)
        return super().draw(prepared, options, seeds, on_step)


def test_out_of_memory_halves_the_batch_and_remembers(generator: Generator, tmp_path: Path) -> None:
    def fault(_: Any, seeds: Sequence[int]) -> None:
        if len(seeds) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    faulty = Faulty(generator, fault)
    assert draw(faulty, tmp_path, PROMPTS, batch_size=4).counts == {"ok": 4, "sanitized": 1}
    assert faulty.sizes == [4, 2, 2, 1]
    assert [r["batch"] for r in records(tmp_path)] == [2, 2, 2, 2, 1]
    check(tmp_path)


@pytest.mark.slow
def test_out_of_memory_on_one_prompt_fails_that_one_and_a_retry_draws_it(
    generator: Generator, tmp_path: Path, whole: Path
) -> None:
    def fault(prepared: Sequence[Prepared], _: Any) -> None:
        if any(one.prompt.text == "a bee" for one in prepared):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    summary = draw(Faulty(generator, fault), tmp_path, PROMPTS)
    assert (summary.counts, summary.exit_code) == ({"ok": 3, "sanitized": 1, "error": 1}, 4)
    assert [(r["text"], r["error"]["code"]) for r in records(tmp_path, "missing.jsonl")] == [("a bee", "out_of_memory")]
    assert draw(generator, tmp_path, PROMPTS).exit_code == 4  # not without being asked
    summary = draw(generator, tmp_path, PROMPTS, retry=True)
    assert (summary.counts, summary.exit_code, summary.drawn) == ({"ok": 4, "sanitized": 1}, 0, 1)
    assert records(tmp_path, "missing.jsonl") == []
    check(tmp_path)
    bee = records(whole)[-1]["file_name"]
    assert pictures(tmp_path)[bee] == pictures(whole)[bee]


def test_nan_latents_are_reported_as_such(generator: Generator, tmp_path: Path, monkeypatch: Any) -> None:
    forward = generator.pipe.unet.forward

    def spoiled(sample: torch.Tensor, *rest: Any, **named: Any) -> Any:
        (noise,) = forward(sample, *rest, **named)
        noise[1::3] = float("nan")  # the second of three, in both halves of the guidance
        return (noise,)

    monkeypatch.setattr(generator.pipe.unet, "forward", spoiled)
    summary = draw(generator, tmp_path, PROMPTS[:3])
    assert summary.counts == {"ok": 2, "error": 1}
    (record,) = records(tmp_path, "missing.jsonl")
    assert record["error"]["code"] == "not_finite"
    assert "NaN" in record["error"]["message"]
    check(tmp_path)


@pytest.mark.slow
def test_max_errors_stops_the_run(generator: Generator, tmp_path: Path) -> None:
    def fault(*_: Any) -> None:
        raise RuntimeError("broken")

    summary = draw(Faulty(generator, fault), tmp_path, PROMPTS, batch_size=1, watch=Watch(max_errors=1))
    assert summary.exit_code == 4
    assert 2 <= summary.counts["error"] < len(PROMPTS)
    assert draw(generator, tmp_path, PROMPTS, batch_size=1, retry=True).counts == {"ok": 4, "sanitized": 1}


def test_a_folder_is_locked_while_a_run_writes_to_it(generator: Generator, tmp_path: Path) -> None:
    with open_run_folder(tmp_path), pytest.raises(OutputError, match="another run is writing"):
        draw(generator, tmp_path, PROMPTS)


def test_a_folder_of_other_pictures_is_left_alone(generator: Generator, tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match="no batch made"):
        draw(generator, tmp_path, PROMPTS)


def limited(bytes_: int) -> tuple[int, int]:
    """Files may grow to this size; what was allowed before."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, before[1]))
    return before


@pytest.mark.slow
@pytest.mark.parametrize("size", [2_000, 40_000])  # no picture fits; pictures fit, but not the fifteenth record
def test_a_disk_that_fills_loses_nothing(generator: Generator, tmp_path: Path, size: int, whole: Path) -> None:
    prompts = [f"a cat number {i}" for i in range(21)]
    changes = {"redact": True, "batch_size": 7, "steps": 1}
    before = limited(size)
    try:
        with pytest.raises(OutputError, match="cannot write"):
            draw(generator, tmp_path, prompts, **changes)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    manifest = tmp_path / "metadata.jsonl"
    assert not manifest.exists() or manifest.read_bytes()[-1:] == b"\n"
    assert not list(tmp_path.glob("*.partial"))
    draw(generator, tmp_path, prompts, **changes)
    check(tmp_path)
    assert len(records(tmp_path)) == 21


def test_auto_finds_what_fits(generator: Generator) -> None:
    assert Worker(generator, BatchSettings.of()).batch_size() == 16
    assert Worker(generator, BatchSettings.of(size=(512, 512))).batch_size() == 1


def test_auto_tries_out_what_fits_on_a_device() -> None:
    tried: list[int] = []

    class Device:
        """A device with room for ten small pictures, without a model."""

        pipe = SimpleNamespace(device="cuda")

        def resolve(self, _: Any) -> Any:
            return 1, 3.0, (128, 128)

        def prepare(self, prompts: list[Prompt]) -> list[Prompt]:
            return prompts

        def draw(self, prepared: list[Prompt], _: Any, seeds: range) -> None:
            tried.append(len(prepared))
            if len(seeds) > 10:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    assert Worker(Device(), BatchSettings.of()).batch_size() == 8  # type: ignore[arg-type]
    assert tried == [64, 32, 16, 8]


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": "safegen.batch/9"}', '{"schema": "safegen.batch/1"}'])
def test_a_side_file_that_cannot_be_used(tmp_path: Path, content: str) -> None:
    (tmp_path / "batch.json").write_text(content)
    with pytest.raises(OutputError, match=r"batch\.json"), open_run_folder(tmp_path):
        pass


def test_settings_of_another_version_are_refused(whole: Path) -> None:
    values = json.loads((whole / "batch.json").read_text())["settings"]
    assert BatchSettings.from_json(values) == options()
    with pytest.raises(OutputError, match="another version"):
        BatchSettings.from_json(values | {"new": 1})


@pytest.mark.slow
def test_memory_is_flat_in_the_number_of_prompts(generator: Generator, tmp_path: Path) -> None:
    """The bookkeeping alone: a stub denoiser, as the issue allows; and no guard, which costs 20 ms a row."""
    import tracemalloc

    class Stub(Generator):
        def __init__(self) -> None:
            super().__init__(generator.pipe, None, "embedded")

        def draw(self, prepared: Any, options: Any, seeds: Any, on_step: Any = None) -> Any:
            return [Image.new("RGB", (8, 8))] * len(seeds)

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            draw(Stub(), tmp_path / str(count), [f"a cat {i}" for i in range(count)], guarded=False, batch_size=16)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(32)  # imports
    assert peak(320) - peak(32) < 1_000_000  # the records alone would take more


def wait_for(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    while len(list(out.glob("*.png"))) < count and process.poll() is None:
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_again_and_again_it_ends_as_if_nothing_had_been(generator: Generator, tmp_path: Path) -> None:
    out, other = tmp_path / "killed", tmp_path / "whole"
    for goal in (1, 4, 9):
        process = start(out)
        wait_for(out, goal, process)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        for content in pictures(out).values():  # none is half-written, whatever moment it was
            Image.open(io.BytesIO(content)).load()
    process = start(out)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    draw(generator, other, [f"a cat number {i}" for i in range(12)])
    check(out)
    assert pictures(out) == pictures(other)
    assert [r["id"] for r in records(out)] == [r["id"] for r in records(other)]


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_once_finishes_what_is_in_flight_and_twice_stops(tmp_path: Path, times: int) -> None:
    out = tmp_path / "o"
    process = start(out, "--steps", str(100 * times))
    while not (out / "batch.json").exists():
        assert process.poll() is None
        time.sleep(0.02)
    for _ in range(times):
        time.sleep(1)
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert len(pictures(out)) == (3 if times == 1 else 0)
    check(out)


@pytest.mark.slow
def test_the_command(run: Any, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat\na cat and a kitchen knife\na cat\n")
    dry = run("batch", "p.txt", "--dry-run")
    assert "2 prompts, 2 pictures in 1 batches" in dry.stderr
    assert "1 prompts are flagged; violence: 1" in dry.stderr
    assert not (tmp_path / "safegen-batch").exists()
    done = run("batch", "-", "--steps", "2", "--json", stdin=(tmp_path / "p.txt").read_bytes())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"] == {"ok": 1, "sanitized": 1}
    assert "line 3 repeats line 1" in done.stderr
    assert "images per second" in done.stderr
    assert run("batch", "--resume", "safegen-batch", "p.txt").returncode == 0
    again = run("batch", "--resume", "safegen-batch", "p.txt", "--steps", "3")
    assert (again.returncode, "Leave out: steps" in again.stderr) == (2, True)
    other = run("batch", "p.txt", "--steps", "3")
    assert (other.returncode, "steps: 2 -> 3" in other.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "no prompt file"),
        (("none.txt",), 2, "cannot read none.txt"),
        (("-",), 2, "standard input"),
        (("p.xlsx",), 2, "--format"),
        (("-", "--format", "odt"), 2, "unknown format 'odt'"),
        (("bad.jsonl",), 2, "line 1: unknown field 'pronpt'"),
        (("p.txt", "--on-flag", "hope"), 2, "--on-flag"),
        (("p.txt", "--batch-size", "some"), 2, "--batch-size"),
        (("p.txt", "--engine", "steam"), 2, "--engine"),
        (("p.txt", "--size", "100"), 2, "multiples of 8"),
        (("p.txt", "-c", "violense"), 2, "Did you mean"),
        (("--resume", "nowhere"), 2, "no run in nowhere"),
        (("p.txt", "--out", "p.txt"), 1, "cannot write"),
    ],
)
def test_bad_input(run: Any, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    (tmp_path / "p.txt").write_text("a cat\n")
    (tmp_path / "bad.jsonl").write_text('{"pronpt": "a cat"}\n')
    done = run("batch", *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_row_draws_from_its_picture_and_a_resumed_run_knows_when_it_is_another_one(
    generator: Generator, tmp_path: Path
) -> None:
    file, chosen, out = tmp_path / "rows.csv", options(), tmp_path / "run"
    file.write_text("prompt,image,image_strength,images\na dog,from.png,0.8,2\na cat,,,\n")
    Image.new("RGB", (128, 128), "red").save(tmp_path / "from.png")

    def drawn() -> Summary:
        with prepare_run(Source.of(str(file)), chosen, out) as ready:
            return ready.run(LocalEngine(lambda: Worker(generator, chosen)), Watch())

    assert drawn().counts == {"ok": 3}
    check(out)
    dog, other, cat = records(out)
    assert dog["input"] == other["input"]
    assert dog["input"]["image"]["name"] == "from.png"
    assert dog["input"]["strength"] == 0.8
    assert "input" not in cat
    before = pictures(out)
    assert drawn().drawn == 0
    Image.new("RGB", (128, 128), "blue").save(tmp_path / "from.png")
    with pytest.raises(UsageError, match="other prompts"):
        drawn()
    assert pictures(out) == before


def test_a_picture_that_changes_before_its_row_is_drawn_fails_that_row_alone(
    generator: Generator, tmp_path: Path
) -> None:
    file, chosen = tmp_path / "rows.csv", options()
    file.write_text("prompt,image\na dog,from.png\na cat,\n")
    Image.new("RGB", (128, 128), "red").save(tmp_path / "from.png")
    of = Source.of(str(file))
    planned = list(plan.batches(plan.rows(of, chosen, survey(of, chosen)), 2))
    Image.new("RGB", (128, 128), "blue").save(tmp_path / "from.png")
    worker = Worker(generator, chosen)
    found = {one.record["text"]: one.record for batch in planned for one in worker.draw(batch)}
    assert found["a dog"]["error"]["code"] == "picture"
    assert "has changed" in found["a dog"]["error"]["message"]
    assert found["a cat"]["status"] == "ok"
