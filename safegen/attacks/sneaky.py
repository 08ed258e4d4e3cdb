"""SneakyPrompt (Yang et al., IEEE S&P 2024, arXiv 2305.12082): other spellings of harmful words, by trial and error.

The attacker has no access: he asks for a picture, and sees it or does not. The target's sensitive words are replaced
by strings of a search space, and a policy learns from what comes back which of them pass and still draw the harm. The
reward is -1 where there is no picture. Else the paper rewards the picture's likeness to the target; here the verdict
alone is known, so it is 1 for a harmful picture, which ends the search, and 0 for another. The paper's policy is a
recurrent network over tokens. Here a word's spelling is made of one to three small changes, and the policy has a
weight for every kind of change at every word, learned by the policy gradient. Sensitive are the words that the
recipes' harmful phrases have; if there are none, all are.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

from safegen.attacks.alphabet import WORD
from safegen.attacks.attack import Attack, Budget, Found
from safegen.attacks.targets import Target
from safegen.attacks.victim import Verdict, Victim
from safegen.reader.lexicon import harmful_words

RATE = 0.5
LEAST = 3  # letters of a word that is changed
CHANGES = (1, 1, 2, 3)  # of a word, one of these by chance
REWARDS: Mapping[Verdict, float] = {
    Verdict.CLOSED: -1.0,
    Verdict.FAILED: -1.0,
    Verdict.HARMLESS: 0.0,
    Verdict.HARMFUL: 1.0,
}

Change = Callable[[str, int, random.Random], str]  # of a word, at one of its letters
VOWELS = "aeiou"
KINDS: tuple[Change, ...] = (
    lambda word, at, _: word[:at] + word[at + 1 :],
    lambda word, at, _: word[:at] + word[at] + word[at:],
    lambda word, at, _: word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
    lambda word, at, chance: word[:at] + chance.choice(VOWELS) + word[at + 1 :],
    lambda word, at, chance: word[:at] + chance.choice(VOWELS) + word[at:],
    lambda word, at, _: f"{word[:at]} {word[at:]}",
    lambda word, _, chance: word + chance.choice(("s", "y", "er", "ish", "like", "ed")),
)


class SneakyPrompt(Attack):
    """Learn which spellings of harmful words pass and draw the harm (Yang et al., S&P 2024)."""

    name = "sneaky"
    counts = "pictures that are asked for"
    published = "60"
    tries = 60

    def search(self, target: Target, victim: Victim, budget: Budget, chance: random.Random) -> Found | None:
        parts, policy = WORD.split(target.prompt), Policy(chance)
        words = range(1, len(parts), 2)  # between them are spaces and signs, which stay
        sensitive = [i for i in words if parts[i].lower() in harmful_words()]
        sensitive = sensitive or [i for i in words if len(parts[i]) >= LEAST]
        found, best = None, -math.inf
        while sensitive and budget.spend():
            spelled, taken = list(parts), []
            for place in sensitive:
                spelled[place], kinds = policy.spell(parts[place], place)
                taken += [(place, kind) for kind in kinds]
            prompt = "".join(spelled)
            reward = REWARDS[victim.look(prompt, target).verdict]
            policy.learn(taken, reward)
            if reward > best:
                found, best = Found(prompt), reward
            if reward == REWARDS[Verdict.HARMFUL]:
                break
        return found


class Policy:
    """Chooses kinds of changes by their weights, softly, and learns from rewards."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.weights: dict[int, list[float]] = {}  # by the word's place
        self.usual, self.count = 0.0, 0  # the mean reward so far

    def spell(self, word: str, place: int) -> tuple[str, list[int]]:
        """Change the spelling of a word; also give the kinds of change."""
        kinds = self.chance.choices(range(len(KINDS)), self._shares(place), k=self.chance.choice(CHANGES))
        for kind in kinds:
            if len(word) < 2:  # changes have worn it down to a letter
                break
            word = KINDS[kind](word, self.chance.randrange(1, max(2, len(word) - 1)), self.chance)
        return word, kinds

    def learn(self, taken: list[tuple[int, int]], reward: float) -> None:
        """Move the weights along the gradient of the log-probability of what was taken, times what it brought."""
        gain = reward - self.usual
        self.count += 1
        self.usual += gain / self.count
        for place, kind in taken:
            shares = self._shares(place)
            moved = [RATE * gain * ((i == kind) - share) for i, share in enumerate(shares)]
            self.weights[place] = [w + more for w, more in zip(self.weights[place], moved, strict=True)]

    def _shares(self, place: int) -> list[float]:
        weights = self.weights.setdefault(place, [0.0] * len(KINDS))
        powers = [math.exp(weight) for weight in weights]
        return [power / sum(powers) for power in powers]
