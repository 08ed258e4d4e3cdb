"""Published attacks on every method, and on no guard at all, which says whether an attack works here."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from safegen import attacks, safeguards
from safegen.attacks.attack import Attack, Found, NoAttack
from safegen.attacks.campaign import assail
from safegen.attacks.targets import Target, world_targets
from safegen.attacks.victim import Victim
from safegen.bench.cases import Seed, behind
from safegen.bench.cells import Cell
from safegen.bench.matrix import UNGUARDED, WORKS, Matrix
from safegen.bench.methods import usable
from safegen.bench.registry import Bench, suite
from safegen.bench.report import embedded
from safegen.bench.results import Result
from safegen.image_check import find_detector
from safegen.models.options import DrawOptions

if TYPE_CHECKING:
    from safegen.generator import Generator

STEPS = 20  # of a picture


def attacks_suite(bench: Bench, methods: Mapping[str, Generator], count: int, share: float) -> list[Result]:
    """Attack every method in every way, cell by cell.

    Args:
        bench: with the cells that are done.
        methods: the embedded model behind each guard, and behind none first.
        count: targets of an attack.
        share: of every attack's usual budget.
    """
    guard = bench.generator.guard
    assert guard is not None
    targets = world_targets(count, guard.names, Seed.ATTACKS)
    known: dict[tuple[str, str], Found | None] = {}  # what does not depend on the guard is searched once
    cells: dict[str, Cell] = {}
    detector, options = find_detector(bench.generator), DrawOptions(steps=STEPS)
    victims = {name: Victim(one, detector, options) for name, one in methods.items()}
    for method, name in in_order([*methods]):
        attack = attacks.create(name) if name in attacks.REGISTRY else NoAttack()
        tries = max(1, round(share * attack.tries))
        measure = functools.partial(attack_all, attack, victims[method], targets, tries, known, bench)
        key = Matrix.key(method, name)
        cells[key] = bench.cells.once(key, measure)
    return list(rows(Matrix(cells)))


def in_order(methods: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pair methods with attacks; the first two attack by attack, so that an interrupted run compares them."""
    for some in (methods[:2], *([method] for method in methods[2:])):
        for attack in (NoAttack.name, *attacks.REGISTRY):
            yield from ((method, attack) for method in some)


def attack_all(
    attack: Attack,
    victim: Victim,
    targets: Sequence[Target],
    tries: int,
    known: dict[tuple[str, str], Found | None],
    bench: Bench,
) -> Cell:
    """Attack every target; a cell says what became of each, and has the pictures, but not what was found."""
    attack.check(victim)
    outcomes, pictures = [], []
    for target in targets:
        key = attack.name, target.name
        if attack.adaptive or key not in known:
            found, outcome, look = assail(attack, target, victim, tries, Seed.ATTACKS)
            known[key], spent = found, outcome.tries
        else:
            look, spent = attack.judge(known[key], target, victim), tries
        outcomes.append({"target": target.name, "verdict": look.verdict.value, "tries": spent})
        pictures.append(embedded(look.picture))
        bench.tick(1)
    return {"outcomes": outcomes, "pictures": pictures}


def rows(matrix: Matrix) -> Iterator[Result]:
    """Make a row of every cell; where an attack does not work without a guard, its figures are no evidence."""
    for method in matrix.methods:
        for name in matrix.attacks:
            bar = WORKS if method == UNGUARDED and name != NoAttack.name else None
            row = Result.rate(f"{method}, {name}: pictures with the harm", matrix.outcomes(method, name), bar)
            works = matrix.works(name)
            figure = row.figure if works else f"{row.figure}; no evidence"
            yield replace(row, figure=figure, raw={**row.raw, "evidence": works})


def guards(bench: Bench) -> dict[str, Generator]:
    """Put the embedded model behind nothing, the default, and every other method that is learned for it.

    Quickly, it is behind nothing and the default alone.
    """
    bare = copy.copy(bench.generator)
    bare.guard = None
    found = {UNGUARDED: bare}
    others = [name for name in safeguards.REGISTRY if name != safeguards.DEFAULT]
    for name in [safeguards.DEFAULT, *([] if bench.quick else others)]:
        safeguard = safeguards.create(name)
        if usable(bench.generator, safeguard):
            found[name] = behind(bench.generator, safeguard, 1.0)
    return found


@suite("attacks", 75, needs="name")
def attacks_of(bench: Bench) -> list[Result]:
    """Published attacks on every method, and on no guard."""
    return attacks_suite(bench, guards(bench), bench.pick(2, 20), 0.05 if bench.quick else 1.0)
