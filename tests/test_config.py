"""The settings file, what goes before it, and the doctor that says where each setting comes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from safegen.cli import app, config
from safegen.errors import UsageError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(printed: str, schema: str) -> dict[str, dict[str, Any]]:
    found = map(json.loads, printed.splitlines())
    return {line["name"]: line for line in found if line["schema"] == schema}


def test_flags_go_before_the_environment_before_the_file_before_the_defaults(
    here: Path,
    command: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (here / config.FILE).write_text('device = "cuda"\ndtype = "float16"\nstrength = 0\n')
    monkeypatch.setenv("SAFEGEN_DEVICE", "mps")
    monkeypatch.setenv("SAFEGEN_DTYPE", "float32")
    assert command("doctor", "--device", "cpu", "--json") == 0
    printed, told = capsys.readouterr()
    assert "safegen.toml: device = cuda, dtype = float16, strength = 0" in told
    found = lines(printed, "safegen.setting/1")
    assert {name: (found[name]["value"], found[name]["source"]) for name in ("device", "dtype", "strength", "out")} == {
        "device": ("cpu", "flag"),
        "dtype": ("float32", "environment"),
        "strength": ("0.0", "safegen.toml"),
        "out": ("safegen-out", "default"),
    }
    assert set(found) == set(config.NAMES)
    checks = lines(printed, "safegen.finding/1")
    assert all(check["good"] for check in checks.values())
    assert checks["guard of the embedded model"]["found"].startswith("7 concepts by reader and directions, 0 flagged")


def test_pictures_are_drawn_as_the_file_says(
    here: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (here / config.FILE).write_text('safeguard = "clamp"\nstrength = 0.75\nout = "mine"\n')
    assert command("generate", "a cat", "--steps", "1", "--seed", "1", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["guard"]["safeguard"], record["guard"]["strength"]) == ("clamp", 0.75)
    assert (here / "mine" / record["file_name"]).is_file()


@pytest.mark.parametrize("kept", ["full", "none"])
def test_what_pictures_say_is_a_setting(here: Path, command: Callable[..., int], kept: str) -> None:
    (here / config.FILE).write_text(f'record = "{kept}"\nout = "mine"\n')
    assert command("generate", "a cat", "--steps", "1", "--seed", "1") == 0
    (path,) = (here / "mine").glob("*.png")
    assert (b"a cat" in path.read_bytes()) == (kept == "full")


def test_the_doctor_fails_where_the_model_is_not_here(
    here: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("doctor", "--model", "sdxl", "--json") == 1
    check = lines(capsys.readouterr().out, "safegen.finding/1")["model sdxl"]
    assert not check["good"]
    assert "safegen pull sdxl" in check["hint"]


@pytest.mark.parametrize("content", [b'modle = "sdxl"', b"strength = true", b"model = [1]", b"model =", b"\xff\xff"])
def test_a_file_that_says_something_else_is_refused(
    here: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (here / config.FILE).write_bytes(content)
    with pytest.raises(UsageError):
        config.read(here)
    assert command("score", "a cat") == 2
    assert "safegen.toml" in capsys.readouterr().err


def test_a_strength_of_the_file_is_held_to_its_range(
    here: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (here / config.FILE).write_text("strength = 9\n")
    assert command("generate", "a cat") == 2
    assert "strength" in capsys.readouterr().err


def test_only_options_that_the_environment_may_set_are_set_by_the_file() -> None:
    found = config.defaults(typer.main.get_command(app), dict.fromkeys(config.NAMES, "x"))
    assert found["pull"] == {}  # its argument is called model
    assert "out" not in found["directions"]["learn"]
    assert set(found["generate"]) == set(config.NAMES)
    assert "api_key" not in found["serve"]
