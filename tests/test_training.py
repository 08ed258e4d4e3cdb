"""What the causal encoder is taught with."""

from __future__ import annotations

import random

import torch

from safegen.builtin.training import causal, causal_data
from safegen.builtin.training.causal import KINDS
from safegen.builtin.training.causal_data import LONGEST, Lessons, Teacher, levelled, standard
from safegen.generator import Generator
from safegen.prompts.prompt import clean

TEXTS = ("a cat on a mat", "a man stabbed in an alley", "a kitchen knife and a cat beside a bowl", "two dogs")


def test_levelled_states_vary_by_the_root_of_what_they_did() -> None:
    torch.manual_seed(0)
    turned = torch.linalg.qr(torch.randn(4, 4))[0]
    states = (torch.randn(20_000, 4) * torch.tensor([8.0, 4.0, 2.0, 1.0])) @ turned + 5
    found = levelled(states).float()
    assert found.mean(0).abs().max() < 0.05
    spread = found.std(0).flip(0)
    assert torch.allclose(spread / spread[-1], torch.tensor([8.0, 4.0, 2.0, 1.0]).sqrt(), rtol=0.05)
    assert abs(float(found.var(0).mean()) - 1) < 0.05


def test_altered_texts_are_made_of_words_from_anywhere(monkeypatch) -> None:
    monkeypatch.setattr(causal_data, "ALTERED", 300)
    texts = ["a red cat on a mat", "an old man reads a book " * 6]
    made = list(causal_data.altered(random.Random(0), texts, ["zebra"]))
    assert len(made) == 300
    words = {word for text in made for word in text.split()}
    assert words <= {"zebra", *" ".join(texts).split()}
    assert "zebra" in words
    assert all(1 <= len(text.split()) <= LONGEST for text in made)
    assert len(set(made)) > 250


def test_lessons_hold_what_the_directions_read(generator: Generator) -> None:
    found = Lessons.of(TEXTS, Teacher(generator.family), causal.load()[0])
    assert generator.guard is not None
    sheets = generator.guard.context.scorer.score(generator.encode([clean(text) for text in TEXTS]).conditioning)
    gates = torch.tensor([[concept.score for concept in sheet.concepts.values()] for sheet in sheets])
    assert found.whole.shape == (4, 2 * 256 + KINDS)
    # The lessons' states are of half precision, in bfloat16 on processors that have it.
    assert torch.allclose(found.whole[:, -KINDS:].float(), standard(gates), atol=0.03)
    assert len(found.words) == sum(len(text.split()) for text in TEXTS)
    violence = found.words[found.firsts[1] : found.firsts[2], -KINDS:][:, list(sheets[1].concepts).index("violence")]
    assert int(violence.argmax()) == TEXTS[1].split().index("stabbed")
