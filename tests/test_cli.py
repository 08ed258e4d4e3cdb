"""The commands as a user runs them: output, records, exit codes, and every bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from safegen.cli import entry
from tests.helpers.commands import ENTRY, HANDLED

KNIFE = "a cat and a kitchen knife"
FAST = ("--steps", "3", "--seed", "7")


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


@pytest.mark.slow
def test_generate_saves_a_picture_its_record_and_shows_the_table(run, tmp_path: Path) -> None:
    done = run("generate", KNIFE, *FAST)
    assert done.returncode == 0, done.stderr
    path = tmp_path / done.stdout.strip()
    assert size_of(path) == (128, 128)
    for expected in ("knife", "violence", "sanitized", "drawn as: a cat", "--model sd15"):
        assert expected in done.stderr
    record = json.loads((path.parent / "metadata.jsonl").read_text())
    assert record["file_name"] == path.name
    assert record["text"] == KNIFE
    assert record["status"] == "sanitized"
    shown = run("show", str(path))
    assert "knife: " in shown.stdout
    assert "violence" in shown.stdout
    assert "trainedAlgorithmicMedia" in shown.stdout
    assert shown.stdout.count(KNIFE) == 1


def test_json_has_the_promised_fields(run) -> None:
    done = run("score", KNIFE, "a cat", "--json")
    assert done.returncode == 0, done.stderr
    harmful, benign = map(json.loads, done.stdout.splitlines())
    assert harmful["schema"] == "safegen.score/2"
    assert harmful["flagged"] is True
    assert benign["flagged"] is False
    assert set(harmful["concepts"]["violence"]) == {"score", "z", "percentile", "threshold", "margin", "flagged"}
    word = harmful["words"][-1]
    assert word["text"] == "knife"
    assert word["causes"]["violence"] == max(w["causes"]["violence"] for w in harmful["words"] if "causes" in w)
    assert harmful["senses"] == ["reader"]
    assert any(KNIFE[slice(*span["span"])].endswith("knife") for span in harmful["spans"])
    assert benign["spans"] == harmful["unread"] == []
    assert KNIFE[slice(*word["span"])] == "knife"
    assert set(word["scores"]) == set(harmful["concepts"])
    assert harmful["truncated"] == ""


def test_fail_on_flag_makes_a_gate(command: Callable[..., int]) -> None:
    assert command("score", "a cat", "--fail-on-flag") == 0
    assert command("score", KNIFE, "--fail-on-flag") == 3
    assert command("score", "\u732b", "--fail-on-flag") == 3  # nobody has judged it


def test_what_nobody_can_judge_is_not_called_benign(command: Callable[..., int], capsys: Any) -> None:
    assert command("score", "un hombre con una mesa") == 0
    told = capsys.readouterr().out
    assert "not judged" in told
    assert "benign" not in told


def test_a_pictograph_is_one_word_with_its_name_as_its_cause(command: Callable[..., int], capsys: Any) -> None:
    assert command("score", "a dog and a \U0001f52a", "--json") == 0
    (*_, last) = json.loads(capsys.readouterr().out)["words"]
    assert (last["text"], last["flagged"]) == ("\U0001f52a", ["violence"])
    assert last["causes"]["violence"] > 0


def test_tokens_are_in_the_json_that_asks_for_them(command: Callable[..., int], capsys: Any) -> None:
    assert command("score", "a cat", "--tokens", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["tokens"]) > 2


@pytest.mark.slow
def test_prompts_come_from_files_and_stdin(run, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("# two\na cat\na dog\n")
    assert len(run("score", "--json", "--file", "p.txt").stdout.splitlines()) == 2
    assert len(run("score", "--json", stdin=b"a cat\na dog\na bee\n").stdout.splitlines()) == 3
    assert len(run("score", "--json", "-", stdin=b"a cat\n").stdout.splitlines()) == 1


@pytest.mark.slow
def test_tokens_show_the_special_ones(run) -> None:
    shown = run("score", KNIFE, "--tokens").stdout
    assert all(special in shown for special in ("[start]", "[end]", "[pad]"))


def test_a_prompt_cannot_steer_the_terminal(run) -> None:
    done = run("score", "[bold]a cat[/red] \x1b[31mred\x07 \u202eevil", "--concept", "violence")
    assert done.returncode == 0, done.stderr
    assert "[bold]a cat[/red]" in done.stdout
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout


@pytest.mark.slow
def test_no_guard_shows_a_banner_and_says_so_in_the_record(run, tmp_path: Path) -> None:
    done = run("generate", "a cat", "--no-guard", *FAST)
    assert "guard is off" in done.stderr
    assert json.loads((tmp_path / "safegen-out" / "metadata.jsonl").read_text())["guard"]["safeguard"] == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "inside"),
    [
        ((), "how it was generated"),
        (("--record", "mark"), "how it was generated"),
        (("--record", "none"), "the source type alone"),
        (("--record", "full"), "the whole record"),
    ],
)
def test_a_picture_says_what_it_is_told_to(
    command: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: tuple[str, ...],
    inside: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("generate", KNIFE, "--negative", "fog", "--compare", *asked, *FAST) == 0
    manifest = Path("safegen-out", "metadata.jsonl")
    assert json.loads(manifest.read_text())["guard"]["words"]
    for path in Path("safegen-out").glob("*.png"):
        told = path.read_bytes().decode("latin-1")
        assert "trainedAlgorithmicMedia" in told
        assert [word in told for word in ("knife", "fog", "sanitized")] == [inside == "the whole record"] * 3
    (path,) = Path("safegen-out").glob("*-7.png")
    capsys.readouterr()
    assert command("show", str(path)) == 0
    told = capsys.readouterr().out
    assert inside in told
    assert "knife: " in told  # the manifest is beside it
    manifest.unlink()
    assert command("show", str(path)) == 0
    told = capsys.readouterr().out
    assert ("knife" in told, "beside" in told) == (inside == "the whole record", False)
    assert "trainedAlgorithmicMedia" in told


def test_a_picture_without_anything_is_no_record(run, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    assert "carries no record" in run("show", "plain.png").stderr


@pytest.mark.slow
def test_compare_images_and_preview(run, tmp_path: Path) -> None:
    done = run("generate", KNIFE, "--compare", "--images", "2", "--preview", "--json", "--out", "o", *FAST)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["seed"] for line in done.stdout.splitlines()] == [7, 8]
    pairs = sorted((tmp_path / "o").glob("*-compare.png"))
    assert [size_of(p) for p in pairs] == [(264, 128)] * 2
    assert "\u2580" in done.stderr
    shown = run("show", str(pairs[0]))
    assert "drawn without the guard, on the left" in " ".join(shown.stdout.split())


@pytest.mark.slow
def test_directions_info_and_verify(run) -> None:
    infos = [json.loads(line) for line in run("directions", "info", "violence", "--json").stdout.splitlines()]
    assert {info["concept"] for info in infos} == {"violence"}
    assert {"safegen.direction/4", "safegen.edit/1"} <= {info["schema"] for info in infos}
    verified = run("directions", "verify")
    assert verified.returncode == 0, verified.stdout
    rows = [re.split(r"\s{2,}", line.strip()) for line in verified.stdout.splitlines() if "sound" in line]
    assert sum(channel == "text" for _, channel, _ in rows) == 7
    assert {"latent, woman-unet", "edits, rece-unet"} <= {channel for _, channel, _ in rows}


BAD = {
    "empty prompt": (("generate", ""), 2, "empty"),
    "the second of two is empty": (("score", "a cat", ""), 2, "prompt 2: the prompt is empty"),
    "control characters alone": (("generate", "\x01\x02"), 2, "empty"),
    "unknown option": (("generate", "a cat", "--nonsense"), 2, "nonsense"),
    "unknown concept": (("score", "a cat", "-c", "violense"), 2, "Did you mean 'violence'?"),
    "strength out of range": (("generate", "a cat", "--strength", "9"), 2, "strength"),
    "unknown safeguard": (("generate", "a cat", "--safeguard", "hope"), 2, "unknown safeguard"),
    "unknown cause": (("score", "a cat", "--cause", "some"), 2, "--cause"),
    "pairs without prompts": (("directions", "learn", "hate", "--pairs", "empty.csv"), 2, "empty.csv"),
    "unknown suite": (("bench", "luck"), 2, "unknown suite"),
    "text suite without data": (("bench", "text"), 2, "--data"),
    "sets suite without sets": (("bench", "sets"), 2, "--set"),
    "unknown record": (("generate", "a cat", "--record", "some"), 2, "full, mark, none"),
    "negative prompt of controls": (("generate", "a cat", "--negative", "\x01"), 2, "negative prompt"),
    "bad size": (("generate", "a cat", "--size", "big"), 2, "WIDTHxHEIGHT"),
    "no such file": (("score", "--file", "none.txt"), 2, "cannot read none.txt"),
    "no such picture": (("show", "none.png"), 2, "no picture"),
    "model not in the cache": (("generate", "a cat", "--model", "sd15", "--offline"), 1, "not in the local cache"),
    "no such model": (("generate", "a cat", "--model", "./nowhere"), 1, "no model named"),
    "no such direction": (("directions", "info", "nothing"), 2, "unknown concept"),
    "compare without guard": (("generate", "a cat", "--compare", "--no-guard"), 2, "--compare"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_a_hint_and_a_code(run, tmp_path: Path, case: str) -> None:
    arguments, code, words = BAD[case]
    (tmp_path / "empty.csv").write_text("a,b\n")
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.slow
def test_bytes_that_are_not_text(run, tmp_path: Path) -> None:
    done = run("score", stdin=b"a cat\n\xff\xfe\n")
    assert (done.returncode, "stdin, line 2" in done.stderr) == (2, True)
    for words in ([b"\xff\xfe"], [b"a cat", b"--negative", b"fog \xff"], [b"a cat", b"--concept", b"\xff"]):
        argument = subprocess.run(
            [sys.executable, "-c", ENTRY, "generate", *words], cwd=tmp_path, capture_output=True, check=False
        )
        assert argument.returncode == 2
        assert b"Traceback" not in argument.stderr
        assert b"UTF-8" in argument.stderr or b"unknown concept" in argument.stderr


def test_a_picture_that_is_none(run, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    assert run("show", "x.png").returncode == 2


def test_an_output_folder_that_is_a_file(run, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    done = run("generate", "a cat", "--out", "taken", *FAST)
    assert (done.returncode, "cannot write" in done.stderr) == (1, True)


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_behind(run, tmp_path: Path) -> None:
    """/dev/full cannot hold a folder, so the limit is on file size: the picture does not fit."""
    script = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); {ENTRY}"
    done = subprocess.run(
        [sys.executable, "-c", script, "generate", "a cat", *FAST],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "cannot write" in done.stderr
    assert [p for p in (tmp_path / "safegen-out").iterdir() if p.stat().st_size] == []


@pytest.mark.slow
def test_interrupting_leaves_nothing_half_written(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", f"{HANDLED}; {ENTRY}", "generate", "a cat", "--steps", "1000", "--out", "o"],
        cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    assert process.stderr is not None
    while "model:" not in (line := process.stderr.readline()):
        assert line, "ended early"
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert list((tmp_path / "o").iterdir()) == []


def test_a_reader_who_leaves_ends_the_program_in_silence() -> None:
    code = "from safegen.cli import entry; entry.run(lambda: print('x' * 10**6))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_somebody_elses_broken_pipe_does_not_go_by_in_silence() -> None:
    def program() -> None:
        raise BrokenPipeError("a worker's")

    with pytest.raises(BrokenPipeError, match="a worker's"):
        entry.run(program)
