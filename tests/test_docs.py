"""README and docs, word for word: what they tell you to type runs, and what cannot run here is at least understood."""

from __future__ import annotations

import contextlib
import glob
import itertools
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from safegen import Generator
from safegen.cli import app, config
from tests.helpers.servers import serving

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SIGNS = (";", "&&", "||", "|", "&")

# What is not run, by the words that tell it from the rest, and why.
UNRUN = {
    "python3 -m venv": "makes an environment",
    "pip install": "wants the network",
    "python -m pytest": "is this",
    "safegen bench": "takes a minute; tests/test_bench.py",
    "--model sd15": "wants the weights of another model",
    "--engine ray": "starts Ray, which takes a minute; tests/test_batch_ray.py",
    "s3://bucket": "wants a store; tests/test_store.py",
    "eval-unlearn run": "wants the weights of another model; tests/test_technique.py",
    "safegen attack": "takes minutes; tests/test_attacks.py",
    "safegen serve": "runs until it is stopped; tests/test_serve.py",
    "directions learn cigarettes": "takes minutes; tests/test_recipes.py",
    "--method latent": "takes minutes; tests/test_latent.py",
    "--method rece": "takes minutes; tests/test_drawing.py",
    "--method duo": "takes minutes; tests/test_tuning.py",
    "--directions mine": "wants what was learned; tests/test_recipes.py",
    "directions export": "wants what was learned; tests/test_bundle.py",
    "directions import": "wants what was exported; tests/test_bundle.py",
    "directions clean": "asks; tests/test_bundle.py",
}
# Files that the documents take for yours; the README has a recipe as well.
YOURS = {
    "prompts.txt": "a cat\na kitchen knife\n",
    "prompts.csv": "prompt,seed\na cat,1\na kitchen knife,2\n",
}
PICTURES = ("photo.png", "photo.jpg", "sky.png")
RECIPE = "mine/cigarettes/concept.toml"
# Its code within lines is other tools'.
OTHERS = ROOT / "docs" / "coming-from.md"
EXAMPLE = "# examples/"  # begins a file of docs/extending.md; tests/test_extending.py


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


def said(document: Path) -> list[str]:
    """What stands in a document as code within a line."""
    prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose)


def parts(block: str) -> Iterator[list[str]]:
    """The commands of a block, as a shell divides them."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split, words.commenters = True, "#"
        for sign, some in itertools.groupby(words, lambda word: word in SIGNS):
            if not sign:
                yield list(some)


def arguments(words: list[str]) -> list[str] | None:
    """What safegen is called with; None for another program."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return words[1:] if words and Path(words[0]).name == "safegen" else None


def understood(given: list[str]) -> None:
    """Parse as the command line does, and run nothing.

    Raises:
        UsageError: of typer's: there is no such command or option, or not with this value.
    """
    one: Any = typer.main.get_command(app)
    context, name = None, "safegen"
    while True:
        context = one.make_context(name, given, parent=context)
        if not hasattr(one, "commands"):
            return
        name, one, given = one.resolve_command(context, [*context._protected_args, *context.args])


def lay_out_yours() -> None:
    """Put into this folder what the documents take for yours."""
    for name, content in YOURS.items():
        Path(name).write_text(content)
    for name in PICTURES:
        Image.new("RGB", (128, 128), "white").save(name)


def globbed(words: list[str]) -> list[str]:
    return [found for word in words for found in (sorted(glob.glob(word)) or [word])]


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_tells_you_to_type_runs(
    document: Path,
    command: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out_yours()
    for words in itertools.chain.from_iterable(map(parts, blocks(document, "bash"))):
        given, line = arguments(words), " ".join(words)
        if given:
            understood(given)
        if any(key in line for key in UNRUN):
            continue
        assert given is not None, f"say in UNRUN why this is not run: {line}"
        code = command(*globbed(given))
        printed, told = capsys.readouterr()
        assert code == (3 if "--fail-on-flag" in given else 0), f"{line}: {told}"
        assert "Traceback" not in told
        assert "nan" not in re.findall(r"\w+", printed + told)


def test_what_is_not_run_is_there_and_no_more() -> None:
    lines = [" ".join(w) for path in DOCUMENTS for block in blocks(path, "bash") for w in parts(block)]
    assert [key for key in UNRUN if not any(key in line for line in lines)] == []
    assert sum(any(key in line for key in UNRUN) for line in lines) < len(lines) - 10


def flags() -> set[str]:
    """Every flag of every command."""
    found, waiting = set[str](), [typer.main.get_command(app)]
    while waiting:
        one: Any = waiting.pop()
        waiting += getattr(one, "commands", {}).values()
        found |= {name for param in one.params for name in (*param.opts, *param.secondary_opts)}
    return found


def test_commands_and_flags_within_lines_exist() -> None:
    known = flags()
    for code in (code for path in DOCUMENTS if path != OTHERS for code in said(path)):
        for flag in re.findall(r"(?<![\w-])--[a-z-]*", code):
            assert flag in known | {"--", "--help"}, code
        words = shlex.split(code)
        if given := arguments(words):
            with contextlib.suppress(typer.BadParameter):  # the name of a command alone lacks what it is about
                understood(given)


def test_a_flag_that_is_not_there_is_not_understood() -> None:
    refused = typer.BadParameter.__base__
    assert refused is not None
    for wrong in ("generate cat --sede 7", "draw", "directions teach", "batch x --seed x", "show", "score --file"):
        with pytest.raises(refused):
            understood(wrong.split())


@pytest.mark.slow
@pytest.mark.timeout(600)  # it learns a concept
def test_python_of_the_documents_runs(
    generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (recipe,) = (block for block in blocks(DOCUMENTS[0], "toml") if "[targets]" in block)
    (tmp_path / RECIPE).parent.mkdir(parents=True)
    (tmp_path / RECIPE).write_text(recipe)
    monkeypatch.chdir(tmp_path)
    lay_out_yours()
    own = Generator.load(offline=True)
    with serving(generator) as (url, _):
        for block in (block for path in DOCUMENTS for block in blocks(path, "python")):
            if block.startswith(EXAMPLE):
                continue
            exec(block.replace("http://127.0.0.1:8000", url), {"pipe": own.pipe})
    assert "violence" in capsys.readouterr().out


def test_settings_of_the_documents_are_known(tmp_path: Path) -> None:
    for block in (block for path in DOCUMENTS for block in blocks(path, "toml")):
        if not {"[targets]", "[stated]"} & set(block.splitlines()):  # recipes; tests/test_recipes.py, test_latent.py
            (tmp_path / config.FILE).write_text(block)
            assert config.read(tmp_path)


def test_json_of_the_documents_is_json() -> None:
    for block in (block for path in DOCUMENTS for block in blocks(path, "json")):
        json.loads(block)
