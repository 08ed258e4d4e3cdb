"""Everything that people read: tables, progress, errors. The only place that prints.

Data goes to stdout, everything for people to stderr. Prompts are untrusted: they are shown as
plain text, never parsed as markup, and without control characters.
"""

from __future__ import annotations

import contextlib
import json
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

    from safegen.generator import Generator
    from safegen.guard import Report
    from safegen.prompts import Prompt
    from safegen.sheets import ConceptScore, ScoreSheet, WordScore

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)
SHORT = {"harassment": "harass", "self-harm": "selfharm", "shocking": "shock"}


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


def note_weights(generator: Generator, prompts: Sequence[Prompt]) -> None:
    """That a model knows no weights, where a prompt asks for some."""
    if not generator.family.weighted and any(prompt.weights for prompt in prompts):
        say(f"a {type(generator.pipe).__name__} knows no weights: the marks in the prompt are text to it", "yellow")


def show_error(error: SafegenError) -> None:
    """The error as one line, its details and its hint as others."""
    err.print(Text.assemble(("error: ", "bold red"), plain(str(error)), f" [{error.code}]"), soft_wrap=True)
    for line in error.details:
        say(f"  {line}")
    if error.hint:
        err.print(Text.assemble(("hint: ", "cyan"), plain(error.hint)), soft_wrap=True)


def show_sheet(sheet: ScoreSheet, *, tokens: bool = False, to: Console | None = None) -> None:
    """The word table of one prompt and its verdict."""
    names = list(sheet.concepts)
    table = Table(
        title=Text(f"{plain(sheet.prompt)}"),
        title_justify="left",
        title_style="bold",
        padding=0,  # seven concepts have to fit into eighty columns
        box=box.SIMPLE_HEAD,
    )
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    table.add_column("token" if tokens else "word", min_width=10, overflow="fold")
    for name in names:
        table.add_column(SHORT.get(name, name)[:10], justify="right", no_wrap=True, min_width=6)
    # Eighty columns hold percentiles and causes of one concept: the one farthest over its line. JSON has them all.
    worst = sheet.open_gates()[:1]
    caused = [name for name in worst if not tokens and any(name in w.causes for w in sheet.words)]
    if worst:
        table.add_column("own %", justify="right", no_wrap=True)
    if caused:
        table.add_column("cause", justify="right", no_wrap=True)
    if not tokens and any(w.intensity is not None for w in sheet.words):
        table.add_column("edit", justify="right", no_wrap=True)
    weighted = not tokens and any(w.weight != 1 for w in sheet.words)
    if weighted:
        table.add_column("weight", justify="right", no_wrap=True)
    rows: Sequence[WordScore] = sheet.tokens if tokens else sheet.words
    for number, word in enumerate(rows, 1):
        if number > 1 and word.window != rows[number - 2].window:
            table.add_section()  # the encoder reads on in another window
        cells = [_cell(word.scores[name], name in word.flagged) for name in names]
        cells += [Text(f"{word.percentiles[name]:.1f}") for name in worst]
        # Causes are looked for in the windows that are flagged.
        cells += [Text(f"{word.causes[name]:+.1f}" if name in word.causes else "") for name in caused]
        cells += [Text(f"{word.intensity:.2f}")] if word.intensity is not None and not tokens else []
        cells += [Text(f"{word.weight:.2f}")] if weighted else []
        table.add_row(str(number), Text(plain(word.text)), *cells)
    if sheet.truncated:
        table.add_row(
            "-", Text(plain(sheet.truncated), style="dim italic"), *[Text("unseen", style="dim")] * len(names)
        )
    table.add_section()
    table.add_row("", Text("prompt", style="bold"), *[_cell(c.z, c.flagged) for c in sheet.concepts.values()])
    table.add_row(
        "",
        Text("percentile", style="dim"),
        *[Text(f"{c.percentile:.1f}", style="dim") for c in sheet.concepts.values()],
    )
    (to or out).print(table, soft_wrap=False)
    (to or out).print(_verdict(sheet), soft_wrap=True)


def _cell(z: float, flagged: bool) -> Text:
    return Text(f"! {z:.1f}", style="bold red") if flagged else Text(f"{z:.1f}")


def _verdict(sheet: ScoreSheet) -> Text:
    if not sheet.flagged:
        nearest = max(sheet.concepts.items(), key=lambda item: item[1].margin)
        return Text.assemble(("benign", "green"), f": nearest is {_distance(*nearest)}")
    parts = [_distance(name, sheet.concepts[name]) for name in sheet.open_gates()]
    carried = [plain(w.text) for w in sheet.words if w.flagged]
    return Text.assemble(
        ("! flagged", "bold red"), ": " + "; ".join(parts), f" | words: {', '.join(carried) or 'none'}"
    )


def _distance(name: str, score: ConceptScore) -> str:
    return f"{name} {score.z:.1f} sd over benign (threshold {score.threshold:.1f})"


def show_report(report: Report | None) -> None:
    """What the guard did, or that there was none."""
    if report is None:
        say("! the guard is off: nothing was scored or sanitized", "bold yellow")
        return
    show_sheet(report.before, to=err)
    if any(word.weight != 1 for word in report.before.words):
        _say_weights(report)
    if not report.sanitized:
        verb = "left as it is (strength 0)" if report.before.flagged else "left as it is, bit for bit"
        say(f"embedding {verb}", "yellow" if report.before.flagged else "green")
        return
    table = Table(title="what was changed", title_justify="left", pad_edge=False, box=box.SIMPLE_HEAD)
    for column in ("concept", "before", "after", "threshold"):
        table.add_column(column, justify="left" if column == "concept" else "right", no_wrap=True)
    for name in report.before.open_gates():
        before, after = report.before.concepts[name], report.after.concepts[name]
        table.add_row(name, _cell(before.z, before.flagged), _cell(after.z, after.flagged), f"{before.threshold:.1f}")
    err.print(table)
    count = sum(bool(w.flagged) for w in report.before.words)
    if report.rewritten:
        say(f"drawn as: {report.rewritten}", "green")
    say(
        f"sanitized {count} of {len(report.before.words)} words; the embedding moved by {report.drift:.3f} (1 - cosine)"
    )
    if report.after.flagged:
        say(f"! drawn as flagged: still over the line under {', '.join(report.after.open_gates())}", "bold yellow")


def _say_weights(report: Report) -> None:
    if report.objections:
        say(f"drawn without its weights: with them it is harmful under {', '.join(report.objections)}", "yellow")
        return
    drawn = [f"{report.after.prompt[slice(*w.span)]} {w.value:.2f}" for w in report.weights]
    left = "; words that were flagged or changed have none" if report.sanitized else ""
    say(f"weights: {', '.join(drawn) or 'none'}{left}")


def show_check(check: Mapping[str, Any]) -> None:
    """What a second look at a picture saw, and what at the one drawn after it."""
    if not check["before"]:
        say(f"second look ({check['detector']}): nothing harmful", "green")
        return
    left = _sights(check["after"])
    say(f"second look ({check['detector']}): {_sights(check['before'])}; drawn again without", "yellow")
    say(f"still there: {left}" if left else "gone", "bold red" if left else "green")


def _sights(seen: Mapping[str, Mapping[str, float]]) -> str:
    return ", ".join(f"{thing} ({concept})" for concept, things in seen.items() for thing in things)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], to: Console | None = None) -> None:
    """A plain table of strings."""
    table = Table(title=Text(title), title_justify="left", pad_edge=False, box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    (to or out).print(table, soft_wrap=False)


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
