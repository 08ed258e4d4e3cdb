"""What people read: lines, tables, progress, errors. With `findings`, the only place that prints.

Data goes to stdout, everything for people to stderr. Prompts are untrusted: they are shown as
plain text, never parsed as markup, and without control characters.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from safegen.errors import SafegenError

if TYPE_CHECKING:
    from PIL import Image

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)


def plain(text: str) -> str:
    """Untrusted text for one line of a terminal: control and invisible characters become `?`."""
    return "".join("?" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") else c for c in text)


def show_json(value: Mapping[str, Any]) -> None:
    """One line of JSON on stdout; escapes keep control characters out."""
    sys.stdout.write(json.dumps(value, ensure_ascii=True) + "\n")
    sys.stdout.flush()


def say(message: str, style: str = "") -> None:
    """One line for people."""
    err.print(Text(plain(message), style=style), soft_wrap=True)


def show_error(error: SafegenError) -> None:
    """The error as one line, its details and its hint as others."""
    err.print(Text.assemble(("error: ", "bold red"), plain(str(error)), f" [{error.code}]"), soft_wrap=True)
    for line in error.details:
        say(f"  {line}")
    if error.hint:
        err.print(Text.assemble(("hint: ", "cyan"), plain(error.hint)), soft_wrap=True)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], to: Console | None = None) -> None:
    """A plain table of strings; where it is too wide, ids and paths break behind a sign and not within a word."""
    screen = to or out
    lengths = [max(map(len, cells)) + 3 for cells in zip(columns, *rows, strict=True)]
    most = screen.width // 4 if sum(lengths) > screen.width else sum(lengths)
    table = Table(title=Text(title), title_justify="left", pad_edge=False, box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(break_up(plain(cell), most)) for cell in row))
    screen.print(table, soft_wrap=False)


def break_up(cell: str, most: int) -> str:
    """Break what has no spaces into lines of at most so many letters where it can: at slashes, else at other signs."""
    if " " in cell or len(cell) <= most:
        return cell
    lines = [""]
    for step in re.findall(r"[^/]*/?", cell):
        if lines[-1] and len(lines[-1]) + len(step) > most:
            lines.append("")
        for part in [step] if len(step) <= most else re.findall(r"[^-_]*[-_]?", step):
            if lines[-1] and len(lines[-1]) + len(part) > most:
                lines.append("")
            lines[-1] += part
    return "\n".join(lines)


def megabytes(count: int) -> str:
    """A number of bytes as people read it."""
    return f"{count / 1e6:.1f} MB"


def show_path(path: Path | str) -> None:
    """A result's path, alone on a line of stdout."""
    sys.stdout.write(plain(str(path)) + "\n")
    sys.stdout.flush()


def show_preview(picture: Image.Image, columns: int = 48) -> None:
    """The picture in half blocks, two pixels a character."""
    small = picture.convert("RGB").resize((columns, columns))
    for y in range(0, columns, 2):
        line = Text()
        for x in range(columns):
            upper, lower = _pixel(small, x, y), _pixel(small, x, y + 1)
            line.append("\u2580", style=f"rgb{upper} on rgb{lower}".replace(" (", "(").replace(", ", ","))
        err.print(line)


def _pixel(picture: Image.Image, x: int, y: int) -> tuple[int, int, int]:
    value = picture.getpixel((x, y))
    assert isinstance(value, tuple)
    return (int(value[0]), int(value[1]), int(value[2]))


def show_address(url: str) -> None:
    """Where a server listens, alone on a line of stdout."""
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()
    say("serving; Ctrl-C stops it", "dim")


@contextlib.contextmanager
def stepping(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for the denoising steps on stderr; nothing where there is no terminal."""
    if not err.is_terminal:
        yield lambda _step, _steps: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
    ) as bar:
        task = bar.add_task(label, total=None)
        yield lambda step, steps: bar.update(task, completed=step, total=steps)


@contextlib.contextmanager
def counting(label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Finished pieces of work on stderr: a bar where their total is known, else a counter.

    Whole lines every minute where there is no terminal.
    """
    import time

    start = shown = time.monotonic()
    done, of = 0, f" of {total}" if total else ""
    with stepping(label) if total and err.is_terminal else contextlib.nullcontext() as bar:

        def tick(count: int) -> None:
            nonlocal done, shown
            done += count
            now = time.monotonic()
            if bar is not None:
                bar(done, total or done)
            elif err.is_terminal:
                err.print(f"{label}: {done} in {now - start:.0f} s", end="\r")
            elif now - shown > 60:
                shown = now
                say(f"{label}: {done}{of} in {now - start:.0f} s")

        yield tick


def show_summary(counts: Mapping[str, int], drawn: int, seconds: float) -> None:
    """What a batch came to, in two lines."""
    made = sum(counts.get(status, 0) for status in ("ok", "sanitized", "flagged"))
    parts = [f"{made} pictures ({counts.get('sanitized', 0)} sanitized, {counts.get('flagged', 0)} drawn as flagged)"]
    parts += [f"{counts.get('skipped', 0)} skipped", f"{counts.get('error', 0)} failed"]
    say("; ".join(parts), "green" if not counts.get("error") else "yellow")
    if drawn:
        say(f"{drawn} drawn in {seconds:.0f} s, {drawn / max(seconds, 1e-9):.2f} images per second")


@contextlib.contextmanager
def batching(total: int, done: int) -> Iterator[tuple[Callable[[int], None], Callable[[int, int], None]]]:
    """Two bars, pictures and steps, on stderr: yields what to tell of pictures done and of steps.

    Where there is no terminal, a whole line every few seconds.
    """
    if not err.is_terminal:
        yield _batch_lines(total, done)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, speed_estimate_period=600) as bar:
        pictures = bar.add_task("pictures", total=total, completed=done, rate="")
        steps = bar.add_task("steps", total=None, rate="")

        def landed(count: int) -> None:
            bar.advance(pictures, count)
            speed = bar.tasks[0].speed
            bar.update(pictures, rate=f"{speed:.2f}/s" if speed else "")

        yield landed, lambda step, of: bar.update(steps, completed=step, total=of)


def _batch_lines(total: int, done: int) -> tuple[Callable[[int], None], Callable[[int, int], None]]:
    import time

    start = shown = 0.0
    drawn = 0

    def report() -> None:
        nonlocal start, shown
        now = time.monotonic()
        start = start or now  # the first news: loading a model is no part of the rate
        shown = shown or now
        if now - shown >= 5:
            shown = now
            speed = drawn / (now - start)
            left = f", {(total - done - drawn) / speed / 60:.0f} min left" if drawn else ""
            say(f"pictures: {done + drawn} of {total}, {speed:.2f}/s{left}")

    def landed(count: int) -> None:
        nonlocal drawn
        drawn += count
        report()

    return landed, lambda _step, _steps: report()
