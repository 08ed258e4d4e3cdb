"""The gallery: what it shows, that nothing of a prompt gets into the page, and a real browser."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from safegen.batch import gallery
from safegen.errors import UsageError
from tests.helpers import browser

EVIL = "a cat </script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def record(i: int, text: str = "a cat", **changes: Any) -> dict[str, Any]:
    scores = {"violence": {"z": 4.6, "flagged": True}, "hate": {"z": 0.1, "flagged": False}}
    after = {"violence": {"z": 0.3, "flagged": False}, "hate": {"z": 0.1, "flagged": False}}
    guard = {"before": scores, "after": after, "words": [], "rewritten": ""} if i % 2 else {}
    return {
        "id": f"r{i}",
        "file_name": f"{i:05d}.png",
        "text": text,
        "seed": i,
        "status": "ok",
        "guard": guard,
    } | changes


def folder_of(path: Path, count: int, **changes: Any) -> Path:
    with (path / "metadata.jsonl").open("w") as file:
        for i in range(count):
            Image.new("RGB", (64, 64), (i % 256, 99, 99)).save(path / f"{i:05d}.png")
            file.write(json.dumps(record(i, **changes)) + "\n")
    return path


def test_a_prompt_is_cut_where_its_words_are_flagged() -> None:
    text = "\U0001f408 a cat and a knife"
    words = [{"text": "knife", "span": [14, 19], "concepts": ["violence", "illegal"]}]
    shown = gallery.card(record(1, text, guard={"words": words}))
    assert shown["parts"] == [("\U0001f408 a cat and a ", ""), ("knife", "violence, illegal")]
    assert gallery.card(record(1))["concepts"] == {"violence": [4.6, 0.3]}
    assert gallery.card(record(1, file_name="../../etc/passwd"))["file"] == ""
    assert gallery.card(record(1, file_name="javascript:alert(1)//"))["file"] == ""


def test_nothing_of_a_prompt_is_markup(tmp_path: Path) -> None:
    html = gallery.write(folder_of(tmp_path, 1, text=EVIL)).read_text()
    assert "owned" in html
    assert html.lower().count("<script") == 2
    assert 'onerror="' not in html
    (data,) = re.findall(r'id="data">(.*?)</script>', html)
    assert json.loads(data)[0]["parts"] == [[EVIL, ""]]
    assert not re.search(r"https?:|src=\"?//", html)


def test_a_half_finished_run_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no records"):
        gallery.write(tmp_path)
    folder_of(tmp_path, 2)
    with (tmp_path / "metadata.jsonl").open("a") as file:
        file.write('{"id": "torn')
    (tmp_path / "missing.jsonl").write_text(
        json.dumps({"id": "x", "status": "error", "text": "a dog", "seed": 1, "error": {"code": "n", "message": "NaN"}})
        + "\n"
    )
    html = gallery.write(tmp_path).read_text()
    assert html.count('"status":"ok"') == 2
    assert '"note":"NaN"' in html


def dom(page: Path, script: str = "") -> str:
    """The page as a headless browser ends up with it; `script` is run in a frame of ours around it."""
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", "--dump-dom",
                 "--allow-file-access-from-files", f"--user-data-dir={page.parent / 'profile'}"]  # fmt: skip
    if script:
        frame = page.with_name("frame.html")
        frame.write_text(
            f"<iframe id=f width=1200 height=800 src='{page.name}'></iframe><pre id=o></pre><script>"
            "f.onload = () => { const d = f.contentDocument, w = f.contentWindow; o.textContent = JSON.stringify("
            f"(() => {{ {script} }})()); }};</script>"
        )
        page = frame
    done = subprocess.run(
        [browser.path(), *arguments, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


FILTERS = """
const wide = d.querySelector("img").naturalWidth;
const set = (id, value, event) => { const e = d.getElementById(id); e.value = value;
  e.dispatchEvent(new w.Event(event)); return d.getElementById("shown").textContent; };
return [d.getElementById("shown").textContent, set("text", "CAT 1999", "input"), set("text", "", "input"),
  set("concept", "violence", "change"), set("status", "ok", "change"), set("text", "nothing", "input"),
  d.querySelectorAll("figure").length, d.title, wide];
"""


@pytest.mark.skipif(not browser.path(), reason="no Chromium on this machine")
def test_two_thousand_pictures_in_a_real_browser(tmp_path: Path) -> None:
    folder_of(tmp_path, 2000)
    lines = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    lines[0]["text"] = EVIL
    (tmp_path / "metadata.jsonl").write_text(
        "".join(json.dumps(x | {"text": x["text"] + f" {x['seed']}"}) + "\n" for x in lines)
    )
    page = gallery.write(tmp_path)
    start = time.monotonic()
    shown = dom(page)
    assert time.monotonic() - start < 30  # a loaded machine; a second or two on an idle one
    assert "2000 of 2000" in shown
    assert 200 <= shown.count("<figure>") < 2000  # the rest waits for the reader
    assert "<title>safegen gallery</title>" in shown
    assert "&lt;img src=x onerror=" in shown
    found = re.search(r"<pre[^>]*>(.*?)</pre>", dom(page, FILTERS))
    assert found is not None
    assert json.loads(found[1]) == [
        "2000 of 2000", "1 of 2000", "2000 of 2000", "1000 of 2000", "1000 of 2000", "0 of 2000", 0, "safegen gallery",
        64,
    ]  # fmt: skip
