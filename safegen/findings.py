"""What the guard found and did, as people read it: word tables, verdicts, what was changed, second looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from safegen.console import err, out, plain, say

if TYPE_CHECKING:
    from rich.console import Console

    from safegen.generator import Generator
    from safegen.guard import Report
    from safegen.prompts import Prompt
    from safegen.sheets import ConceptScore, ScoreSheet, WordScore

SHORT = {"harassment": "harass", "self-harm": "selfharm", "shocking": "shock"}


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


def note_weights(generator: Generator, prompts: Sequence[Prompt]) -> None:
    """That a model knows no weights, where a prompt asks for some."""
    if not generator.family.weighted and any(prompt.weights for prompt in prompts):
        say(f"a {type(generator.pipe).__name__} knows no weights: the marks in the prompt are text to it", "yellow")
