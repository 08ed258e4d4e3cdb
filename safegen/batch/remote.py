"""The folder of a run behind an fsspec URL, and its lock."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safegen.batch.store import KEPT, LOCK, in_use, reach
from safegen.errors import OutputError

BEAT_SECONDS, STALE_SECONDS = 30.0, 120.0


@dataclass(frozen=True)
class Remote:
    """A folder behind an fsspec URL.

    Its lock is a file that says who writes and is renewed every 30 s. It binds only those who look at it: two runs
    that start in the same instant may both see themselves as first. The lock is void when it was not renewed for
    120 s, or when its process ran on this machine and is dead.
    """

    url: str

    @property
    def label(self) -> str:
        return self.url

    @contextlib.contextmanager
    def held(self) -> Iterator[Path]:
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "token": secrets.token_hex(8)}
        self._lock(owner)
        over = threading.Event()
        beat = threading.Thread(target=self._beat, args=(owner, over), name="safegen-lock", daemon=True)
        beat.start()
        try:
            with tempfile.TemporaryDirectory(prefix="safegen-records-") as folder:
                records = Path(folder)
                for name in KEPT:
                    if (content := self.read(name)) is not None:
                        (records / name).write_bytes(content)
                try:
                    yield records
                finally:
                    self.push(records)
        finally:
            over.set()
            beat.join()
            with contextlib.suppress(OutputError):  # the lock becomes void by itself
                self._remove(LOCK)

    def put(self, name: str, content: bytes) -> None:
        fs, root = reach(self.url)
        try:
            fs.makedirs(root, exist_ok=True)
            with fs.transaction, fs.open(f"{root}/{name}", "wb") as file:  # whole or not at all, where the store can
                file.write(content)
        except Exception as error:  # every store has its own errors
            raise self._failed("write", name, error) from error

    def read(self, name: str) -> bytes | None:
        fs, root = reach(self.url)
        try:
            return bytes(fs.cat_file(f"{root}/{name}"))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._failed("read", name, error) from error

    def holds(self) -> Callable[[str], bool]:
        fs, root = reach(self.url)
        try:
            fs.invalidate_cache()
            names = {str(file["name"]).rsplit("/", 1)[-1] for file in fs.ls(root, detail=True) if file["size"] != 0}
        except FileNotFoundError:
            names = set()
        except Exception as error:
            raise self._failed("read", "", error) from error
        return names.__contains__

    def push(self, records: Path) -> None:
        for name in KEPT:
            path, mark = records / name, records / f".{name}.pushed"
            if not path.is_file():
                continue
            now = path.stat()
            state = f"{now.st_size} {now.st_mtime_ns}"
            if not mark.is_file() or mark.read_text() != state:
                self.put(name, path.read_bytes())
                mark.write_text(state)

    def _lock(self, owner: Mapping[str, Any]) -> None:
        other = self._owner()
        if other and not _is_void(other):
            raise in_use(self.url)
        self._renew(owner)
        if (self._owner() or {}).get("token") != owner["token"]:
            raise in_use(self.url)

    def _owner(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self.read(LOCK) or b"null")
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def _renew(self, owner: Mapping[str, Any]) -> None:
        self.put(LOCK, json.dumps({**owner, "time": time.time()}).encode())

    def _beat(self, owner: Mapping[str, Any], over: threading.Event) -> None:
        while not over.wait(BEAT_SECONDS):
            with contextlib.suppress(OutputError):  # the run itself will find out
                self._renew(owner)

    def _remove(self, name: str) -> None:
        fs, root = reach(self.url)
        try:
            fs.rm_file(f"{root}/{name}")
        except Exception as error:
            raise self._failed("remove", name, error) from error

    def _failed(self, verb: str, name: str, error: Exception) -> OutputError:
        reason = f"{type(error).__name__}: {error}"[:300]
        return OutputError(f"cannot {verb} {self.url}/{name}: {reason}", "Check it, then run the same command again.")


def _is_void(owner: Mapping[str, Any]) -> bool:
    if time.time() - float(owner.get("time", 0)) > STALE_SECONDS:
        return True
    if owner.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(owner["pid"]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # alive, and another user's
    return False
