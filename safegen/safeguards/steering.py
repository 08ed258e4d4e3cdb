"""Steering: the latent directions that are added while a picture is drawn, and why.

There are three reasons (Li et al. 2024, arXiv 2311.17216). *Fair*: an attribute that a prompt leaves open is drawn for
every picture from its seed. *Safe*: a concept is kept out of every picture. *Assured*: the prompt itself says that a
concept should be absent ("without weapons"), and denoisers are deaf to such words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen.directions import attributes, latent, recipes
from safegen.directions.latent import SAFE, LatentDirection
from safegen.directions.recipes import Concept
from safegen.families.pushes import Push, check_vectors

if TYPE_CHECKING:
    from safegen.families import Family
    from safegen.safeguards.options import GuardOptions


@dataclass(frozen=True)
class Steering:
    """The vectors that are added to one picture.

    Attributes:
        pushes: the vectors with their weights.
        facts: why, as records have it; empty where nothing was asked for.
    """

    pushes: tuple[Push, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class Steerer:
    """Decides for one model what is added to its pictures.

    Args:
        family: the model's family.
        folder: the folder of the user's own concepts and attributes.
    """

    def __init__(self, family: Family, folder: Path | None = None) -> None:
        self.family, self.folder = family, folder
        self._fingerprint = ""
        self._vectors: dict[tuple[str, str], LatentDirection | None] = {}

    def check(self, fair: Sequence[str], guard: GuardOptions | None) -> None:
        """Check that there is a vector for all that is asked for by name.

        Raises:
            UsageError: an attribute, a class or a concept is not known, or shares are wrong.
            ModelError: the denoiser has no place for a vector.
            DirectionError: there is no vector of it for this denoiser, or one does not fit.
        """
        found = self.named(fair, guard)
        check_vectors(self.family.bottleneck, [one.vector for one in found]) if found else None

    def named(self, fair: Sequence[str], guard: GuardOptions | None) -> list[LatentDirection]:
        """Give the vectors of all that is asked for by name; raises like `check`."""
        found = []
        for fairness, attribute in attributes.resolve(fair, self.folder):
            labels = [label for label, share in fairness.shares if share > 0] or list(attribute.classes)
            found += [self._find(attribute.name, label, attribute.folder) for label in labels]
        names = guard.safe if guard is not None and guard.strength > 0 else ()
        return found + [self._safe(name) for name in names]

    def hashes(self, fair: Sequence[str], guard: GuardOptions | None) -> dict[str, str]:
        """Give the hash of every file that is asked for by name."""
        return {f"latent/{one.name}/{one.meaning}": one.sha256 for one in self.named(fair, guard)}

    def of(self, text: str, fair: Sequence[str], seed: int, guard: GuardOptions | None) -> Steering:
        """Decide what is added to the picture of a text with this seed; the same in every run.

        Args:
            text: the user's own, without marks.
            fair: what `--fair` says.
            seed: the picture's own.
            guard: the options of the guard; without one, nothing is kept out.

        Raises:
            SafegenError: see `check`.
        """
        pushes: list[Push] = []
        facts: dict[str, dict[str, Any]] = {}
        for fairness, attribute in attributes.resolve(fair, self.folder):
            told = facts.setdefault("fair", {})
            if words := attribute.stated(text):
                told[attribute.name] = {"stated": words}
                continue
            label = fairness.draw(attribute, seed)
            vector = self._find(attribute.name, label, attribute.folder)
            told[attribute.name] = {"class": label, "sha256": vector.sha256}
            pushes.append(Push(vector.vector))
        for name, (reason, vector, phrase) in self._kept_out(text, guard).items():
            facts.setdefault(reason, {})[name] = {"sha256": vector.sha256, **({"phrase": phrase} if phrase else {})}
            pushes.append(Push(vector.vector, guard.strength if guard else 0.0))
        return Steering(tuple(pushes), facts)

    def _kept_out(self, text: str, guard: GuardOptions | None) -> dict[str, tuple[str, LatentDirection, str]]:
        """Give the concepts to keep out, each with the reason, the vector and the phrase that asks for it."""
        if guard is None or guard.strength == 0:
            return {}
        found = {name: ("safe", self._safe(name), "") for name in guard.safe}
        for name, phrases in self._assurances().items() if guard.enhance else ():
            if name not in found and (phrase := attributes.find_phrase(phrases, text)):
                vector = self._safe_or_none(name)
                if vector is not None:
                    found[name] = ("assured", vector, phrase)
        return found

    def _assurances(self) -> dict[str, tuple[str, ...]]:
        return recipes.assurances(self.folder)

    def _safe(self, name: str) -> LatentDirection:
        return self._find(Concept.load(name, self.folder).name, SAFE, recipes.known(self.folder).get(name))

    def _safe_or_none(self, name: str) -> LatentDirection | None:
        """Give the vector of a concept that only the prompt asks to keep out, where this model has a fitting one."""
        key = (name, SAFE)
        if key not in self._vectors and any(latent.files(name, SAFE, recipes.known(self.folder).get(name))):
            print_ = self._own_fingerprint()
            self._vectors[key] = latent.find_or_none(name, SAFE, print_, recipes.known(self.folder).get(name))
        return self._vectors.get(key)

    def _find(self, name: str, meaning: str, folder: Path | None) -> LatentDirection:
        found = self._vectors.get((name, meaning))
        if found is None:
            found = latent.find(name, meaning, self._own_fingerprint(), folder)
            self._vectors[name, meaning] = found
        return found

    def _own_fingerprint(self) -> str:
        if not self._fingerprint:
            self._fingerprint = self.family.bottleneck.fingerprint
        return self._fingerprint
