"""The worker: a loaded model that turns planned batches into pictures with their records."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen import records, weighting
from safegen.batch.plan import Batch, Shot
from safegen.batch.rows import Row
from safegen.batch.settings import Options, hashed
from safegen.errors import GuardError, NotFinite, OutOfMemory, SafegenError
from safegen.families.windows import Passages
from safegen.generator import Generator, Settings
from safegen.guard import Guard, Report
from safegen.progress import NOBODY, Kept, Teller
from safegen.prompts import refusal

if TYPE_CHECKING:
    from PIL import Image
    from typing_extensions import Unpack

    from safegen.conditioning import Conditioning
    from safegen.models.options import Placing

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Outcome:
    """What became of one shot: a record, and its picture where there is one."""

    record: dict[str, Any]
    image: Image.Image | None = None


@dataclass(frozen=True)
class Prepared:
    """A row behind the guard: what to draw from (nothing when it is skipped), and the guard's report."""

    report: Report | None
    conditioning: Conditioning | None


class Worker:
    """Draws batches on one device.

    Args:
        generator: the loaded model, behind the guard of the run's own concepts and strength.
        options: the settings of the run.
        heard: what was said while the model was loaded.
    """

    def __init__(self, generator: Generator, options: Options, heard: Sequence[str] = ()) -> None:
        self.generator, self.options, self.heard = generator, options, heard
        self.fits: dict[object, int] = {}  # how many pictures of a size fit into memory, once it is known
        # Rows may have concepts of their own; they share the model.
        self.guarded = functools.lru_cache(maxsize=32)(self._guarded)

    @classmethod
    def load(
        cls,
        options: Options,
        *,
        teller: Teller = NOBODY,
        **where: Unpack[Placing],
    ) -> Worker:
        """Load the model and the directions of the run's concepts.

        For `where` see `safegen.models.loading.Placing`.
        """
        told = Kept(teller)
        generator = Generator.load(
            options.model,
            concepts=options.concepts,
            strength=options.strength,
            safeguard=options.safeguard,
            guarded=options.guarded,
            unread=options.unread,
            folder=Path(options.directions) if options.directions else None,
            teller=told,
            embeddings=options.embeddings,
            loras=options.loras,
            dtype=options.dtype,
            revision=options.revision,
            variant=options.variant,
            quantize=options.quantize,
            scheduler=options.scheduler,
            **where,
        )
        return cls(generator, options, told.lines)

    def facts(self, asked: Sequence[Row] = ()) -> dict[str, Any]:
        """Give what only a loaded model can tell.

        Hashes of the directions and of what was added, the batch size, what was said on loading, and what people
        should know of rows like those of `Survey.asked`.
        """
        guard = self.generator.guard
        notes = [line for row in asked for line in self.generator.notes(row.settings, [row.prompt])]
        return {
            "directions": {**guard.hashes, "reader": guard.bound.reader.sha256} if guard else {},
            "additions": {str(number): dict(facts) for number, facts in enumerate(self.generator.added)},
            "batch_size": self.options.batch_size or self.batch_size(),
            "heard": list(self.heard),
            "notes": list(dict.fromkeys(notes)),
        }

    def batch_size(self) -> int:
        """How many pictures to draw together when no one says: what fits into memory, tried out.

        On the CPU, where too much is not refused but swapped, the pixels of 16 small pictures.
        """
        settings = Settings(None, 1, self.options.guidance, self.options.size)
        _, _, (width, height) = self.generator.resolve(settings)
        if str(self.generator.pipe.device) == "cpu":
            return max(1, min(16, 16 * 128 * 128 // (width * height)))
        size = 64
        while size > 1:
            try:
                some = self.generator.family.encode(["a"] * size)
                self.generator.draw_all(some, settings, range(size))
                break
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                _free()
                size //= 2
        return size

    def draw(self, batch: Batch, on_step: OnStep | None = None) -> list[Outcome]:
        """Outcomes of all shots of a batch; whatever fails, fails for its own row."""
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
            conditionings = [found.conditioning for _, found in ready if found.conditioning is not None]
            settings = batch.shots[0].row.settings
            drawn = self._denoise(conditionings, settings, [shot.seed for shot, _ in ready], on_step)
            seconds = (time.perf_counter() - start) / len(ready)
            for (shot, found), (image, together) in zip(ready, drawn, strict=True):
                if isinstance(image, SafegenError):
                    outcomes.append(self._failed(shot, image))
                else:
                    outcomes.append(Outcome(self._record(shot, found.report, "", seconds, together), image))
        return outcomes

    def prepare(self, rows: Sequence[Row]) -> dict[int, Prepared | SafegenError]:
        """Encode, score and sanitize rows together; by row number, what came of each."""
        prepared: dict[int, Prepared | SafegenError] = {}
        groups: dict[tuple[tuple[str, ...], float], list[Row]] = {}
        for row in rows:
            try:
                refusal.check(self.generator.as_read(row.prompt).text)
                self.generator.resolve(row.settings)  # a size may be good for another model alone
            except SafegenError as error:
                prepared[row.number] = error
            else:
                groups.setdefault((row.concepts, row.strength), []).append(row)
        for key, group in groups.items():
            generator = self.guarded(*key)
            read = generator.read([row.prompt for row in group])
            prepared |= zip([row.number for row in group], self._sanitized(generator, read), strict=True)
        return prepared

    def _sanitized(self, generator: Generator, read: Passages) -> list[Prepared | SafegenError]:
        try:
            return list(self._behind(generator.guard, read))
        except SafegenError as error:
            if len(read.prompts) == 1:
                return [error]
        # One of them closed the guard; alone, each closes it for itself.
        return [self._sanitized(generator, read.only(i))[0] for i in range(len(read.prompts))]

    def _behind(self, guard: Guard | None, read: Passages) -> list[Prepared]:
        """Conditioning as it may be drawn, by what a flagged prompt is to do."""
        if guard is not None and self.options.on_flag == "sanitize":
            repaired, reports = guard.sanitize(read.conditioning, read.rows)
            return [Prepared(*both) for both in zip(read.reports(reports), read.abreast(repaired), strict=True)]
        plain, weights = read.conditioning, read.weights
        if guard is None:
            return [Prepared(None, single) for single in read.abreast(weighting.weighted(plain, weights))]
        sheets, skips = guard.score(plain, passages=read.rows), self.options.on_flag == "skip"
        if skips:  # what is drawn may not be harmful with its weights, either
            weights = weighting.guarded(plain, plain, sheets, weights, guard.bound)[1]
        reports = read.reports([Report(s, s, 0.0, w) for s, w in zip(sheets, weights, strict=True)])
        return [
            Prepared(report, None if skips and report.before.flagged else single)
            for report, single in zip(reports, read.abreast(weighting.weighted(plain, weights)), strict=True)
        ]

    def _denoise(
        self, conditionings: Sequence[Conditioning], settings: Settings, seeds: Sequence[int], on_step: OnStep | None
    ) -> list[tuple[Image.Image | SafegenError, int]]:
        """Pictures or errors, each with how many were drawn together; halves what does not fit into memory."""
        done: list[tuple[Image.Image | SafegenError, int]] = []
        while len(done) < len(seeds):
            first = len(done)
            count = min(self.fits.get(settings.size, len(seeds)), len(seeds) - first)
            count = self._alike(conditionings[first : first + count])
            joined = conditionings[first].joined(conditionings[first + 1 : first + count])
            try:
                images = self.generator.draw_all(joined, settings, seeds[first : first + count], on_step)
            except Exception as error:
                if is_out_of_memory(error):
                    _free()
                    if count > 1:
                        self.fits[settings.size] = count // 2
                        continue
                done += [(_explained(error), count)] * count
            else:
                broken = NotFinite("the latents or the picture are not finite (NaN)", "Try another dtype or model.")
                done += [(image if image is not None else broken, count) for image in images]
        return done

    def _alike(self, conditionings: Sequence[Conditioning]) -> int:
        """How many, from the first on, fill as many windows as the first: others cannot be drawn with it."""
        if self.generator.family.varying:
            return len(conditionings)
        lengths = [[c.states.shape[1] for c in one.channels.values()] for one in conditionings]
        return next((i for i, length in enumerate(lengths) if length != lengths[0]), len(lengths))

    def _guarded(self, names: tuple[str, ...], strength: float) -> Generator:
        o = self.options
        if not o.guarded or (names, strength) == (o.concepts, o.strength):
            return self.generator
        folder = Path(o.directions) if o.directions else None
        guard = Guard.load(*names, strength=strength, safeguard=o.safeguard, folder=folder, unread=o.unread)
        return self.generator.behind(guard)

    def _failed(self, shot: Shot, error: SafegenError) -> Outcome:
        """The record of a failure; a refused prompt is kept as its hash alone."""
        hidden = self.options.redact or error.code == "refused"
        text = shot.row.prompt.own
        return Outcome(
            {
                "id": shot.id,
                "picture": shot.file_name,  # that there is not
                "row": shot.row.number,
                "seed": shot.seed,
                "status": "error",
                "text": hashed(text) if hidden else text,
                # A message of a library may quote what it was given.
                "error": {"code": error.code, "message": error.code if hidden else str(error)},
            }
        )

    def _record(self, shot: Shot, report: Report | None, status: str, seconds: float, together: int) -> dict[str, Any]:
        row = shot.row
        generator = self.guarded(row.concepts, row.strength)
        record = records.of(generator, row.prompt, row.settings, shot.seed, report, seconds)
        if self.options.on_flag == "warn" and report is not None and report.before.flagged:
            status = "flagged"
        record |= {"id": shot.id, "row": row.number, "batch": together}
        record["status"] = status or record["status"]
        record["picture" if status == "skipped" else "file_name"] = shot.file_name
        if self.options.redact:
            record |= {"prompt": hashed(row.prompt.own), "negative": hashed(row.settings.negative)}
            record["guard"] |= {"rewritten": hashed(record["guard"]["rewritten"]), "words": []}
            record["guard"].pop("weights", None)
        return {"text": record.pop("prompt"), **record}


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device, or the allocator of the CPU, had no more memory to give."""
    import torch

    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _free() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _explained(error: Exception) -> SafegenError:
    if isinstance(error, SafegenError):
        return error
    if is_out_of_memory(error):
        return OutOfMemory("the picture does not fit into memory, even alone", "Draw it smaller.")
    return GuardError(f"denoising failed: {type(error).__name__}: {error}", "No picture was made.")
