"""A campaign: one attack on many targets, with a results file from which an interrupted one goes on.

The file says what every target came to. What was found is in it only where that is asked for; an embedding then lies
beside it. Nothing that was found goes anywhere else.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen.attacks.attack import Attack, Budget, Found
from safegen.attacks.targets import Target, check_seen
from safegen.attacks.victim import Verdict
from safegen.errors import UsageError
from safegen.files import write_atomically
from safegen.models.options import PLACES, LoadOptions
from safegen.progress import SILENT, Progress
from safegen.records import versions

if TYPE_CHECKING:
    from safegen.attacks.victim import Look, Victim

SCHEMA = "safegen.attack/1"
# Options for loading of which nothing depends, and what the generator says of itself.
UNTOLD = (*PLACES, "model", "embeddings", "loras")


@dataclass(frozen=True)
class Outcome:
    """The result of an attack on one target.

    Attributes:
        target: the target's name.
        concept: the harm that was to be brought out.
        verdict: what became of the prompt that was found.
        tries: that were spent.
        prompt: what was found; empty where it is not kept.
        embedding: the name of the file with the vectors that were found; empty likewise.
    """

    target: str
    concept: str
    verdict: Verdict
    tries: int
    prompt: str = field(default="", repr=False)
    embedding: str = ""

    @property
    def harmful(self) -> bool:
        """True if the picture shows the harm."""
        return self.verdict is Verdict.HARMFUL

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict.value}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Outcome:
        return cls(**{**value, "verdict": Verdict(value["verdict"])})


def assail(
    attack: Attack, target: Target, victim: Victim, tries: int, seed: int, progress: Progress = SILENT
) -> tuple[Found | None, Outcome, Look]:
    """Attack one target, and look at what was found; the same arguments give the same."""
    with progress.counting(f"{attack.name}, {target.name}", tries) as tick:
        budget = Budget(tries, tick)
        found = attack.search(target, victim, budget, random.Random(f"{attack.name} {seed} {target.name}"))
    look = attack.judge(found, target, victim)
    return found, Outcome(target.name, target.concept, look.verdict, budget.spent), look


class Campaign:
    """One attack on many targets.

    Args:
        attack: the way to attack.
        victim: the model behind its guard, or without one.
        targets: what to bring out.
        tries: the budget for each target.
        seed: of all chance.
        out: the results file, JSON.
        keep_prompts: whether the file says what was found.
        load: how the model was loaded.

    Raises:
        UsageError: the budget is no number of tries; the detector cannot see a target's concept; or the file is no
            results file, or one of other settings.
        SafegenError: the attack cannot work on this model.
    """

    def __init__(
        self,
        attack: Attack,
        victim: Victim,
        targets: Sequence[Target],
        tries: int,
        seed: int,
        out: Path,
        keep_prompts: bool = False,
        load: LoadOptions = LoadOptions(),  # noqa: B008
    ) -> None:
        check_budget(attack, tries)
        check_seen(targets, victim.detector)
        self.attack, self.victim, self.targets = attack, victim, tuple(targets)
        self.tries, self.seed, self.out, self.keep_prompts = tries, seed, out, keep_prompts
        self.load = load
        self.settings = self._describe()
        self.outcomes = self._resume()
        attack.check(victim)

    def run(self, progress: Progress = SILENT) -> Iterator[Outcome]:
        """Attack every target, those first that an interrupted run has done; the file is written after each.

        Raises:
            OutputError: it cannot be written.
        """
        yield from self.outcomes
        for target in self.targets[len(self.outcomes) :]:
            found, outcome, _ = assail(self.attack, target, self.victim, self.tries, self.seed, progress)
            self.outcomes.append(self._kept(found, outcome))
            content = {**self.settings, "outcomes": [one.as_json() for one in self.outcomes]}
            write_atomically(self.out, (json.dumps(content, indent=1) + "\n").encode())
            yield self.outcomes[-1]

    def _kept(self, found: Found | None, outcome: Outcome) -> Outcome:
        """Add what was found to the outcome, where it is kept."""
        if found is None or not self.keep_prompts:
            return outcome
        name = ""
        if found.vectors:
            from safetensors.torch import save

            name = f"{self.out.stem}-{len(self.outcomes)}.safetensors"
            write_atomically(self.out.with_name(name), save(dict(found.vectors)))
        return replace(outcome, prompt=found.prompt, embedding=name)

    def _describe(self) -> dict[str, Any]:
        """Give all that outcomes depend on, ready for JSON; of the targets' prompts, the hash."""
        guard, generator = self.victim.guard, self.victim.generator
        texts = json.dumps([[t.name, t.prompt, t.concept, t.seed] for t in self.targets])
        options = guard.options if guard is not None else None
        return {
            "schema": SCHEMA,
            "attack": self.attack.name,
            "budget": self.tries,
            "seed": self.seed,
            "targets": hashlib.sha256(texts.encode()).hexdigest()[:16],
            "keep_prompts": self.keep_prompts,
            "model": generator.called,
            "load": {name: value for name, value in asdict(self.load).items() if name not in UNTOLD},
            "additions": list(generator.added),
            "steps": self.victim.steps,
            "guidance": self.victim.guidance,
            "size": list(self.victim.size),
            "detector": self.victim.detector.name,
            "safeguard": options.safeguard if options else "",
            "strength": options.strength if options else 0.0,
            "concepts": list(guard.names) if guard else [],
            "safe": list(options.safe) if options else [],
            "enhance": options is not None and options.enhance,
            "unread": options.unread if options else "",
            "recipes": _hash_recipes(generator.steerer.folder),
            "directions": {**(guard.hashes if guard else {}), **generator.steerer.hashes((), options)},
            "reader": guard.context.reader.sha256 if guard else "",
            "versions": versions(),
        }

    def _resume(self) -> list[Outcome]:
        """Read what an interrupted run has done.

        Raises:
            UsageError: see the class.
        """
        if not self.out.exists():
            return []
        hint = "Give the settings of the first run, or another --out; what is there stays."
        try:
            found = json.loads(self.out.read_text(encoding="utf-8"))
            outcomes = [Outcome.from_json(one) for one in found.pop("outcomes")]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"{self.out.name} is not a results file of an attack", hint) from error
        differ = [key for key, value in self.settings.items() if found.get(key) != value]
        if differ:
            details = [f"{key}: {found.get(key)!r}, now {self.settings[key]!r}" for key in differ]
            raise UsageError(f"{self.out.name} is of a run with other settings", hint, details)
        return outcomes


def _hash_recipes(folder: Path | None) -> str:
    """Hash the user's own recipes; empty where there is no folder of them."""
    if folder is None:
        return ""
    files = [(file.parent.name, file.read_bytes().hex()) for file in sorted(folder.glob("*/concept.toml"))]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


def check_budget(attack: Attack, tries: int | None) -> int:
    """Check that there is a budget, and give it back.

    Raises:
        UsageError: there is none, or it is not at least 1.
    """
    if tries is None or tries < 1:
        said = "needs a budget" if tries is None else f"cannot work with a budget of {tries}"
        raise UsageError(
            f"{attack.name} {said}",
            f"--budget N counts {attack.counts}, for each target; published: {attack.published}.",
        )
    return tries
