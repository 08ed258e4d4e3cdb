"""The lessons of the causal encoder: texts, and what the former edition's encoder makes of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from safegen.builtin import world
from safegen.builtin.training import former
from safegen.builtin.training.checkpointing import halved
from safegen.conditioning import Position
from safegen.directions import recipes
from safegen.directions.recipes import Concept
from safegen.families import Family
from safegen.learning import ensure
from safegen.learning.corpus import PLAIN, Corpus, benign_prompts, captions
from safegen.learning.effort import THOROUGH
from safegen.prompts import datasets
from safegen.scoring.probes import Features
from safegen.scoring.scorer import Scorer

SETS = ("coco_captions_8k.csv", "coprov2_train_pairs.csv")
SCENES, MIXED, SPOILED = 6_000, 8_000, 14_000  # captions of the world, two texts in one, texts with a fault
ALTERED = 200_000  # texts that nobody wrote; from written texts alone, the pupil would learn by heart
LONGEST = 24  # words of an altered text, at most
BATCH = 64


def texts(data: Path, vocabulary: Sequence[str]) -> list[str]:
    """Collect all texts that the project learns from, the training parts of prompt sets, and texts of their words.

    Args:
        data: folder of `SETS`.
        vocabulary: further words; each stands in two short prompts.
    """
    rng = random.Random("lessons")
    everyday, pairs = (datasets.read(data / name) for name in SETS)
    found = [*captions(), *benign_prompts(), *(e.prompt for e in everyday if not e.is_validation)]
    for name in recipes.known():
        corpus = Corpus.of(Concept.load(name), THOROUGH, pairs)
        found += [*corpus.targets, *corpus.anchors, *corpus.hard, *corpus.company, *corpus.unsafe, *corpus.safe]
    found += [world.sample(rng).caption for _ in range(SCENES)]
    found = list(dict.fromkeys(found))
    joined = [f"{rng.choice(found)}, {rng.choice(found)}" for _ in range(MIXED)]
    spoiled = [_spoiled(rng, rng.choice(found)) for _ in range(SPOILED)]
    invented = altered(rng, found, vocabulary)
    return list(dict.fromkeys([*found, *joined, *spoiled, *_named(rng, vocabulary), *invented]))


def _spoiled(rng: random.Random, text: str) -> str:
    """Leave a word out, as when its cause is asked for, or swap two of its letters."""
    words = text.split()
    place = rng.randrange(len(words))
    if rng.random() < 0.6:
        return " ".join(words[:place] + words[place + 1 :]) or text
    at = rng.randrange(len(words[place]))
    words[place] = words[place][:at] + words[place][at : at + 2][::-1] + words[place][at + 2 :]
    return " ".join(words)


def altered(rng: random.Random, texts: Sequence[str], vocabulary: Sequence[str]) -> Iterator[str]:
    """Join the beginning of one text and the end of another, with some words replaced by words from anywhere."""
    spoken = " ".join(texts).split()
    for _ in range(ALTERED):
        head, tail = (rng.choice(texts).split() for _ in range(2))
        words = [*head[: rng.randint(0, len(head))], *tail[rng.randint(0, len(tail)) :]] if rng.random() < 0.5 else head
        share = rng.uniform(0, 0.5)
        yield " ".join(
            word if rng.random() >= share else rng.choice(spoken if rng.random() < 0.7 else vocabulary)
            for word in (words or head)[:LONGEST]
        )


def _named(rng: random.Random, vocabulary: Sequence[str]) -> Iterator[str]:
    for _ in range(2):
        shuffled = rng.sample(vocabulary, len(vocabulary))
        for first, second in zip(shuffled[::2], shuffled[1::2], strict=False):
            yield rng.choice(PLAIN[2:]).format(b=f"a {first}", c=f"a {second}", g="red")


class Teacher:
    """An encoder with its tokenizer and directions.

    Args:
        family: the model whose encoder it is.
        folder: where its directions are; None means the shipped ones.
    """

    def __init__(self, family: Family, folder: Path | None = None) -> None:
        names = list(recipes.known())
        (output,) = family.outputs
        self.tokenizer, self.encoder = output.tokenizer, output.encoder
        (self.probes,) = Scorer.of(ensure.resolve(names, family, folder), names).channels.values()

    @classmethod
    def former(cls) -> Teacher:
        """Load the former edition's."""
        return cls(former.family(), former.checkout() / "directions")

    @property
    def vocabulary(self) -> list[str]:
        """The whole words of the tokenizer."""
        return sorted(
            word for word in self.tokenizer.get_vocab() if len(word) > 2 and word.isascii() and word.isalpha()
        )

    def gates(self, start: Tensor, words: Tensor, end: Tensor) -> Tensor:
        """Score texts with these states (N, 384) by every concept's classifier (N, K), in standard deviations."""
        found = []
        for states in zip(*(torch.split(part, 4096) for part in (start, words, end)), strict=True):
            means = dict(zip((Position.START, Position.TOKEN, Position.END), states, strict=True))
            everywhere = torch.ones(len(states[0]), dtype=torch.bool)
            found.append(self.probes.raw(Features(means, dict.fromkeys(means, everywhere))))
        return standard(torch.cat(found))

    def scores(self, words: Tensor) -> Tensor:
        """Compute every concept's token score (M, K) for words with these states (M, 384), in standard deviations."""
        own = self.probes.stack("token.own", words)  # (K, 384)
        assert own is not None
        return standard(torch.cat([part.float() @ own.T for part in torch.split(words, 50_000)]))

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> list[tuple[Tensor, list[tuple[int, int]]]]:
        """Encode each text: the states (T, 384) of its tokens, specials included, and their characters."""
        found: dict[int, tuple[Tensor, list[tuple[int, int]]]] = {}
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # like lengths together: fewer pads
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            told = self.tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                return_tensors="pt",
                return_offsets_mapping=True,
            )
            with halved("cpu"):
                states = self.encoder(told.input_ids, attention_mask=told.attention_mask)[0].float()
            for i, state, spans, used in zip(
                rows, states, told.offset_mapping.tolist(), told.attention_mask.sum(1).tolist(), strict=True
            ):
                found[i] = (state[:used].half(), [tuple(span) for span in spans[:used]])
        return [found[i] for i in range(len(texts))]


