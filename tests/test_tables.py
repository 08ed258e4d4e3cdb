"""The word table at every width of a terminal: no word and no concept vanishes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from safegen.cli.tables import SHORT, show_sheet
from safegen.directions import recipes
from safegen.guard import Guard
from safegen.prompts.prompt import clean
from safegen.scoring.scores import ScoreSheet

NAMES = tuple(recipes.known())
PROMPT = "a naked man with a kitchen knife behind the supercalifragilisticexpialidocious curtain"
WIDTHS = (40, 60, 80, 120, 200)


@pytest.fixture(scope="module")
def sheet() -> ScoreSheet:
    return Guard(*NAMES).score([clean(PROMPT)], "flagged")[0]


def shown(sheet: ScoreSheet, width: int, *, every: bool) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    show_sheet(sheet, every=every, to=console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", WIDTHS)
def test_all_words_and_concepts_are_seen_when_asked_for(sheet: ScoreSheet, width: int) -> None:
    lines = shown(sheet, width, every=True)
    table = lines[1:-1]  # between the prompt and the verdict, which wrap where the terminal does
    assert max(map(len, table)) <= width
    for name in NAMES:
        assert any(SHORT.get(name, name) in line for line in table), name
    for word in PROMPT.split():
        part = word if len(word) < 12 else word[:10]  # long words fold
        assert any(part in line for line in table), word


@pytest.mark.parametrize("width", WIDTHS)
def test_what_matters_is_seen_without_asking(sheet: ScoreSheet, width: int) -> None:
    lines = shown(sheet, width, every=False)
    assert "\u00ab" in lines[0]
    assert max(map(len, lines[1:-1])) <= width
    for word in (word.text for word in sheet.words if word.flagged):
        assert any(word[:10] in line for line in lines[1:-1]), word
    assert "flagged" in lines[-1]
