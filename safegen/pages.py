"""Self-contained pages: a template, its style and script, and data that is never read as markup."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any


def render(place: Path, data: Any) -> str:
    """Render the page of the `.html`, `.css` and `.js` files at `place`, whose own suffix does not count.

    The template has `{{style}}`, `{{script}}` and `{{data}}`. Its content policy has `{style}` and `{script}` for
    their hashes, so that no other style or script runs. The data is JSON with every `<`, `>` and `&` escaped.
    """
    style, script = (place.with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".css", ".js"))
    values = json.dumps(data, separators=(",", ":"))  # ASCII alone
    for character in "<>&":
        values = values.replace(character, f"\\u{ord(character):04x}")
    html = place.with_suffix(".html").read_text(encoding="utf-8")
    filled = html.replace("{style}", _digest(style), 1).replace("{script}", _digest(script), 1)
    for name, content in (("style", style), ("script", script), ("data", values)):
        filled = filled.replace("{{" + name + "}}", content, 1)
    return filled


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