@dataclass(frozen=True)
class Lessons:
    """N texts in the pupil's tokens with the teacher's states in levelled directions, see `levelled`.

    Attributes:
        ids: tokens of all texts, start and end included, one text after the other.
        starts: (N + 1,) where each text begins in `ids`.
        whole: (N, 768 + K) the teacher's mean state of words beside its first state, and K classifier scores.
        places: (M,) where in its text every word has its last token.
        firsts: (N + 1,) where each text's words begin in `places`.
        words: (M, 384 + K) the teacher's mean state of each word, and its token scores.
    """

    ids: Tensor
    starts: Tensor
    whole: Tensor
    places: Tensor
    firsts: Tensor
    words: Tensor

    @classmethod
    def of(cls, texts: Sequence[str], teacher: Teacher, tokenizer: Any) -> Lessons:
        """Let the teacher read the texts; it takes some milliseconds a text."""
        told = tokenizer(list(texts), truncation=True, return_offsets_mapping=True)
        ids, starts, outer, places, firsts, words = [], [0], [], [], [0], []
        for tokens, spans, (states, theirs) in zip(
            told.input_ids, told.offset_mapping, teacher.read(texts), strict=True
        ):
            ids += tokens
            starts.append(len(ids))
            outer.append(torch.stack([states[0].float(), mean_word(states), states[-1].float()]))
            parts = []
            for place, (begin, end) in ends_of_words(tokenizer.convert_ids_to_tokens(tokens), spans):
                inside = [i for i, (a, b) in enumerate(theirs) if a < end and b > begin]
                if inside:  # the teacher's window may end before this word
                    places.append(place)
                    parts.append((inside[0], inside[-1] + 1))
            firsts.append(len(places))
            sums = F.pad(states.float().cumsum(0), (0, 0, 1, 0))
            first, last = torch.tensor(parts, dtype=torch.long).reshape(-1, 2).T
            words.append(((sums[last] - sums[first]) / (last - first).unsqueeze(-1)).half())
        start, middle, stop = torch.stack(outer).unbind(1)
        word = torch.cat(words)
        whole = torch.cat([levelled(middle), levelled(start), teacher.gates(start, middle, stop).half()], dim=1)
        said = torch.cat([levelled(word), teacher.scores(word).half()], dim=1)
        return cls(
            *(torch.tensor(ids), torch.tensor(starts), whole),
            *(torch.tensor(places), torch.tensor(firsts), said),
        )

    @classmethod
    def kept(cls, path: Path) -> Lessons:
        """Read what `keep` wrote."""
        tensors = load_file(path)
        return cls(**{field.name: tensors[field.name] for field in fields(cls)})

    def keep(self, path: Path) -> None:
        """Write the lessons, so that a resumed run need not read the texts again."""
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({field.name: getattr(self, field.name).contiguous() for field in fields(self)}, path)

    def __len__(self) -> int:
        return len(self.whole)


def mean_word(states: Tensor) -> Tensor:
    """Average the states (384,) of a text's own tokens, if it has any."""
    return (states[1:-1] if len(states) > 2 else states).float().mean(0)


def ends_of_words(tokens: Sequence[str], spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, tuple[int, int]]]:
    """Find every word's last token and its characters."""
    begin = None
    for place, (token, (start, end)) in enumerate(zip(tokens, spans, strict=True)):
        if start == end:
            continue
        begin = start if begin is None else begin
        if token.endswith("</w>"):
            yield place, (begin, end)
            begin = None


def standard(values: Tensor) -> Tensor:
    """Give every column of values (N, K) in standard deviations from its mean."""
    return (values - values.mean(0)) / values.std(0)


def levelled(states: Tensor) -> Tensor:
    """Turn states (N, D) into their principal directions, halfway to unit variance, in half precision.

    Without this, only a few directions count. With full whitening, the many directions that say least count most,
    and a pupil that is narrower than its teacher wastes itself on those.
    """
    sample = states[torch.randperm(len(states), generator=torch.Generator().manual_seed(0))[:50_000]].float()
    mean = sample.mean(0)
    values, vectors = torch.linalg.eigh((sample - mean).T @ (sample - mean) / len(sample))
    values = values.clamp(min=float(values[-1]) * 1e-6)
    turned = vectors * values**-0.25 / values.sqrt().mean().sqrt()  # unit variance on average
    return torch.cat([((part.float() - mean) @ turned).half() for part in torch.split(states, 50_000)])
