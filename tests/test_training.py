"""What the causal encoder is taught with."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from safegen.builtin.training import causal, causal_data
from safegen.builtin.training.causal import KINDS
from safegen.builtin.training.causal_data import LONGEST, Lessons, Teacher, levelled, standard
from safegen.builtin.training.checkpointing import Progress
from safegen.builtin.training.graft import composed
from safegen.builtin.training.muon import Muon, orthogonal
from safegen.builtin.world import sample
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


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_matrices_are_made_nearly_orthogonal(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    sizes = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert sizes.min() > 0.5
    assert sizes.max() < 1.3


def test_a_run_with_muon_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """To the bit, with the same data in the same steps."""

    def train(folder: Path, *lengths: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(2)
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.GroupNorm(2, 4))
        for length in lengths:
            run = Progress(model, folder, 6, peak_lr=0.02, minutes=float("inf"), optimizer=Muon)
            for step in run:
                if step == length:
                    break
                pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))
                run.update(model(pixels).square().mean())
        return run.average.state_dict()

    whole, halves = train(tmp_path / "one", 6), train(tmp_path / "two", 3, 6)
    assert all(torch.equal(tensor, halves[name]) for name, tensor in whole.items())


def test_a_map_in_front_of_cross_attention_reads_the_new_states_as_the_former_ones() -> None:
    weights = {"a.attn2.to_k.weight": torch.randn(5, 6), "a.attn1.to_k.weight": torch.randn(5, 5)}
    fit, states = torch.randn(4, 6), torch.randn(3, 4)
    found = composed(weights, fit)
    assert torch.allclose(states @ found["a.attn2.to_k.weight"].T, (states @ fit) @ weights["a.attn2.to_k.weight"].T)
    assert torch.equal(found["a.attn1.to_k.weight"], weights["a.attn1.to_k.weight"])


def test_things_are_drawn_more_often_on_request() -> None:
    rng = random.Random(3)
    labels = [t.label for _ in range(400) for t in sample(rng, people_share=0, often=["cat"] * 100).things]
    assert labels.count("cat") > 0.15 * len(labels)
