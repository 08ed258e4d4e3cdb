"""The local engine: one process, one device; pictures are written while the next ones are denoised."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from safegen.batch.interrupt import Watch
from safegen.batch.manifest import name_of
from safegen.batch.plan import Batch
from safegen.batch.rows import Row
from safegen.batch.run_folder import Folder
from safegen.batch.store import Store
from safegen.batch.worker import Outcome, Worker
from safegen.pictures.metadata import Kept, encode_picture


class LocalEngine:
    """An engine that draws in this process.

    Args:
        load: makes the worker; called once, when it is needed.
    """

    def __init__(self, load: Callable[[], Worker]) -> None:
        self.load = load

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """Keep the model loaded while the context lasts."""
        self.worker = self.load()
        yield

    def facts(self, asked: Sequence[Row]) -> dict[str, Any]:
        """Ask the worker, see `Worker.facts`."""
        return self.worker.facts(asked)

    def run(self, batches: Iterable[Batch], folder: Folder, watch: Watch) -> None:
        """Draw what the folder does not have yet, until the plan is done or the watch says stop.

        Args:
            batches: the whole plan; a batch with anything missing is drawn whole, as it was planned.
            folder: where pictures and records go.
            watch: told of every step, and of every record once it is on disk.

        Raises:
            OutputError: a picture or a record cannot be written.
        """

        def land(outcome: Outcome) -> None:
            save(outcome, folder.store, self.worker.settings.record, folder.begun)
            folder.add(outcome.record)
            watch.landed(outcome.record)

        written: deque[Future[None]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="safegen-writer") as writer:
            for batch in batches:
                if watch.stopping:
                    break
                missing = {shot.file_name for shot in batch.shots if not folder.has(shot.file_name)}
                if not missing:
                    continue
                outcomes = [o for o in self.worker.draw(batch, watch.step) if name_of(o.record) in missing]
                while written:  # the batch before this one is long written, or its error is raised here
                    written.popleft().result()
                written.extend(writer.submit(land, outcome) for outcome in outcomes)
                written.append(writer.submit(folder.sync))
            while written:
                written.popleft().result()


def save(outcome: Outcome, store: Store, kept: Kept, begun: str) -> None:
    """Write the picture of an outcome, if it has one, under its final name.

    The record inside leaves out how long the picture took, and its time is the one at which the run began. So the
    same picture is the same file, even when a resumed run draws it.
    """
    if outcome.image is None:
        return
    record = {k: v for k, v in outcome.record.items() if k not in ("seconds", "file_name")} | {"created": begun}
    store.put(outcome.record["file_name"], encode_picture(outcome.image, record, kept))
