"""The filler of repairs: phrases that people put where harm had stood, and a network that tells which fit a place.

Every repair of `repairs.tsv` is a lesson for each place that it changes: the words around the place and in it belong to
the phrase that came. Two small networks learn to give both the same direction; what ships is the places' network and
the directions of the phrases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from safegen.builtin.training import eight_bits, reader_ship
from safegen.builtin.training.checkpointing import Progress
from safegen.builtin.training.hand_repairs import changes, rows
from safegen.reader import Reader
from safegen.reader.filling import BESIDE, FILE, PHRASES, Place, seen_of
from safegen.reader.forms import folded
from safegen.reader.groups import groups_in
from safegen.reader.minors import names_minor
from safegen.reader.model import WEIGHTS, Network, read_facts
from safegen.reader.words import Word, split

WIDTH, HIDDEN, PHRASE_HIDDEN = 32, 96, 384  # of the directions, and of the two networks
PEAK, BATCH, OTHERS = 2e-3, 512, 1536  # learning rate; lessons of a batch, and phrases that none of them has
SHARP = 14.0  # by what likeness is multiplied
DROP = 0.2
LONGEST = 7  # the most words of a place, and of a phrase, in a lesson
SAID = 6  # the most words of a phrase that ships
CALM = 0.8  # the highest score of a phrase that ships, as a share of the line
TOGETHER = 64  # rows read together
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ,'&()-]*[A-Za-z0-9)]")


@dataclass(frozen=True)
class Lesson:
    """A place among words, and the phrase that somebody put there."""

    words: list[str]
    place: Place
    phrase: str


class Tower(nn.Module):
    """Turns vectors into directions; they are normalised by what was seen in training."""

    mean: Tensor
    scale: Tensor

    def __init__(self, seen: Tensor, hidden: int) -> None:
        super().__init__()
        width = seen.shape[1]
        self.register_buffer("mean", seen.mean(0))
        self.register_buffer("scale", 1 / (seen.std(0) + 1e-3))
        self.hidden, self.out = nn.Linear(width, hidden), nn.Linear(hidden, WIDTH)
        self.drop = nn.Dropout(DROP)

    def forward(self, seen: Tensor) -> Tensor:
        """Turn vectors (..., D) into directions (..., WIDTH) of length 1."""
        found = self.drop((seen - self.mean) * self.scale)
        return F.normalize(self.out(self.drop(F.gelu(self.hidden(found)))), dim=-1)


class Fits(nn.Module):
    """The network that ships. It tells how well each phrase fits a place.

    A row has a second dimension of 1, so that its products are exported as the ones that `eight_bits` knows.
    """

    def __init__(self, places: Tower, phrases: Tensor) -> None:
        super().__init__()
        self.places = places
        count, width = phrases.shape
        self.phrases = nn.Linear(width, count, bias=False)
        self.phrases.weight.data.copy_(phrases)

    def forward(self, seen: Tensor) -> Tensor:
        """Turn what is seen (N, D) into the fit of every phrase (N, phrases)."""
        fits: Tensor = self.phrases(self.places(seen[:, None]))[:, 0]
        return fits


def lessons_of(old: str, new: str) -> Iterator[Lesson]:
    """Make a lesson of every place that a repair changes; the places behind it are repaired already.

    Where words only came, the word before them counts as changed.
    """
    before, after = read_words(old), read_words(new)
    olds, news = [word.text for word in before], [word.text for word in after]
    for start, end, into, until in changes(olds, news):
        back = int(start == end and min(start, into) > 0)
        first, begins = start - back, into - back
        if not (0 < end - first <= LONGEST and 0 < until - begins <= LONGEST):
            continue
        phrase = " ".join(new[after[begins].span[0] : after[until - 1].span[1]].split())
        if new.isupper():
            phrase = phrase.lower()
        elif begins == 0 and phrase.split()[0] != "I":
            phrase = phrase[0].lower() + phrase[1:]
        yield Lesson(olds[:end] + news[until:], (first, end - 1), phrase)


def read_words(text: str) -> list[Word]:
    """Split a text into its words as the reader spells them, with their places in the text."""
    words = split(text)
    spelled = folded(words)
    return [Word(new.text, old.span) for new, old in zip(spelled, words, strict=True)]


def shippable(phrases: Sequence[str]) -> list[bool]:
    """Tell which phrases may ship: short, plain, calm when they stand alone; they name no minor and no group of people.

    A prompt must not become one of some people because another prompt was.
    """
    readings = Reader.load().read(phrases)
    return [
        bool(_PLAIN.fullmatch(phrase))
        and not phrase.isupper()
        and len(phrase.split()) <= SAID
        and reading.height < CALM
        and not names_minor(phrase)
        and not groups_in(phrase)
        for phrase, reading in zip(phrases, readings, strict=True)
    ]


def seen_in(network: Network, lessons: Sequence[Lesson]) -> Tensor:
    """Give what the network sees of every lesson's place, (N, 8 D); rows of like length are read together."""
    order = sorted(range(len(lessons)), key=lambda at: len(lessons[at].words))
    found: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(lessons)
    for start in range(0, len(order), TOGETHER):
        some = order[start : start + TOGETHER]
        seen = seen_of(network, [lessons[at].words for at in some], [lessons[at].place for at in some])
        for at, vector in zip(some, seen, strict=True):
            found[at] = vector
    return torch.from_numpy(np.stack(found))


