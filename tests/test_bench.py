"""The bench: its report is complete, self-contained, and takes nothing from a prompt as markup."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from safegen.bench import suites
from safegen.bench.report import Album, page
from safegen.bench.rows import Row


def test_the_page_escapes_prompts_and_needs_no_network() -> None:
    album = Album()
    album.keep(["<script>alert(1)</script>"], "localise", [Image.new("RGB", (8, 8))])
    album.keep(["<script>alert(1)</script>"], "clamp", [None])
    rows = [{"measure": "<b>", "figure": "1", "bar": "at least 2", "met": False}]
    text = page({"safegen": "0", "suites": {"guard": {"rows": rows}}}, album)
    assert "<script>" not in text
    assert "<b>" not in text
    assert "closed" in text
    assert "missed" in text
    assert "http" not in text


def test_a_row_knows_its_bar() -> None:
    assert Row.rate("x", [True, True], 0.9).met
    assert not Row.rate("x", [True, False], 0.9).met
    assert Row.rate("x", [False]).bar == ""


@pytest.mark.timeout(400)
def test_a_suite_runs_and_writes_both_files(tmp_path: Path) -> None:
    suites.run(["words"], quick=True, data=None, out=tmp_path / "bench.json")
    report = json.loads((tmp_path / "bench.json").read_text())
    rows = {row["measure"]: row for row in report["suites"]["words"]["rows"]}
    assert rows["highest cause is the harmful word"]["hits"] > 0.9 * rows["highest cause is the harmful word"]["total"]
    assert "highest cause" in (tmp_path / "bench.html").read_text()
