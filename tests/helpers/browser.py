"""A headless browser driven over its debugging pipe: no driver, no port, no network."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-headless-shell", "google-chrome", "chromium-browser")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--remote-debugging-pipe")  # fmt: skip


def path() -> str:
    """The browser of this machine; empty where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), "")


class Tab:
    """One page; `evaluate` runs a script in it and gives the value of its promise."""

    def __init__(self, to: int, back: int) -> None:
        self.to, self.back = to, back
        self.numbers = itertools.count(1)
        self.session = ""
        self.unread = b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            pass
        assert "error" not in answer, answer
        return dict(answer["result"])

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.evaluate(
            "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))"
        )

    def evaluate(self, script: str) -> Any:
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.unread:
            part = os.read(self.back, 1 << 16)
            assert part, "the browser has ended"
            self.unread += part
        line, _, self.unread = self.unread.partition(b"\0")
        return dict(json.loads(line))


@contextlib.contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """A browser with one empty page, ended with the context."""
    theirs, to = os.pipe()
    back, answers = os.pipe()
    # The browser reads commands from its third file and answers on its fourth.
    command = ["bash", "-c", f'exec "$0" "$@" 3<&{theirs} 4>&{answers}', path(), *FLAGS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        command, pass_fds=(theirs, answers), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    os.close(theirs)
    os.close(answers)
    try:
        yield Tab(to, back)
    finally:
        process.kill()
        process.wait()
        os.close(to)
        os.close(back)