def phrases_in(network: Network, phrases: Sequence[str]) -> Tensor:
    """Give what the network sees of phrases alone, (N, 3 D): the first word, the last, and the mean."""
    alone = [[word.text for word in read_words(phrase)] for phrase in phrases]
    seen = seen_in(network, [Lesson(words, (0, len(words) - 1), "") for words in alone])
    width = seen.shape[1] // (2 * BESIDE + 4)
    return seen[:, 2 * BESIDE * width : (2 * BESIDE + 3) * width]


def train(folder: Path, steps: int, minutes: float) -> None:
    """Train, or go on training, under `folder`, and ship."""
    torch.manual_seed(0)
    network = Network()
    lessons = [lesson for old, new, _ in rows() for lesson in lessons_of(old, new)]
    phrases = sorted({lesson.phrase for lesson in lessons})
    index = {phrase: at for at, phrase in enumerate(phrases)}
    wanted = torch.tensor([index[lesson.phrase] for lesson in lessons])
    seen, alone = seen_in(network, lessons), phrases_in(network, phrases)
    towers = nn.ModuleDict({"places": Tower(seen, HIDDEN), "phrases": Tower(alone, PHRASE_HIDDEN)})
    run = Progress(towers, folder, steps, PEAK, minutes, decay=0.99)
    print(f"filling from step {run.step}; {len(lessons)} places, {len(phrases)} phrases", flush=True)
    total = 0.0
    for step in run:
        towers.train()
        dice = torch.Generator().manual_seed(step)
        some = torch.randint(len(lessons), (BATCH,), generator=dice)
        others = torch.randint(len(phrases), (OTHERS,), generator=dice)
        candidates, right = torch.unique(torch.cat([wanted[some], others]), return_inverse=True)
        likeness = towers["places"](seen[some]) @ towers["phrases"](alone[candidates]).T
        loss = F.cross_entropy(SHARP * likeness, right[:BATCH])
        total += loss.item()
        run.update(loss)
        if step % 50 == 49:
            print(f"filling {step + 1} loss {total / 50:.4f}", flush=True)
            total = 0.0
    kept = [at for at, good in enumerate(shippable(phrases)) if good]
    with torch.no_grad():
        directions = run.average["phrases"](alone[kept])
    ship(Fits(run.average["places"], directions), [phrases[at] for at in kept])


def ship(fits: Fits, phrases: Sequence[str], out: Path = WEIGHTS) -> None:
    """Export the network in 8 bits and the phrases, and name both in the reader's facts."""
    eight_bits.save(fits, {"seen": torch.zeros(2, len(fits.places.mean))}, "fits", ("places",), out / FILE)
    (out / PHRASES).write_text("\n".join(phrases) + "\n", encoding="utf-8")
    reader_ship.write_facts(out, read_facts(out)["calibration"])
