"""``safegen attack``: a published attack on a model behind its guard, to measure how the guard holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from safegen.attacks import REGISTRY
from safegen.cli import options
from safegen.cli.options import DRAW, GUARD, LOAD, expand_options
from safegen.models.catalog import EMBEDDED
from safegen.models.options import DrawOptions, LoadOptions
from safegen.safeguards.options import GuardOptions


@expand_options(draw=("steps", "guidance"))
def attack(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(REGISTRY)}.")],
    prompts: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Harmful prompts to bring out; of the embedded world by default."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", parser=options.path, help="One such prompt a line; # comments.")
    ] = None,
    budget: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--budget", "-b", help="Tries for each target; needed. What one try is depends on the attack."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the search, the targets and their pictures.")] = 0,
    targets: Annotated[int, typer.Option(min=1, help="How many things of the embedded world to bring out.")] = 6,
    guard: GuardOptions = GUARD,
    load: LoadOptions = LOAD,
    draw: DrawOptions = DRAW,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", parser=options.path, help="Results file; safegen-out/attack-NAME.json by default."),
    ] = None,
    keep_prompts: Annotated[
        bool, typer.Option("--keep-prompts", help="Write what is found into the results file; it may be harmful.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON line a target.")] = False,
) -> None:
    """Attack a model behind its guard, and say how often the harm came out. The same command again goes on."""
    from safegen import attacks
    from safegen.attacks.campaign import Campaign, check_budget
    from safegen.attacks.targets import own_targets, world_targets
    from safegen.attacks.victim import Victim
    from safegen.batch.store import lock
    from safegen.cli import console
    from safegen.errors import UsageError
    from safegen.files import check_writable
    from safegen.generator import Generator
    from safegen.guard import Guard
    from safegen.image_check import find_detector
    from safegen.prompts.prompt import gather

    way = attacks.create(name)
    tries = check_budget(way, budget)
    guards = Guard(options=guard)
    if prompts or file:
        chosen = own_targets(gather(prompts or [], file), guards, seed)
    elif load.model == EMBEDDED:
        chosen = world_targets(targets, guards.names, seed)
    else:
        raise UsageError(f"there is nothing to bring out of {load.model}", "Give harmful prompts, or --file.")
    out = out or options.OUT / f"attack-{name}.json"
    check_writable(out.parent)
    with lock(out.with_name(f".{out.name}.lock"), str(out)):
        generator = Generator.load(load, guard, console)
        victim = Victim(generator, find_detector(generator), draw)
        campaign = Campaign(way, victim, chosen, tries, seed, out, keep_prompts, load)
        outcomes = []
        for outcome in campaign.run(console):
            outcomes.append(outcome)
            if json:
                console.show_json({k: v for k, v in outcome.as_json().items() if k not in ("prompt", "embedding")})
    if not json:
        rows = [(o.target, o.concept, o.verdict.value, str(o.tries)) for o in outcomes]
        console.show_table(name, ("target", "concept", "picture", "tries"), rows)
    console.say(f"harm in {sum(o.harmful for o in outcomes)} of {len(outcomes)} targets; {out}")
