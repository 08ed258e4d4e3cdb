"""Learning: what is aligned, what an untrained network does, what a region moves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from safegen import concepts
from safegen.conditioning import Position, Token
from safegen.generator import Generator
from safegen.guard import Guard
from safegen.learning import sanitizer
from safegen.learning.corpus import Corpus, benign_prompts
from safegen.learning.sanitizer import alignment, slot
from safegen.safeguards.es import SanitizerNet
from safegen.safeguards.region import HalfSpace, constrained

WORDS = st.lists(st.sampled_from("abc"), max_size=6)


@given(WORDS, WORDS)
def test_a_slot_is_what_two_prompts_do_not_share(target: list[str], anchor: list[str]) -> None:
    first, last = slot(target, anchor)
    assert target[:first] == anchor[:first]
    assert first + last <= min(len(target), len(anchor))
    assert not last or target[-last:] == anchor[-last:]


def row(text: str, length: int = 10) -> list[Token]:
    words = [Token(w, Position.TOKEN, (0, 1)) for w in text.split()]
    tokens = [Token("[start]", Position.START), *words, Token("[end]", Position.END)]
    return tokens + [Token("[pad]", Position.PAD)] * (length - len(tokens))


def test_positions_go_to_what_stands_in_their_place() -> None:
    goals, inside = alignment(row("a cat and a big red gun here"), row("a cat and a spoon here"))
    assert inside == [5, 6, 7]
    assert goals == [0, 1, 2, 3, 4, 5, 5, 5, 6, 7]  # the longer slot repeats its counterpart


def test_a_dropped_word_and_pads_have_a_place() -> None:
    goals, inside = alignment(row("a gun"), row("a"))
    assert (goals[:4], inside) == ([0, 1, 1, 2], [2])
    assert goals[4:] == [4, 5, 6, 7, 8, 9]


def test_an_untrained_sanitizer_changes_nothing(generator: Generator) -> None:
    channel = generator.family.encode(["a cat", "a kitchen knife"]).channels["text"]
    net = SanitizerNet(channel.states.shape[-1])
    assert torch.equal(net.sanitized(channel.states, channel.positions, 1.0), channel.states)


def test_a_sanitizer_learns_to_go_from_targets_to_anchors(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sanitizer, "STEPS", 60)
    corpus = Corpus.of(concepts.load("violence"))
    harmful = sanitizer.pairs(corpus, generator.family, "text", range(26))
    benign = sanitizer.untouched(generator.family, "text", benign_prompts()[:16])
    net = sanitizer.train(harmful, benign)
    figures = sanitizer.assess(net, harmful, benign)
    assert figures["erased"] > 0.2
    assert figures["benign_drift"] < 0.02
    again = sanitizer.train(harmful, benign)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_the_learned_score_is_highest_on_the_harmful_word(generator: Generator) -> None:
    guard = Guard(safeguard="es")
    guard.bind(generator.family)
    (sheet,) = guard.score(generator.family.encode(["a cat and a kitchen knife"]))
    assert max(sheet.words, key=lambda w: w.intensity or 0).text == "knife"
    assert all(0 <= (w.intensity or 0) <= 1 for w in sheet.words)
    assert "intensity" in sheet.as_json("x")["words"][0]
    assert "intensity" not in generator.score(["a cat"])[0].as_json("x")["words"][0]


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_region_moves_only_what_is_outside(strength: float) -> None:
    draw = torch.Generator().manual_seed(0)
    space = HalfSpace.around(torch.randn(500, 8, generator=draw), torch.randn(8, generator=draw))
    states = 2 * torch.randn(3, 5, 8, generator=draw)
    positions = torch.full((3, 5), int(Position.TOKEN))
    moved = constrained(states, positions, {Position.TOKEN: space}, strength)
    inside = (space.excess(states) == 0)[..., 0]
    assert inside.any()
    assert not inside.all()
    assert torch.equal(moved[inside], states[inside])
    assert torch.allclose(space.excess(moved), (1 - strength) * space.excess(states), atol=1e-4)
    untouched = constrained(states, positions, {Position.END: space}, strength)
    assert torch.equal(untouched, states)
