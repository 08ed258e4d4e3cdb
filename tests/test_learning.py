"""Learning: what is aligned, what an untrained network does, what a region moves."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from safegen.conditioning import Position, Token
from safegen.directions.recipes import Concept
from safegen.generator import Generator
from safegen.guard import Guard
from safegen.learning import ensure, es, heads, region
from safegen.learning.corpus import Corpus, benign_prompts
from safegen.learning.effort import BRIEF, PLAIN_SIGHT, TRANSPORTED, Effort
from safegen.learning.es import alignment, slot
from safegen.progress import SILENT
from safegen.safeguards.es import SanitizerNet
from safegen.safeguards.region import constrain

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


@pytest.mark.slow
def test_a_sanitizer_learns_to_go_from_targets_to_anchors(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(es, "STEPS", 60)
    corpus = Corpus.of(Concept.load("violence"), PLAIN_SIGHT)
    harmful = es.pairs(corpus, generator.family, "text", range(26))
    benign = es.benign_pairs(generator.family, "text", benign_prompts()[:16])
    net = es.train(harmful, benign)
    figures = es.assess(net, harmful, benign)
    assert figures["erased"] > 0.2
    assert figures["benign_drift"] < 0.02
    monkeypatch.setattr(es, "STEPS", 4)
    one, other = es.train(harmful, benign), es.train(harmful, benign)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_learned_score_is_highest_on_the_harmful_word(generator: Generator) -> None:
    guard = Guard(safeguard="es").bind(generator.family)
    (sheet,) = guard.score(generator.family.encode(["a cat and a kitchen knife"]))
    assert max(sheet.words, key=lambda w: w.intensity or 0).text == "knife"
    assert all(0 <= (w.intensity or 0) <= 1 for w in sheet.words)
    assert "intensity" in sheet.as_json("x")["words"][0]
    assert "intensity" not in generator.score(["a cat"])[0].as_json("x")["words"][0]


def cloud(count: int, seed: int) -> Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))


def odds(head: dict[str, Tensor], points: Tensor) -> Tensor:
    """A head's log-odds of points (N, D), but for a constant."""
    hidden = torch.nn.functional.linear(points - head["centre"], head["weight"], head["bias"])
    return torch.nn.functional.gelu(hidden) @ head["out"]


def test_a_head_in_closed_form_is_a_line() -> None:
    head = heads.solve(cloud(60, 1) + 2, cloud(200, 2))
    points, far = cloud(50, 3), 5 * cloud(50, 4)
    sums = odds(head, points + far) + odds(head, head["centre"].expand(50, -1))
    torch.testing.assert_close(sums, odds(head, points) + odds(head, far + head["centre"]), rtol=1e-3, atol=1e-3)
    assert odds(head, cloud(60, 5) + 2).mean() > odds(head, points).mean() + 1


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_blended_heads_vary_by_their_shares(share: float) -> None:
    harmful, benign = cloud(60, 1) + 2, cloud(200, 2)
    nets, line = heads.train([(harmful, 16)], benign, 20, 2, 6), heads.solve(harmful, benign)
    both = heads.blend([(nets, 1 - share), (line, share)], benign)
    parts = [odds(part, benign) / odds(part, benign).std() for part in (nets, line)]
    torch.testing.assert_close(odds(both, benign), (1 - share) * parts[0] + share * parts[1], rtol=1e-4, atol=1e-4)
    assert heads.blend([(line, 1.0)], benign) is line


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_region_moves_only_what_is_outside(strength: float) -> None:
    away = torch.eye(8)[:2].repeat(20, 1) * 6  # two sides of a concept
    space = region.around(away + 0.3 * cloud(40, 1), 0.3 * cloud(40, 2), cloud(500, 3))
    states = torch.cat([cloud(20, 4), away]).reshape(1, 60, 8)
    positions = torch.full((1, 60), int(Position.TOKEN))
    moved = constrain(states, positions, {Position.TOKEN: space}, strength)
    inside = (space.excess(states) == 0).all(-1)
    assert inside[0, :20].any()
    assert not inside[0, 20:].any()
    assert torch.equal(moved[inside], states[inside])
    assert moved[0, 20:].norm(dim=-1).mean() < (1 - 0.7 * strength) * 6
    untouched = constrain(states, positions, {Position.END: space}, strength)
    assert torch.equal(untouched, states)


@pytest.mark.slow
def test_a_region_is_discovered_through_the_denoiser(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    little = {"PROMPTS": 4, "STEPS": 6, "NOISE_STEPS": 3, "KEPT": 24, "PLAIN_SIGHT": replace(BRIEF, draws=2)}
    for name, value in little.items():
        monkeypatch.setattr(region, name, value)
    concept = Concept.load("violence")
    few = replace(concept, targets=dict(list(concept.targets.items())[:11]))
    assert generator.guard is not None
    shipped = generator.guard.directions["violence"]
    (plain,) = region.learn(few, generator.family, shipped, denoiser=False).values()
    (found,) = region.learn(few, generator.family, shipped).values()
    assert found.info["region"]["goal_error"] < 1
    assert 0 < plain.info["region"]["erased"] < 1
    key = "token.region_moves"
    assert not torch.equal(plain.tensors[key], found.tensors[key])
    assert torch.equal(plain.tensors["token.region_normals"], found.tensors["token.region_normals"])
    assert torch.equal(found.tensors["gate.scale"], shipped["text"].tensors["gate.scale"])


def test_what_carries_nothing_over_is_learned_briefly_unless_it_was_asked_for() -> None:
    tried: list[str] = []

    def learner(effort: Effort) -> Any:
        tried.append(effort.name)
        return SimpleNamespace(learn=lambda *_, **__: {})

    for asked in (False, True):
        ensure.learn(Concept.load("violence"), TRANSPORTED, learner, SILENT, asked=asked)
    assert tried == ["transported", "brief", "transported"]
