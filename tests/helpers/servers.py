"""The server, in a thread of the test's own process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from safegen import Generator
from safegen.cli import console
from safegen.pictures.metadata import DEFAULT, Kept
from safegen.serve import app
from safegen.serve.queue import Queue
from safegen.serve.schemas import Limits
from safegen.serve.server import Server, bound, fronts_of, hosts_of


@contextlib.contextmanager
def serving(
    generator: Generator,
    key: str = "",
    waiting: int = 16,
    fronts: Sequence[str] = (),
    kept: Kept = DEFAULT,
    **limits: Any,
) -> Iterator[tuple[str, Queue]]:
    """A server on a free port, in a thread of this process."""
    queue, listener, ready = Queue(waiting), bound("127.0.0.1", 0), threading.Event()
    urls: list[str] = []
    hosts = hosts_of("127.0.0.1")
    application = app.create(generator, queue, Limits(**limits), key, hosts, fronts_of(fronts), kept, console)
    server = Server(application, queue, listener, lambda url: (urls.append(url), ready.set()))
    thread = threading.Thread(target=server.serve_on)
    thread.start()
    try:
        assert ready.wait(30)
        yield urls[0], queue
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
