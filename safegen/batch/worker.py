"""The worker: a loaded model that turns planned batches into pictures with their records."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from safegen.batch.plan import Batch, Shot
from safegen.batch.rows import Row
from safegen.batch.settings import BatchSettings, hash_text
from safegen.errors import GuardError, NotFinite, OutOfMemory, SafegenError
from safegen.families.rendering import OnStep
from safegen.generator import Generator
from safegen.guard import Guard
from safegen.guard.preparation import Prepared, unwrap
from safegen.models.options import DrawOptions
from safegen.progress import SILENT, Progress, Remembered
from safegen.prompts.prompt import clean

if TYPE_CHECKING:
    from PIL import Image

    from safegen.scoring.report import Report


@dataclass(frozen=True)
class Outcome:
    """The outcome of one shot: its record as the manifest has it, and its picture if there is one."""

    record: dict[str, Any]
    image: Image.Image | None = None


class Worker:
    """A worker that draws batches on one device.

    Args:
        generator: the loaded model, behind the guard of the run's own concepts and strength.
        settings: the settings of the run.
        heard: what was said while the model was loaded.
    """

    def __init__(self, generator: Generator, settings: BatchSettings, heard: Sequence[str] = ()) -> None:
        self.generator, self.settings, self.heard = generator, settings, heard
        self.fits: dict[object, int] = {}  # how many pictures of a size fit into memory, once that is known
        # Rows may have their own concepts; all guards share the model.
        self.guarded = functools.lru_cache(maxsize=32)(self._guarded)

    @classmethod
    def load(cls, settings: BatchSettings, progress: Progress = SILENT) -> Worker:
        """Load the model and the directions of the run's concepts."""
        told = Remembered(progress)
        return cls(Generator.load(settings.load, settings.guard, told), settings, told.lines)

    def facts(self, asked: Sequence[Row] = ()) -> dict[str, Any]:
        """Give what only a loaded model can tell.

        That is: hashes of the directions and of added files, the batch size, what was said on loading, and what people
        should know about rows like those of `Survey.asked`.
        """
        guard = self.generator.guard
        notes = [line for row in asked for line in self.generator.notes(row.options, [row.prompt])]
        return {
            "directions": {
                **({**guard.hashes, "reader": guard.context.reader.sha256} if guard else {}),
                **self.generator.steerer.hashes(self.settings.draw.fair, guard.options if guard else None),
            },
            "additions": {str(number): dict(facts) for number, facts in enumerate(self.generator.added)},
            "batch_size": self.settings.batch_size or self.batch_size(),
            "heard": list(self.heard),
            "notes": list(dict.fromkeys(notes)),
        }

    def batch_size(self) -> int:
        """Find by trial how many pictures fit into memory together, for when nobody says.

        A CPU swaps rather than refuses, so there it is as many pixels as 16 small pictures have.
        """
        options = DrawOptions(None, 1, self.settings.draw.guidance, self.settings.draw.size)
        _, _, (width, height) = self.generator.resolve(options)
        if str(self.generator.pipe.device) == "cpu":
            return max(1, min(16, 16 * 128 * 128 // (width * height)))
        one = unwrap(self.generator.prepare([clean("a")])[0])
        size = 64
        while size > 1:
            try:
                self.generator.draw([one] * size, options, range(size))
                break
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                _free()
                size //= 2
        return size

    def draw(self, batch: Batch, on_step: OnStep | None = None) -> list[Outcome]:
        """Draw all shots of a batch; a failure fails its own row only."""
        start = time.perf_counter()
        prepared = self.prepare(list(dict.fromkeys(shot.row for shot in batch.shots)))
        outcomes, ready = [], []
        for shot in batch.shots:
            found = prepared[shot.row.number]
            if isinstance(found, SafegenError):
                outcomes.append(self._failed(shot, found))
            elif found.conditioning is None:
                outcomes.append(Outcome(self._record(shot, found.report, "skipped", 0.0, 0)))
            else:
                ready.append((shot, found))
        if ready:
            options, seeds = batch.shots[0].row.options, [shot.seed for shot, _ in ready]
            drawn = self._denoise([found for _, found in ready], options, seeds, on_step)
            seconds = (time.perf_counter() - start) / len(ready)
            for (shot, found), (image, together) in zip(ready, drawn, strict=True):
                if isinstance(image, SafegenError):
                    outcomes.append(self._failed(shot, image))
                else:
                    outcomes.append(Outcome(self._record(shot, found.report, "", seconds, together), image))
        return outcomes

    def prepare(self, rows: Sequence[Row]) -> dict[int, Prepared | SafegenError]:
        """Encode, score and sanitize rows together; gives the result or the error by row number."""
        prepared: dict[int, Prepared | SafegenError] = {}
        groups: dict[tuple[tuple[str, ...], float], list[Row]] = {}
        for row in rows:
            try:
                self.generator.resolve(row.options)  # a size may be good only for another model
            except SafegenError as error:
                prepared[row.number] = error
            else:
                groups.setdefault((row.concepts, row.strength), []).append(row)
        for key, group in groups.items():
            found = self.guarded(*key).prepare([row.prompt for row in group], self.settings.on_flag)
            prepared |= zip([row.number for row in group], found, strict=True)
        return prepared

    def _denoise(
        self, prepared: Sequence[Prepared], options: DrawOptions, seeds: Sequence[int], on_step: OnStep | None
    ) -> list[tuple[Image.Image | SafegenError, int]]:
        """Draw pictures, or give errors, each with how many were drawn together; halve a batch too large for memory."""
        done: list[tuple[Image.Image | SafegenError, int]] = []
        place = (options.size, options.image)  # a picture is as large as the one that it is drawn from
        while len(done) < len(seeds):
            first = len(done)
            count = min(self.fits.get(place, len(seeds)), len(seeds) - first)
            count = self._alike(prepared[first : first + count])
            part = slice(first, first + count)
            try:
                images = self.generator.draw(prepared[part], options, seeds[part], on_step)
            except Exception as error:
                if is_out_of_memory(error):
                    _free()
                    if count > 1:
                        self.fits[place] = count // 2
                        continue
                done += [(_explain(error), count)] * count
            else:
                broken = NotFinite("the latents or the picture are not finite (NaN)", "Try another dtype or model.")
                done += [(image if image is not None else broken, count) for image in images]
        return done

    def _alike(self, prepared: Sequence[Prepared]) -> int:
        """Count the leading prompts that fill as many windows as the first: others cannot be drawn with it."""
        if self.generator.family.variable_length:
            return len(prepared)
        rows = [one.conditioning for one in prepared if one.conditioning is not None]
        lengths = [[c.states.shape[1] for c in row.channels.values()] for row in rows]
        return next((i for i, length in enumerate(lengths) if length != lengths[0]), len(lengths))

    def _guarded(self, names: tuple[str, ...], strength: float) -> Generator:
        options = self.settings.guard
        if not options.guarded or (names, strength) == (options.concepts, options.strength):
            return self.generator
        return self.generator.behind(Guard(options=replace(options, concepts=names, strength=strength)))

    def _failed(self, shot: Shot, error: SafegenError) -> Outcome:
        """Record a failure; a refused prompt is kept as its hash alone."""
        hidden = self.settings.redact or error.code == "refused"
        text = shot.row.prompt.own
        return Outcome(
            {
                "id": shot.id,
                "picture": shot.file_name,  # it was not made
                "row": shot.row.number,
                "seed": shot.seed,
                "status": "error",
                "text": hash_text(text) if hidden else text,
                # A library's message may quote the prompt.
                "error": {"code": error.code, "message": error.code if hidden else str(error)},
            }
        )

    def _record(self, shot: Shot, report: Report | None, status: str, seconds: float, together: int) -> dict[str, Any]:
        row = shot.row
        record = self.guarded(row.concepts, row.strength).record(row.prompt, row.options, shot.seed, report, seconds)
        if self.settings.on_flag == "warn" and report is not None and report.before.flagged:
            status = "flagged"
        place = "picture" if status == "skipped" else "file_name"
        record = replace(record, id=shot.id, status=status or record.status)
        record = record.adding(**{"row": row.number, "batch": together, place: shot.file_name})
        return (record.redacted(hash_text) if self.settings.redact else record).as_json()


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether a device, or the allocator of the CPU, had no more memory to give."""
    import torch

    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _free() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _explain(error: Exception) -> SafegenError:
    if isinstance(error, SafegenError):
        return error
    if is_out_of_memory(error):
        return OutOfMemory("the picture does not fit into memory, even alone", "Draw it smaller.")
    return GuardError(f"denoising failed: {type(error).__name__}: {error}", "No picture was made.")
