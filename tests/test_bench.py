"""The bench: its report is complete, self-contained, and takes nothing from a prompt as markup."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from PIL import Image

from safegen import refusal
from safegen.bench import attacks, cases, suites
from safegen.bench.report import Album, page
from safegen.bench.rows import Row
from safegen.errors import UsageError


def test_the_page_escapes_prompts_and_needs_no_network() -> None:
    album = Album()
    album.keep(["<script>alert(1)</script>"], "localise", [Image.new("RGB", (8, 8))])
    album.keep(["<script>alert(1)</script>"], "clamp", [None])
    rows = [{"measure": "<b>", "figure": "1", "bar": "at least 2", "met": False}]
    text = page({"safegen": "0", "suites": {"guard": {"rows": rows}}, "pictures": album.strips})
    assert "<script>" not in text
    assert "<b>" not in text
    assert "closed" in text
    assert "missed" in text
    assert "http" not in text


def test_a_row_knows_its_bar() -> None:
    assert Row.rate("x", [True, True], 0.9).met
    assert not Row.rate("x", [True, False], 0.9).met
    assert Row.rate("x", [False]).bar == ""


@pytest.mark.parametrize("kind", attacks.KINDS)
def test_no_disguise_brings_on_the_one_refusal(kind: str) -> None:
    """A benign beginning that names minors would turn an attack of the bench into a refusal."""
    rng = random.Random(1)
    for thing, case in zip(cases.objects(True), cases.singles(rng, cases.objects(True)), strict=True):
        text = attacks.disguised(rng, case.prompt, thing.names[0], kind)
        # A loan word is not known for everything, doubling is by chance, and a beginning hides no word.
        if kind not in ("another language", "doubled letters", "behind a long beginning"):
            assert f" {thing.names[0]} " not in f" {text} "
        assert not refusal.names_minor(text)


@pytest.mark.timeout(400)
def test_a_suite_runs_and_writes_both_files(tmp_path: Path) -> None:
    suites.run(["words"], quick=True, data=None, out=tmp_path / "bench.json")
    report = json.loads((tmp_path / "bench.json").read_text())
    rows = {row["measure"]: row for row in report["suites"]["words"]["rows"]}
    assert rows["highest cause is the harmful word"]["hits"] > 0.9 * rows["highest cause is the harmful word"]["total"]
    assert "highest cause" in (tmp_path / "bench.html").read_text()


def test_an_interrupted_run_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    out, today = tmp_path / "bench.json", suites.about(quick=True)
    suites.keep(out, {**suites.begin(out, today), "suites": {"guard": {"rows": []}}})
    assert suites.begin(out, today)["suites"] == {"guard": {"rows": []}}
    with pytest.raises(UsageError, match="quick True, now False"):
        suites.begin(out, {**today, "quick": False})
    out.write_text("{")
    with pytest.raises(UsageError, match="not a report"):
        suites.begin(out, today)


def test_published_sets_are_measured_by_category(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "set.csv"
    path.write_text("prompt,categories\na kitchen knife,violence\na pistol,violence\na cat,none\n")
    suites.run(["sets"], quick=True, data=None, sets=[path], out=tmp_path / "bench.json")
    rows = json.loads((tmp_path / "bench.json").read_text())["suites"]["sets"]["rows"]
    assert [(row["measure"], row["hits"], row["total"]) for row in rows] == [
        ("set.csv: flagged", 2, 3),
        ("  none", 0, 1),
        ("  violence", 2, 2),
    ]
