"""Small habits of people and of their other tools: marks, line ends, home folders, seeds, words without quotes."""

from __future__ import annotations

import importlib
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import save_file

from safegen import Generator, Guard
from safegen.batch import gallery, plan
from safegen.batch.readers import Source
from safegen.batch.run import prepare_run
from safegen.batch.settings import BatchSettings
from safegen.batch.validate import survey
from safegen.cli import app, config, console, directions, picture_folder
from safegen.cli.commands import COMMANDS
from safegen.directions import bundle, recipes, store
from safegen.directions.direction import Direction
from safegen.directions.recipes import Concept
from safegen.errors import ModelError, PromptError, SafegenError, UsageError
from safegen.models import adapters, catalog
from safegen.models.adapters import Addition
from safegen.models.options import MAX_SEED, DrawOptions, check_seeds
from safegen.pictures import metadata
from safegen.prompts import datasets
from safegen.prompts.prompt import gather
from tests.helpers.commands import ENTRY

BOM = b"\xef\xbb\xbf"
RECIPE = b'[targets]\n"a banana" = "an apple"\n'
ENDS = {"unix": b"\n", "windows": b"\r\n", "old mac": b"\r"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("mark", [b"", BOM])
def test_every_file_is_read_with_any_line_end_and_with_a_mark(here: Path, mark: bytes, end: str) -> None:
    def written(name: str, content: bytes) -> Path:
        (here / name).write_bytes(mark + content.replace(b"\n", ENDS[end]))
        return here / name

    assert [p.text for p in gather([], written("p.txt", b"# two\n\na cat\n a dog\n"))] == ["a cat", "a dog"]
    for name, content in {
        "q.txt": b"# two\na cat\na dog\n",
        "q.jsonl": b'{"prompt": "a cat"}\n\n{"prompt": "a dog"}\n',
        "q.csv": b'prompt,seed\n"a cat,\nasleep",1\na dog,2\n',
    }.items():
        found = survey(Source.of(str(written(name, content))), BatchSettings.of())
        assert (found.rows, found.images) == (2, 2)
    assert recipes.parse(written("concept.toml", RECIPE)).targets == {"a banana": "an apple"}
    written(config.FILE, b'# mine\nmodel = "sdxl"\nstrength = 1\n')
    assert config.read(here) == {"model": "sdxl", "strength": 1}


def test_a_bad_line_has_the_number_that_editors_show(here: Path) -> None:
    (here / "p.txt").write_bytes(b"a cat\ra dog\r\xff\xfe\r")
    with pytest.raises(PromptError, match=r"p\.txt, line 3"):
        gather([], here / "p.txt")
    (here / "p.jsonl").write_bytes(b'{"prompt": "a cat"}\r\r{}\r')
    with pytest.raises(PromptError) as raised:
        survey(Source.of("p.jsonl"), BatchSettings.of())
    assert raised.value.details == ("line 3: there is no prompt",)


def test_a_pipe_is_read_once_and_used_twice(here: Path) -> None:
    os.mkfifo(here / "pipe.txt")
    writer = subprocess.Popen([sys.executable, "-c", "open('pipe.txt', 'w').write('a cat\\n')"])
    source = Source.of("pipe.txt")
    writer.wait()
    assert survey(source, BatchSettings.of()) == survey(source, BatchSettings.of())


def taken(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """By name, the type of every parameter of a command, and how it is said on the command line."""
    hints = get_type_hints(function, include_extras=True)
    whole = {name: getattr(hint, "__metadata__", None) and hint for name, hint in hints.items()}
    return {name: (hint.__origin__, hint.__metadata__[0]) for name, hint in whole.items() if hint is not None}


def test_the_home_folder_is_known_in_every_path(empty_home: Path) -> None:
    named = [place.split(":") for place, _ in COMMANDS.values()]
    alone = [getattr(importlib.import_module(f"safegen.cli.{module}"), name) for module, name in named if name != "app"]
    functions = [*alone, *(command.callback for command in directions.app.registered_commands)]
    paths = ("model", "embedding", "lora", "resume", "out")
    seen = 0
    for function in functions:
        assert function is not None
        for name, (kind, said) in taken(function).items():
            where = f"{function.__name__} {name}"
            if "Path" in str(kind) or (name in paths and where != "pull model") or where == "batch prompts":
                seen += 1
                assert said.parser is not None, where
                assert str(said.parser("~/x:0.8")) == f"{empty_home}/x:0.8"
                assert str(said.parser("a~/x")) == "a~/x"
    assert seen > 30


def test_every_command_has_a_line_of_help_that_fits_and_loads_alone() -> None:
    group: Any = typer.main.get_command(app)
    assert list(group.commands) == list(COMMANDS)
    for name, (_, says) in COMMANDS.items():
        assert len(says) < 60
        assert group.commands[name].name == name
        assert group.commands[name].help


def test_the_help_of_all_commands_imports_none_of_them() -> None:
    code = "import sys, safegen.cli; print(*(m for m in sys.modules if m.startswith('safegen')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {f"safegen.cli.{place.split(':')[0]}" for place, _ in COMMANDS.values()}.isdisjoint(loaded)


def test_the_home_folder_is_known_in_settings_and_the_environment(
    here: Path, empty_home: Path, command: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (here / config.FILE).write_text('out = "~/pictures"\n')
    monkeypatch.setenv("SAFEGEN_DIRECTIONS", "~/mine")
    assert command("doctor", "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    values = {line["name"]: line["value"] for line in found if line["schema"] == "safegen.setting/1"}
    assert (values["out"], values["directions"]) == (f"{empty_home}/pictures", f"{empty_home}/mine")
    assert not (here / "~").exists()
    monkeypatch.setenv("SAFEGEN_CACHE", "~/kept")
    assert store.cache_folder().is_relative_to(empty_home / "kept")


@pytest.mark.parametrize("kind", [str, Path])
def test_the_library_knows_the_home_folder_as_well(
    here: Path, empty_home: Path, generator: Generator, kind: Callable[[str], Any]
) -> None:
    mine = empty_home / "mine"
    (mine / "banana").mkdir(parents=True)
    (mine / "banana" / "concept.toml").write_bytes(RECIPE)
    (empty_home / "p.txt").write_text("a cat\n")
    (empty_home / "p.csv").write_text("prompt\na cat\n")
    (empty_home / config.FILE).write_text("strength = 1\n")
    (empty_home / "model").mkdir()
    (empty_home / "model" / "model_index.json").write_text("{}")
    save_file({"<toy>": torch.ones(1, 4)}, empty_home / "toy.safetensors")

    assert Guard("banana", folder=kind("~/mine")).options.folder == mine
    assert recipes.known(kind("~/mine"))["banana"] == mine / "banana"
    assert Concept.load("~/mine/banana").name == Concept.load("banana", kind("~/mine")).name == "banana"
    assert store.learned_folder("banana", kind("~/mine")) == store.learned_folder("~/mine/banana") == mine
    assert [prompt.text for prompt in gather([], kind("~/p.txt"))] == ["a cat"]
    assert [entry.prompt for entry in datasets.read(kind("~/p.csv"))] == ["a cat"]
    assert config.read(kind("~")) == {"strength": 1}

    (added,) = adapters.list_additions([kind("~/toy.safetensors")])
    assert added.path == empty_home / "toy.safetensors"
    assert Addition.lora("~/style.safetensors:0.8") == Addition("lora", empty_home / "style.safetensors", 0.8)
    assert catalog.locate("~/model") == f"{empty_home}/model"
    with pytest.raises(ModelError, match="no model named '~nobody-of-this-name/model'"):
        catalog.locate("~nobody-of-this-name/model")

    assert survey(Source.of("~/p.txt"), BatchSettings.of()).rows == 1
    asked = BatchSettings.of(model="~/model", folder=kind("~/mine"), embeddings=("~/a",), loras=("~/b:0.5",))
    assert (asked.load.model, asked.guard.folder) == (f"{empty_home}/model", mine)
    assert (asked.load.embeddings, asked.load.loras) == ((f"{empty_home}/a",), (f"{empty_home}/b:0.5",))
    with prepare_run(Source.of("~/p.txt"), BatchSettings.of(), kind("~/run")):
        assert (empty_home / "run").is_dir()
    with picture_folder.open_picture_folder(kind("~/pictures")) as folder:
        assert folder.folder == empty_home / "pictures"

    (drawn,), _ = generator.generate("a cat", DrawOptions(seed=1, steps=1))
    replace(drawn, image=Image.new("RGB", (8, 8))).save(kind("~/one.png"), "none")
    assert metadata.read_picture(kind("~/one.png"))["size"] == [8, 8]
    bundle.write({}, kind("~/bundle"))
    assert (empty_home / "bundle").is_dir()
    for call in (bundle.read, Direction.load, gallery.write):
        with pytest.raises(SafegenError, match=str(empty_home / "nowhere")):
            call(kind("~/nowhere"))
    assert not (here / "~").exists()


@pytest.mark.slow
def test_no_seed_is_minus_one(here: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("generate", "a cat", "--seed", "-1", "--steps", "1", "--json") == 0
    assert 0 <= json.loads(capsys.readouterr().out)["seed"] < 2**31
    (here / "p.txt").write_text("a cat\n")
    for out, seed in (("one", ("--seed", "-1")), ("two", ())):
        assert command("batch", "p.txt", "--out", out, "--steps", "1", *seed) == 0
    one, two = (sorted(p.name for p in (here / out).glob("*.png")) for out in ("one", "two"))
    assert one == two
    assert command("generate", "a cat", "--seed", "-2") == 2


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("jsonl", '{"prompt": "a cat", "seed": -1}'),
        ("csv", "prompt,seed\na cat,-1.0"),
        ("csv", "prompt,sd_seed\na cat,-1"),
        ("txt", "a cat --d -1"),
    ],
)
def test_no_seed_is_minus_one_in_a_row_too(kind: str, content: str) -> None:
    def drawn(kind: str, content: str, seed: int | None) -> int:
        source, some = Source("-", kind, content.encode()), BatchSettings.of(seed=seed)
        (row,) = plan.rows(source, some, survey(source, some))
        return row.seed

    assert drawn(kind, content, 5) == drawn(kind, content, None) == drawn("txt", "a cat", None)


def test_no_seed_is_minus_one_for_clients_and_in_python(generator: Generator) -> None:
    handlers = pytest.importorskip("safegen.serve.handlers")
    schemas = pytest.importorskip("safegen.serve.schemas")
    for body in ({"prompt": "a cat", "seed": -1}, {"prompt": "a cat", "seed": None}):
        order = handlers.parse_order(schemas.DrawRequest.model_validate(body), schemas.Limits(), generator)
        assert order.options.seed is None
    assert DrawOptions(seed=-1) == DrawOptions()
    with pytest.raises(ValueError, match="greater than or equal to -1"):
        schemas.DrawRequest.model_validate({"prompt": "a cat", "seed": -2})


SHEETS = {
    "excel.csv": 'Prompt;Seed;Negative_Prompt\n"a cat, asleep";1;a dog\n',
    "excel.tsv": "prompt\tseed\tnegative\na cat, asleep\t1\ta dog\n",
    "diffusers.csv": 'prompt,seed,negative_prompt\n"a cat, asleep",1,a dog\n',
    "said.csv": 'sep=;\nprompt;seed;negative\n"a cat, asleep";1;a dog\n;;\n;;\n',
    "captions.csv": '\ncaption,n,seed,negative,,\n"a cat, asleep",1,1,a dog,,\n,,,,,\n',
    "diffusers.ndjson": '{"prompt": "a cat, asleep", "seed": 1, "negative_prompt": "a dog"}\n',
}


@pytest.mark.parametrize("name", SHEETS)
def test_what_spreadsheets_and_other_tools_write_is_read(here: Path, name: str) -> None:
    (here / name).write_text(SHEETS[name])
    source = Source.of(name)
    (row,) = plan.rows(source, BatchSettings.of(), survey(source, BatchSettings.of()))
    assert (row.prompt.text, row.options.seed, row.options.negative) == ("a cat, asleep", 1, "a dog")


def test_numbers_of_spreadsheets(here: Path) -> None:
    (here / "p.csv").write_text("prompt;guidance;strength;seed\na cat;7,5;0,5;12.0\n\na dog;x,5;;\n")
    with pytest.raises(PromptError) as raised:
        survey(Source.of("p.csv"), BatchSettings.of())
    assert raised.value.details == ("line 4: guidance 'x,5' is not a number from 0 to 50",)
    (here / "p.csv").write_text("sep=;\nprompt;guidance;strength;seed\na cat;7,5;0,5;12.0\n;x\n")
    with pytest.raises(PromptError) as raised:
        survey(Source.of("p.csv"), BatchSettings.of())
    assert raised.value.details == ("line 4: 2 cells under 4 columns",)
    (here / "p.csv").write_text("prompt;guidance;strength;seed\na cat;7,5;0,5;12.0\n")
    (row,) = plan.rows(Source.of("p.csv"), BatchSettings.of(), survey(Source.of("p.csv"), BatchSettings.of()))
    assert (row.options.guidance, row.strength, row.options.seed) == (7.5, 0.5, 12)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_with_its_mark_is_text(here: Path, encoding: str) -> None:
    def written(name: str, text: str, more: bytes = b"") -> Path:
        (here / name).write_bytes(("\ufeff" + text).encode(encoding) + more)
        return here / name

    assert [p.text for p in gather([], written("p.txt", "a cat\r\n\u00e9\n"))] == ["a cat", "\u00e9"]
    assert survey(Source.of(str(written("p.csv", "prompt\tseed\r\na cat\t1\r\n"))), BatchSettings.of()).rows == 1
    assert recipes.parse(written("concept.toml", RECIPE.decode())).targets == {"a banana": "an apple"}
    with pytest.raises(PromptError, match=r"p\.txt, line 2"):
        gather([], written("p.txt", "a cat\n", b"a"))


def test_the_package_runs_as_a_module(here: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "safegen", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("safegen ")


def test_seeds_end_where_they_end(
    here: Path, generator: Generator, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    check_seeds(MAX_SEED - 2, 3)
    check_seeds(None, 1000)
    assert command("generate", "a cat", "--seed", str(MAX_SEED), "--images", "2") == 2
    assert f"at most at {MAX_SEED - 1}" in capsys.readouterr().err
    with pytest.raises(UsageError, match="3 seeds from"):
        generator.generate("a cat", DrawOptions(seed=MAX_SEED - 1), images=3)
    row = json.dumps({"prompt": "a cat", "seed": MAX_SEED, "images": 2})
    with pytest.raises(PromptError) as raised:
        survey(Source("-", "jsonl", row.encode()), BatchSettings.of())
    assert "2 seeds from" in raised.value.details[0]


def test_several_pictures_are_shown_and_a_bad_one_hides_no_other(
    here: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("generate", "a cat", "--seed", "3", "--steps", "1", "--images", "2") == 0
    names = capsys.readouterr().out.split()
    assert command("show", *names) == 0
    shown = capsys.readouterr().out
    assert all(Path(name).name in shown for name in names)
    assert command("show", names[0], "none.png", str(here / "worse.png"), names[1], "--json") == 2
    printed, told = capsys.readouterr()
    assert [json.loads(line)["record"]["seed"] for line in printed.splitlines()] == [3, 4]
    assert [json.loads(line)["file"] for line in printed.splitlines()] == names
    assert "none.png" in told
    assert "worse.png" in told


@pytest.mark.slow
def test_a_resumed_run_says_where_its_prompts_have_to_come_from(
    here: Path, command: Callable[..., int], run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("batch", "-", "--out", "piped", "--steps", "1", stdin=b"a cat\n").returncode == 0
    again = run("batch", "--resume", "piped")
    assert again.returncode == 2
    assert "from standard input" in again.stderr
    assert "safegen batch --resume piped - < PROMPTS" in again.stderr
    assert run("batch", "--resume", "piped", "-", stdin=b"a cat\n").returncode == 0
    assert run("batch", "--resume", "piped", stdin=b"a cat\n").returncode == 0
    (here / "p.txt").write_text("a cat\n")
    assert command("batch", "p.txt", "--out", "filed", "--steps", "1") == 0
    (here / "p.txt").rename(here / "moved.txt")
    assert command("batch", "--resume", "filed") == 2
    assert "safegen batch --resume filed PROMPTS" in capsys.readouterr().err
    assert command("batch", "--resume", "filed", "moved.txt") == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("strength = 9", "safegen.toml sets strength to 9"),
        ('strength = "much"', "safegen.toml sets strength to 'much'"),
        ('safeguard = "hope"', "safegen.toml sets safeguard to 'hope'"),
        ('model = "./nowhere"', "safegen.toml sets model to './nowhere'"),
        ('dtype = "float7"', "safegen.toml sets dtype to 'float7'"),
        ('out = "taken"', "safegen.toml sets out to 'taken'"),
    ],
)
def test_a_bad_value_is_blamed_on_the_file_that_has_it(
    here: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    (here / config.FILE).write_text(content + "\n")
    (here / "taken").touch()
    assert command("generate", "a cat") in (1, 2)
    assert words in capsys.readouterr().err


def test_a_bad_value_of_the_environment_is_blamed_on_it_and_a_typed_one_on_nothing(
    here: Path, command: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / config.FILE).write_text("strength = 1\n")
    assert command("generate", "a cat", "--strength", "9") == 2
    assert "sets strength" not in capsys.readouterr().err
    monkeypatch.setenv("SAFEGEN_SAFEGUARD", "hope")
    assert command("generate", "a cat") == 2
    assert "SAFEGEN_SAFEGUARD is 'hope'" in capsys.readouterr().err


def at_a_terminal(folder: Path, answer: bytes, *arguments: str) -> str:
    """What is on the terminal of somebody who types a command and an answer."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ENTRY, *arguments], cwd=folder, stdin=theirs, stderr=theirs, stdout=subprocess.DEVNULL
    )
    os.close(theirs)
    os.write(ours, answer)
    shown = b""
    try:
        while part := os.read(ours, 1000):
            shown += part
    except OSError:  # its other end is closed
        pass
    assert process.wait() == 0
    os.close(ours)
    return shown.decode()


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "texts"), [(b"n\n", ["a cat"]), (b"y\n", ["a", "cat"])])
def test_words_without_quotes_are_asked_about_once(here: Path, answer: bytes, texts: list[str]) -> None:
    shown = at_a_terminal(here, answer, "generate", "a", "cat", "--steps", "1")
    assert shown.count("one word each?") == 1
    manifest = (here / "safegen-out" / "metadata.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in manifest] == texts


def test_where_nobody_can_answer_words_without_quotes_are_told_of(
    here: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("generate", "a", "cat", "--steps", "1") == 0
    printed, told = capsys.readouterr()
    assert len(printed.split()) == 2
    assert "safegen generate 'a cat'" in told
    assert command("generate", "a cat", "a dog", "--steps", "1") == 0
    assert "one word each" not in capsys.readouterr().err


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_id_or_path_is_broken_within_a_word(
    width: int, command: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.out, "width", width)
    assert command("models", "list") == 0
    shown = capsys.readouterr().out
    for alias in catalog.ALIASES.values():
        lost = [word for word in re.split("[-_/]", alias.repo) if word not in shown]
        assert not lost
    assert max(map(len, shown.splitlines())) <= width


@pytest.mark.parametrize(
    ("cell", "lines"),
    [
        ("black-forest-labs/FLUX.1-dev", ["black-forest-labs/", "FLUX.1-dev"]),
        ("/home/somebody/pictures/safegen-out/0001.png", ["/home/somebody/pictures/", "safegen-out/0001.png"]),
        ("stable-diffusion-v1-5-inpainting-pruned", ["stable-diffusion-v1-5-", "inpainting-pruned"]),
        ("short", ["short"]),
        ("down_blocks.1.attentions.0.transformer_blocks", ["down_", "blocks.1.attentions.0.transformer_", "blocks"]),
        ("words that are many and wrap by themselves", ["words that are many and wrap by themselves"]),
    ],
)
def test_what_has_no_spaces_breaks_behind_its_signs(cell: str, lines: list[str]) -> None:
    assert console.break_up(cell, 24).split("\n") == lines
