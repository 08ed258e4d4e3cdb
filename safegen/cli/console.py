"""The console: lines, plain tables, progress and errors for people. Word tables and verdicts are in `tables`.

Data goes to stdout, everything for people to stderr. Prompts are untrusted: they are shown as plain text
without control characters, and never parsed as markup.
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
    """Make untrusted text fit for one line of a terminal: control and invisible characters become `?`."""
    return "".join("?" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") else c for c in text)


def show_json(value: Mapping[str, Any]) -> None:
    """Show one line of JSON on stdout; escapes keep control characters out."""
    sys.stdout.write(json.dumps(value, ensure_ascii=True) + "\n")
    sys.stdout.flush()


def say(message: str, style: str = "") -> None:
    """Show one line to people."""
    err.print(Text(plain(message), style=style), soft_wrap=True)


def show_error(error: SafegenError) -> None:
    """Show the error on one line, then its details and its hint on lines of their own."""
    err.print(Text.assemble(("error: ", "bold red"), plain(str(error)), f" [{error.code}]"), soft_wrap=True)
    for line in error.details:
        say(f"  {line}")
    if error.hint:
        err.print(Text.assemble(("hint: ", "cyan"), plain(error.hint)), soft_wrap=True)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], to: Console | None = None) -> None:
    """Show a plain table of strings.

    Where it is too wide, ids and paths break behind a sign and not within a word.
    """
    screen = to or out
    lengths = [max(map(len, cells)) + 3 for cells in zip(columns, *rows, strict=True)]
    short = [length for length in lengths if length <= screen.width // 4]
    most = sum(lengths)
    if most > screen.width:  # what the short columns leave, in equal parts
        most = max(1, (screen.width - sum(short)) // max(1, len(lengths) - len(short)) - 3)
    table = Table(title=Text(title), title_justify="left", pad_edge=False, box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(break_up(plain(cell), most)) for cell in row))
    screen.print(table, soft_wrap=False)


def break_up(cell: str, most: int) -> str:
    """Break text without spaces into lines of at most `most` letters, where it can be broken.

    It breaks at slashes, else at other signs.
    """
    if " " in cell or len(cell) <= most:
        return cell
    lines = [""]
    for step in re.findall(r"[^/]+/?|/", cell):
        if lines[-1] and len(lines[-1]) + len(step) > most:
            lines.append("")
        for part in [step] if len(step) <= most else re.findall(r"[^-_]+[-_]?|[-_]", step):
            if lines[-1] and len(lines[-1]) + len(part) > most:
                lines.append("")
            lines[-1] += part
    return "\n".join(lines)


def megabytes(count: int) -> str:
    """Write a number of bytes as people read it."""
    return f"{count / 1e6:.1f} MB"


def show_path(path: Path | str) -> None:
    """Show a result's path alone on a line of stdout."""
    sys.stdout.write(plain(str(path)) + "\n")
    sys.stdout.flush()


def show_preview(picture: Image.Image, columns: int = 48) -> None:
    """Show the picture in half blocks, two pixels a character."""
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
    """Show where a server listens, alone on a line of stdout."""
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()
    say("serving; Ctrl-C stops it", "dim")


@contextlib.contextmanager
def stepping(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar for the denoising steps on stderr; without a terminal show nothing."""
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
    """Count finished pieces of work on stderr: a bar if their total is known, else a counter.

    Without a terminal it is a whole line every minute.
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
    """Show the result of a batch in two lines."""
    made = sum(counts.get(status, 0) for status in ("ok", "sanitized", "flagged"))
    parts = [f"{made} pictures ({counts.get('sanitized', 0)} sanitized, {counts.get('flagged', 0)} drawn as flagged)"]
    parts += [f"{counts.get('skipped', 0)} skipped", f"{counts.get('error', 0)} failed"]
    say("; ".join(parts), "green" if not counts.get("error") else "yellow")
    if drawn:
        say(f"{drawn} drawn in {seconds:.0f} s, {drawn / max(seconds, 1e-9):.2f} images per second")


@contextlib.contextmanager
def batching(total: int, done: int) -> Iterator[tuple[Callable[[int], None], Callable[[int, int], None]]]:
    """Show two bars on stderr, pictures and steps; yields two functions that are told of either.

    Without a terminal it is a whole line every few seconds.
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
        start = start or now  # at the first report: loading the model does not count for the rate
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
