"""What the guard found and did, as people read it: word tables, verdicts, changes, second looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from safegen.cli.console import err, out, plain, say

if TYPE_CHECKING:
    from rich.console import Console

    from safegen.prompts.prompt import Prompt
    from safegen.scoring.report import Report
    from safegen.scoring.scores import ConceptScore, ScoreSheet, WordScore

SHORT = {"harassment": "harass", "self-harm": "selfharm", "shocking": "shock"}
NEAR = 0.6  # share of its line from which on a concept or a word is shown
WORD = 16  # columns that a long word gets at least
FIXED, COLUMN = 34, 11  # columns that words, percentiles and causes take, and that a concept takes


def show_sheet(sheet: ScoreSheet, *, every: bool = False, tokens: bool = False, to: Console | None = None) -> None:
    """Show one prompt with its harmful spans marked, its word table, and its verdict.

    Args:
        sheet: the prompt's scores.
        every: show all words under all concepts; else the words that matter, under the concepts near their line.
        tokens: show all of the encoder's tokens in place of the words.
        to: the console; stdout by default.
    """
    console = to or out
    console.print(mark_spans(sheet), soft_wrap=True)
    rows: Sequence[WordScore] = sheet.tokens if tokens else sheet.words
    names = list(sheet.concepts) if every or tokens else _near(sheet, console.width)
    numbered = [(i, word) for i, word in enumerate(rows, 1) if every or tokens or _matters(word, sheet, names)]
    if numbered and names:
        for table in _fitting(sheet, numbered, names, tokens, console):
            console.print(table, soft_wrap=False)
    console.print(_verdict(sheet), soft_wrap=True)
    if sheet.unread:
        console.print(Text(plain(f"unread: {' '.join(sheet.unread)}"), style="yellow"), soft_wrap=True)


def mark_spans(sheet: ScoreSheet) -> Text:
    """Mark the harmful spans of a prompt in red and between signs: not everybody sees colours."""
    text, end = Text(style="bold"), 0
    for span in _apart([span.span for span in sheet.spans] or [w.span for w in sheet.words if w.flagged]):
        text.append(plain(sheet.prompt[end : span[0]]))
        text.append(f"\u00ab{plain(sheet.prompt[slice(*span)])}\u00bb", style="bold red")
        end = span[1]
    text.append(plain(sheet.prompt[end:]))
    return text


def _apart(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans that meet."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _near(sheet: ScoreSheet, width: int) -> list[str]:
    """List the concepts over or near their line, the farthest over first, as many as the width has room for."""
    shares = {name: score.share for name, score in sheet.concepts.items()}
    names = sorted((n for n, share in shares.items() if share >= NEAR), key=lambda n: -shares[n])
    return names[: max(1, (width - FIXED) // COLUMN)]


def _matters(word: WordScore, sheet: ScoreSheet, names: Sequence[str]) -> bool:
    return bool(word.flagged) or any(word.scores[name] >= NEAR * sheet.concepts[name].threshold for name in names)


def _fitting(
    sheet: ScoreSheet, rows: Sequence[tuple[int, WordScore]], names: Sequence[str], tokens: bool, console: Console
) -> Iterator[Table]:
    """Give one table, or, where it is wider than the console, several with fewer concepts, one below the other."""
    table = _table(sheet, rows, names, tokens)
    wide = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    words, keys = zip(*((plain(word.text), sheet.key_of(word.span)) for _, word in rows), strict=True)
    folded = sum(max(0, max(map(len, texts)) - WORD) for texts in (words, keys))  # long words and keys fold
    if wide - folded <= console.width or len(names) == 1:
        yield table
        return
    half = (len(names) + 1) // 2
    yield from _fitting(sheet, rows, names[:half], tokens, console)
    yield from _fitting(sheet, rows, names[half:], tokens, console)


def _table(sheet: ScoreSheet, rows: Sequence[tuple[int, WordScore]], names: Sequence[str], tokens: bool) -> Table:
    # No outer padding: seven concepts have to fit into eighty columns.
    table = Table(padding=0, box=box.SIMPLE_HEAD)
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    table.add_column("token" if tokens else "word", min_width=10, overflow="fold")
    if keyed := any(sheet.key_of(word.span) for _, word in rows):
        table.add_column("key", overflow="fold", style="dim")
    for name in names:
        table.add_column(SHORT.get(name, name)[:10], justify="right", no_wrap=True, min_width=6)
    # Narrow terminals have room for percentiles and causes of only the concept farthest over its line. JSON has all.
    worst = [name for name in sheet.flagged_concepts() if name in names][:1]
    caused = [name for name in worst if not tokens and any(name in w.causes for _, w in rows)]
    if worst:
        table.add_column("word %", justify="right", no_wrap=True)
    if caused:
        table.add_column("cause", justify="right", no_wrap=True)
    if edited := not tokens and any(w.intensity is not None for _, w in rows):
        table.add_column("edit", justify="right", no_wrap=True)
    if weighted := not tokens and any(w.weight != 1 for _, w in rows):
        table.add_column("weight", justify="right", no_wrap=True)
    window = rows[0][1].window
    for number, word in rows:
        if word.window != window:
            table.add_section()  # the encoder continues in another window
            window = word.window
        cells = [_cell(word.scores[name], name in word.flagged) for name in names]
        cells += [Text(f"{word.percentiles[name]:.1f}") for name in worst]
        # Only the highest words of flagged concepts have a cause.
        cells += [Text(f"{word.causes[name]:+.1f}" if name in word.causes else "") for name in caused]
        cells += [Text("" if word.intensity is None else f"{word.intensity:.2f}")] if edited else []
        cells += [Text(f"{word.weight:.2f}")] if weighted else []
        key = [Text(plain(sheet.key_of(word.span)))] if keyed else []
        table.add_row(str(number), Text(plain(word.text)), *key, *cells)
    blank = [Text()] if keyed else []
    if sheet.truncated:
        unseen = [Text("unseen", style="dim")] * len(names)
        table.add_row("-", Text(plain(sheet.truncated), style="dim italic"), *blank, *unseen)
    verdicts = [sheet.concepts[name] for name in names]
    table.add_section()
    lines = [Text(f"{c.threshold:.1f}", style="dim") for c in verdicts]
    shares = [Text(f"{c.percentile:.1f}", style="dim") for c in verdicts]
    table.add_row("", Text("prompt", style="bold"), *blank, *[_cell(c.z, c.flagged) for c in verdicts])
    table.add_row("", Text("line", style="dim"), *blank, *lines)
    table.add_row("", Text("percentile", style="dim"), *blank, *shares)
    return table


def _cell(z: float, flagged: bool) -> Text:
    return Text(f"! {z:.1f}", style="bold red") if flagged else Text(f"{z:.1f}")


def _verdict(sheet: ScoreSheet) -> Text:
    if not sheet.flagged:
        if not sheet.judged:
            hint = "the reader knows only English; with --model, directions may judge it"
            return Text.assemble(("! not judged", "bold yellow"), f": {hint}")
        nearest = max(sheet.concepts.items(), key=lambda item: item[1].share)
        return Text.assemble(("benign", "green"), f": nearest is {_distance(*nearest)}")
    parts = [_distance(name, sheet.concepts[name]) for name in sheet.flagged_concepts()]
    found = sheet.spans or [w for w in sheet.words if w.flagged]
    carried = list(dict.fromkeys(_placed(sheet, one.text, one.span) for one in found))
    return Text.assemble(
        ("! flagged", "bold red"), ": " + "; ".join(parts), f" | words: {', '.join(carried) or 'none'}"
    )


def _placed(sheet: ScoreSheet, text: str, span: tuple[int, int]) -> str:
    """Name a word with the key under which it stands, in a JSON caption."""
    key = sheet.key_of(span)
    return plain(f"{text} ({key})" if key else text)


def _distance(name: str, score: ConceptScore) -> str:
    return f"{name} {score.z:.1f} sd over benign (threshold {score.threshold:.1f})"


def show_report(report: Report | None) -> None:
    """Show what the guard did, or that there was none."""
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
    if report.treatment:
        facts = ", ".join(f"{name} {value}" for name, value in report.treatment.facts.items() if isinstance(value, str))
        said = f"while it is drawn, {report.treatment.safeguard} keeps out {', '.join(report.treatment.concepts)}"
        say(f"{said} ({facts})" if facts else said)
        return
    table = Table(title="what was changed", title_justify="left", pad_edge=False, box=box.SIMPLE_HEAD)
    for column in ("concept", "before", "after", "threshold"):
        table.add_column(column, justify="left" if column == "concept" else "right", no_wrap=True)
    for name in report.before.flagged_concepts():
        before, after = report.before.concepts[name], report.after.concepts[name]
        lines = dict.fromkeys(f"{score.threshold:.1f}" for score in (before, after))  # each sense has its own
        table.add_row(name, _cell(before.z, before.flagged), _cell(after.z, after.flagged), ", ".join(lines))
    err.print(table)
    count = sum(bool(w.flagged) for w in report.before.words)
    if report.rewritten:
        say(f"drawn as: {report.rewritten}", "green")
    say(
        f"sanitized {count} of {len(report.before.words)} words; the embedding moved by {report.drift:.3f} (1 - cosine)"
    )
    if report.after.flagged:
        say(
            f"! drawn as flagged: still over the line under {', '.join(report.after.flagged_concepts())}", "bold yellow"
        )


def _say_weights(report: Report) -> None:
    if report.objections:
        say(f"drawn without its weights: with them it is harmful under {', '.join(report.objections)}", "yellow")
        return
    drawn = [f"{report.after.prompt[slice(*w.span)]} {w.value:.2f}" for w in report.weights]
    left = "; words that were flagged or changed have none" if report.sanitized else ""
    say(f"weights: {', '.join(drawn) or 'none'}{left}")


def show_latent(latent: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Show in one line what latent directions did to a picture, where there were any."""
    told = [
        f"{name}: drawn for {facts['class']}" if "class" in facts else f"{name}: stated ({facts['stated']})"
        for name, facts in latent.get("fair", {}).items()
    ]
    told += [f"{name}: kept out" for reason in ("safe", "assured") for name in latent.get(reason, {})]
    if told:
        say("; ".join(told), "dim")


def show_check(check: Mapping[str, Any]) -> None:
    """Show what a second look at a picture saw, and what it saw in the picture drawn after that."""
    if begun := _sights(check.get("input", {})):
        say(f"! the picture that was drawn from shows {begun}", "bold yellow")
    if not check["before"]:
        say(f"second look ({check['detector']}): nothing harmful", "green")
        return
    left = _sights(check["after"])
    say(f"second look ({check['detector']}): {_sights(check['before'])}; drawn again without", "yellow")
    say(f"still there: {left}" if left else "gone", "bold red" if left else "green")


def _sights(seen: Mapping[str, Mapping[str, float]]) -> str:
    return ", ".join(f"{thing} ({concept})" for concept, things in seen.items() for thing in things)


def note_syntax(prompts: Sequence[Prompt], negative: str = "", loras: Sequence[str] = ()) -> None:
    """Say which of other tools' syntax has no meaning here."""
    from safegen.models import adapters
    from safegen.prompts import dialects

    note(dialects.notes([*(prompt.own for prompt in prompts), negative], adapters.scales(loras)))


def note(lines: Iterable[str]) -> None:
    """Say what people should know about the model with these prompts and settings."""
    for line in lines:
        say(line, "yellow")
