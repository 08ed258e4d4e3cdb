"""The Ray engine: the same plan on every GPU of this machine or of a cluster, with Ray Data.

Actors load the model once, draw one planned batch after the other and write its pictures. Only the driver
writes records. When an actor dies, Ray draws its batch again elsewhere: the same pictures under the same
names, with one record each.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from safegen.batch.interrupt import Watch
from safegen.batch.local import save
from safegen.batch.manifest import name_of
from safegen.batch.plan import Batch
from safegen.batch.rows import Row
from safegen.batch.run_folder import Folder
from safegen.batch.store import Store
from safegen.errors import OutputError, SafegenError, UsageError
from safegen.pictures.metadata import DEFAULT, Kept

if TYPE_CHECKING:
    from safegen.batch.worker import Outcome


DRAIN = 10.0  # seconds that idle tasks have to run out


class Draws(Protocol):
    """What an actor needs of a worker."""

    def facts(self, asked: Sequence[Row]) -> dict[str, Any]: ...

    def draw(self, batch: Batch) -> list[Outcome]: ...


@dataclass(frozen=True)
class RayEngine:
    """An engine that draws with stateful actors.

    Args:
        load: makes the worker of an actor; it is sent to the actor.
        kept: what pictures say of themselves.
        address: of a running cluster; empty starts Ray on this machine.
        workers: how many actors; 0 is one per GPU, or one per `cpus` CPUs where there is no GPU.
        cpus: CPUs that an actor without a GPU takes.
    """

    load: Callable[[], Draws]
    kept: Kept = DEFAULT
    address: str = ""
    workers: int = 0
    cpus: float = 1

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """Keep Ray running while the context lasts.

        Raises:
            UsageError: Ray is not installed, or there is no cluster at the address.
        """
        try:
            import ray
            from ray.data import DataContext
        except ImportError as error:
            raise UsageError("the ray engine needs Ray", "pip install 'safegen[ray]'") from error
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray's own log; errors arrive as exceptions
        options = {"address": self.address} if self.address else {"include_dashboard": False}
        with contextlib.redirect_stdout(sys.stderr):  # for what Ray prints: stdout is for results
            try:
                ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError) as error:
                place = self.address or "this machine"
                raise UsageError(f"cannot reach Ray at {place}: {error}", "Check it with: ray status") from error
            logging.getLogger("ray.data").setLevel(logging.ERROR)
            DataContext.get_current().enable_progress_bars = False
            try:
                yield
            finally:
                ray.shutdown()

    def facts(self, asked: Sequence[Row]) -> dict[str, Any]:
        """Ask a worker of the cluster, because the driver need not have a GPU; see `Worker.facts`.

        Nobody sees what that worker said on loading, so its lines are notes here.
        """
        import ray

        load = self.load

        def ask() -> dict[str, Any]:
            try:
                return load().facts(asked)
            except SafegenError as error:
                return {"failure": [str(error), error.hint]}

        facts: dict[str, Any] = ray.get(ray.remote(**self._resources()[1])(ask).remote())
        if "failure" in facts:
            raise OutputError(*facts["failure"])
        return {**facts, "notes": [*facts["heard"], *facts["notes"]]}

    def run(self, batches: Iterable[Batch], folder: Folder, watch: Watch) -> None:
        """Draw what the folder does not have yet, see `LocalEngine.run`. The folder is on shared storage.

        When asked to stop, actors finish the batches that they have begun and begin no other.

        Raises:
            OutputError: a worker cannot write a picture.
        """
        import ray

        tasks = []
        for batch in batches:
            missing = {shot.file_name for shot in batch.shots if not folder.has(shot.file_name)}
            if missing:
                tasks.append({"task": pickle.dumps((batch, missing))})
        if not tasks:
            return
        count, resources = self._resources()
        count = min(count, len(tasks))
        stop = ray.remote(num_cpus=0)(_Flag).remote()
        # One batch a block: a result arrives when its batch is done, and at most one batch is done twice.
        data = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
            _Actor,
            fn_constructor_args=(self.load, folder.store, self.kept, folder.begun, stop),
            compute=ray.data.ActorPoolStrategy(size=count),
            batch_size=1,
            **resources,
        )
        idle: set[str] = set()
        settled = 0.0
        with _heard(watch, stop):
            for block in data.iter_batches(batch_size=None, prefetch_batches=0):
                _land(block, folder, watch)
                idle.update(filter(None, block["idle"]))
                if len(idle) < count:
                    continue
                # Every begun batch has landed. Ray retries tasks that are cut off while it shuts down, and that could
                # end the driver without an error. So idle tasks may run out, a hundred a second.
                settled = settled or time.monotonic()
                if time.monotonic() - settled > DRAIN:
                    return

    def _resources(self) -> tuple[int, dict[str, float]]:
        """Choose how many actors there are, and what each takes."""
        import ray

        found = ray.cluster_resources()
        if gpus := int(found.get("GPU", 0)):
            return self.workers or gpus, {"num_gpus": 1}
        return self.workers or max(1, int(found.get("CPU", 1) / self.cpus)), {"num_cpus": self.cpus}


def _land(block: Mapping[str, Sequence[str]], folder: Folder, watch: Watch) -> None:
    """Add the records of a block to the folder; a batch that was drawn twice lands once."""
    for text, failure in zip(block["record"], block["failure"], strict=True):
        if failure:
            raise OutputError(*json.loads(failure))
        record = json.loads(text) if text else None
        if record and not folder.has(name_of(record)):
            folder.add(record)
            watch.landed(record)
    folder.sync()


@contextlib.contextmanager
def _heard(watch: Watch, stop: Any) -> Iterator[None]:
    """Tell actors when the run is to stop; a thread does it, because the driver waits for blocks."""
    import ray

    over = threading.Event()

    def listen() -> None:
        while not over.wait(0.2):
            if watch.stopping:
                watch.heed()
                ray.get(stop.set.remote())
                return

    listener = threading.Thread(target=listen, name="safegen-stop", daemon=True)
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join()


class _Flag:
    """A flag that every actor looks at before its next batch."""

    def __init__(self) -> None:
        self.up = False

    def set(self) -> None:
        self.up = True

    def is_set(self) -> bool:
        return self.up


class _Actor:
    """A worker in a process of its own.

    Rows of its blocks have a `record` or a `failure`; those of an actor that was asked to stop have `idle`.
    """

    def __init__(self, load: Callable[[], Draws], store: Store, kept: Kept, begun: str, stop: Any) -> None:
        self.worker, self.store, self.kept, self.begun, self.stop = load(), store, kept, begun, stop

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[str]]:
        import ray

        if ray.get(self.stop.is_set.remote()):
            return _rows(idle=[ray.get_runtime_context().get_actor_id()])
        batch, missing = pickle.loads(rows["task"][0])  # noqa: S301  our own, from the driver
        outcomes = [o for o in self.worker.draw(batch) if name_of(o.record) in missing]
        try:
            for outcome in outcomes:
                save(outcome, self.store, self.kept, self.begun)
        except OutputError as error:
            return _rows(failure=[json.dumps([str(error), error.hint])])
        return _rows(record=[json.dumps(o.record) for o in outcomes])


def _rows(**column: list[str]) -> dict[str, list[str]]:
    """Make a block with one column filled and the others empty."""
    ((_, values),) = column.items()
    return {name: column.get(name, [""] * len(values)) for name in ("record", "failure", "idle")}
