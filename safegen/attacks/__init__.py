"""Attacks on guards: one file per published attack, one base class; an attack is imported when it is used.

Red-teaming is how a guard is measured. Every attack brings a target's harm out behind a guard, within a budget of
tries and from a seed (`attack.py`). What it sees of the model is the `Victim`. A `Campaign` runs one attack over many
targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from safegen.errors import UsageError
from safegen.safeguards import import_object

if TYPE_CHECKING:
    from safegen.attacks.attack import Attack

# To add an attack, write a file beside this one and a row here; the quickest comes first, so that a bench that is
# interrupted has measured as many as it could.
REGISTRY: Mapping[str, str] = {
    "mma": "safegen.attacks.mma:MultimodalAttack",
    "ring-a-bell": "safegen.attacks.ring_a_bell:RingABell",
    "sneaky": "safegen.attacks.sneaky:SneakyPrompt",
    "unlearndiffatk": "safegen.attacks.unlearndiffatk:UnlearnDiffAtk",
    "inversion": "safegen.attacks.inversion:ConceptInversion",
    "reverse": "safegen.attacks.reverse:ReverseGeneration",
    "p4d": "safegen.attacks.p4d:Prompting4Debugging",
}


def create(name: str) -> Attack:
    """Create an attack by name.

    Raises:
        UsageError: no attack has this name.
    """
    if name not in REGISTRY:
        raise UsageError(f"unknown attack {name!r}", f"Known: {', '.join(REGISTRY)}.")
    attack: Attack = import_object(REGISTRY[name])()
    return attack
