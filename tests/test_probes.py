"""Probes and the scorer, on directions made by hand: every figure is one that can be worked out in the head."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from safegen.conditioning import SCORED, Channel, Conditioning, Position
from safegen.errors import GuardError
from safegen.generator import Generator
from safegen.scoring import probes
from safegen.scoring.probes import Probes
from safegen.scoring.scorer import Scorer
from tests.helpers import handmade
from tests.helpers.handmade import FAR, LINE, direction

quick = settings(max_examples=20, deadline=None)
MEANINGS = {"knife": (3.0, 0.0), "dagger": (2.5, 0.0), "gun": (1.0, 0.0), "skull": (0.0, 4.0), "dull": (0.005, 0.0)}
VIOLENCE, SHOCKING = direction(), direction("shocking", (0.0, 1.0))
POOLED = {"gate": (Position.POOLED,), "check": (Position.POOLED,)}


def encode(*prompts: str) -> Conditioning:
    return handmade.encode(prompts, MEANINGS)


def text(*prompts: str) -> Channel:
    return encode(*prompts).channels["text"]


def scorer() -> Scorer:
    return Scorer({"text": [VIOLENCE, SHOCKING]})


def near(values: torch.Tensor, *rows: list[float]) -> bool:
    return torch.allclose(values, torch.tensor(rows, dtype=torch.float32), atol=1e-4)


# Features


def test_features_are_the_means_of_each_class() -> None:
    found = probes.features(text("a knife", "gun", ""))
    assert list(found.means) == [Position.START, Position.TOKEN, Position.END]
    assert near(found.means[Position.TOKEN], [1.5, 0.0], [1.0, 0.0], [0.0, 0.0])
    assert near(found.means[Position.END], [3.0, 0.0], [1.0, 0.0], [0.0, 0.0])
    assert found.present[Position.TOKEN].tolist() == [True, True, False]
    assert found.present[Position.END].all()


@pytest.mark.parametrize("position", [p for p in Position if p not in SCORED])
@quick
@given(value=st.floats(-1e4, 1e4))
def test_what_is_not_scored_colours_no_feature_and_no_token(position: Position, value: float) -> None:
    channel = text("a knife", "a gun")
    positions = channel.positions.clone()
    positions[:, 1] = int(position)
    unseen, other = replace(channel, positions=positions), channel.states.clone()
    other[:, 1] = value
    coloured = replace(unseen, states=other)
    before, after = probes.features(unseen), probes.features(coloured)
    assert all(torch.equal(mean, after.means[place]) for place, mean in before.means.items())
    assert list(before.means) == list(after.means)
    assert not Probes([VIOLENCE]).own(coloured)[:, 1].any()


def test_features_of_half_precision_are_whole() -> None:
    channel = text("a knife")
    halved = replace(channel, states=channel.states.half())
    assert all(mean.dtype == torch.float32 for mean in probes.features(halved).means.values())


# Bins


def test_lengths_fall_into_bins_at_their_edges() -> None:
    assert probes.bin_lengths(torch.tensor([0, 8, 9, 16, 17, 999])).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_prompt_s_bin_is_that_of_its_words() -> None:
    channel = text(*(" ".join(["a"] * count) for count in (8, 9, 20, 0)))
    assert probes.lengths_of(channel).tolist() == [8, 9, 20, 0]
    assert probes.bins_of(channel).tolist() == [0, 1, 2, 0]


@quick
@given(st.lists(st.integers(0, 100), min_size=1))
def test_longer_prompts_never_fall_into_lower_bins(lengths: list[int]) -> None:
    found = probes.bin_lengths(torch.tensor(sorted(lengths))).tolist()
    assert found == sorted(found)


# Heads


def test_heads_add_up_what_their_classes_say() -> None:
    """The classifier sees the end alone, the verifier the words alone."""
    some = Probes([VIOLENCE, SHOCKING])
    part = probes.features(text("a knife", "knife skull", ""))
    assert near(some.raw(part), [FAR + 3, FAR], [FAR + 3, FAR + 4], [FAR, FAR])
    assert near(some.raw(part, "check"), [FAR + 1.5, FAR], [FAR + 1.5, FAR + 2], [FAR, FAR])


def test_a_class_that_a_prompt_lacks_counts_as_benign() -> None:
    """Not as a state of zeros, which the centre would make harmful."""
    far_off = direction(token__check_centre=torch.tensor([-50.0, 0.0]))
    raw = Probes([far_off]).raw(probes.features(text("gun", "")), "check")
    assert near(raw, [FAR + 51], [FAR])


def test_a_state_at_the_centre_is_benign() -> None:
    centred = direction(end__gate_centre=torch.tensor([3.0, 0.0]))
    assert near(Probes([centred]).raw(probes.features(text("knife"))), [FAR])


def test_classes_that_directions_do_not_know_are_left_out() -> None:
    part = probes.features(handmade.pooled([[1.0, 0.0]]))
    with pytest.raises(ValueError, match="no direction has a gate"):
        Probes([VIOLENCE]).raw(part)
    assert near(Probes([direction(heads=POOLED)]).raw(part), [FAR + 1])


def test_directions_with_fewer_hidden_units_score_beside_others_as_alone() -> None:
    wide = direction(
        end__gate=torch.tensor([[1.0, 0.0], [0.0, 1.0]]), gate__bias=torch.tensor([FAR, FAR]),
        gate__out=torch.tensor([1.0, -1.0]),
    )  # fmt: skip
    part = probes.features(text("knife skull", "gun"))
    both = Probes([wide, SHOCKING]).raw(part)
    alone = torch.cat([Probes([one]).raw(part) for one in (wide, SHOCKING)], 1)
    assert torch.equal(both, alone)
    assert near(both, [-1.0, FAR + 4], [1.0, FAR])


def test_a_tensor_that_one_direction_lacks_is_not_stacked() -> None:
    like = torch.zeros(1)
    assert Probes([VIOLENCE, SHOCKING]).stack("token.own", like) is not None
    assert Probes([VIOLENCE, direction(pad__own=torch.zeros(2))]).stack("pad.own", like) is None


def test_scores_can_be_followed_down_to_the_states() -> None:
    channel = text("a knife")
    states = channel.states.clone().requires_grad_()
    part = probes.features(replace(channel, states=states))
    Probes([VIOLENCE]).raw(part).sum().backward()
    assert states.grad is not None
    assert states.grad[0].tolist() == [[0, 0], [0, 0], [0, 0], [1, 0]]


def test_values_are_in_deviations_of_their_own_bin() -> None:
    bins = torch.tensor([0, 1, 2])
    scale, lines = torch.tensor([[FAR, 1.0], [FAR, 2.0], [FAR - 2, 4.0]]), torch.tensor([1.0, 2.0, 3.0])
    some = Probes([direction(gate__scale=scale, gate__thresholds=lines), SHOCKING])
    z, over = some.calibrated(torch.full((3, 2), FAR + 2), bins)
    assert near(z, [2.0, 2.0], [1.0, 2.0], [1.0, 2.0])
    assert near(over, [1.0, LINE], [2.0, LINE], [3.0, LINE])


def test_percentiles_count_the_benign_below() -> None:
    """Of 101 values from -1 to 1, those up to a value; of each bin its own."""
    quantiles = FAR + torch.stack([torch.linspace(-1, 1, 101), torch.linspace(1, 3, 101), torch.linspace(-3, -1, 101)])
    some = Probes([direction(gate__quantiles=quantiles)])
    raw = torch.tensor([[FAR - 9], [FAR + 0.005], [FAR + 9], [FAR + 0.005], [FAR + 0.005]])
    found = some.percentiles(raw, torch.tensor([0, 0, 0, 1, 2])).flatten().tolist()
    assert found == pytest.approx([0, 100 * 51 / 101, 100, 0, 100])


@quick
@given(st.lists(st.floats(-2, 2, width=32), min_size=2, max_size=9))
def test_a_higher_value_is_never_at_a_lower_percentile(values: list[float]) -> None:
    raw = FAR + torch.tensor(sorted(values))[:, None]
    found = Probes([VIOLENCE]).percentiles(raw, torch.zeros(len(values), dtype=torch.long)).flatten().tolist()
    assert found == sorted(found)


@pytest.mark.parametrize(("share", "level"), [(0.0, -1.0), (0.5, 0.0), (0.98, 0.96), (1.0, 1.0)])
def test_a_level_is_what_that_share_of_benign_prompts_stays_under(share: float, level: float) -> None:
    assert near(Probes([VIOLENCE, SHOCKING]).level(share, torch.tensor([0, 2])), *[[FAR + level] * 2] * 2)


# Tokens


def test_token_scores_are_deviations_within_their_class() -> None:
    scaled = direction(end__own=torch.tensor([1.0, 0.0]), end__own_scale=torch.tensor([1.0, 2.0]))
    own = Probes([scaled]).own(text("a knife", "gun"))[..., 0]
    assert near(own, [0, 0, 3, 1], [0, 1, 0, 0])


def test_percentiles_of_tokens_are_of_their_class() -> None:
    channel, some = text("dull knife", "gun"), Probes([VIOLENCE])
    shares = some.own_percentiles(some.own(channel), channel)[..., 0]
    assert near(shares, [0, 100 * 51 / 101, 100, 0], [0, 100, 0, 0])


# The scorer


def test_margins_are_over_the_line_in_the_worst_channel() -> None:
    found = encode("knife", "a cat")
    both = replace(found, channels={**found.channels, "pooled": handmade.pooled([[1.0, 0.0], [0.0, 2.5]])})
    some = [direction(heads=POOLED), direction("shocking", (0.0, 1.0), POOLED)]
    two = Scorer({"text": [VIOLENCE, SHOCKING], "pooled": some})
    assert near(scorer().margins(found), [1.0, -LINE], [-LINE, -LINE])
    assert near(two.margins(both), [1.0, -LINE], [-LINE, 0.5])
    assert len(two.directions()) == 4


@pytest.mark.parametrize("channels", [("pooled",), ("text", "pooled")])
def test_a_channel_and_its_directions_go_together_or_not_at_all(channels: tuple[str, ...]) -> None:
    known = encode("a cat")
    others = {"text": known.channels["text"], "pooled": handmade.pooled([[0.0, 0.0]])}
    given_ = Conditioning(known.prompts, {name: others[name] for name in channels})
    for ask in (scorer().margins, scorer().score, scorer().objections, lambda c: scorer().below(c, 0.98)):
        with pytest.raises(GuardError, match="no directions for the channel"):
            ask(given_)


def test_drops_are_measured_in_the_first_prompt_s_bin() -> None:
    """A shorter variant would otherwise be held against other prompts."""
    scale = torch.tensor([[FAR, 1.0], [FAR, 2.0], [FAR, 4.0]])
    lines = torch.tensor([1.0, 2.0, 3.0])
    some = Scorer({"text": [direction(gate__scale=scale, gate__thresholds=lines)]})
    fill = " ".join(["a"] * 8)
    assert near(some.score_drops(encode("gun knife", "gun", "knife", f"knife {fill}")), [3.0], [1.0], [1.0])
    assert near(some.score_drops(encode(f"knife {fill}", "a")), [1.5])


def test_a_prompt_is_below_only_with_all_its_channels() -> None:
    found = encode("a cat", "a cat", "knife")
    both = replace(found, channels={**found.channels, "pooled": handmade.pooled([[0.96, 0], [0.97, 0], [0, 0]])})
    two = Scorer({"text": [VIOLENCE], "pooled": [direction(heads=POOLED)]})
    assert two.below(both, 0.98).tolist() == [[True], [False], [False]]


def test_the_classifier_and_the_verifier_object_each_by_itself() -> None:
    """The sum of the words and their mean: of many words with a knife, only the sum is over the line."""
    prompts = ("a knife", "knife", "skull knife", "a cat", "")
    assert scorer().objections(encode(*prompts)) == [["violence"], ["violence"], ["violence", "shocking"], [], []]
    blind = direction(end__gate=torch.zeros(1, 2))
    assert Scorer({"text": [blind]}).objections(encode("a knife", "knife")) == [[], ["violence"]]


def test_a_value_on_the_line_is_an_objection() -> None:
    on = handmade.encode(["just"], {"just": (LINE, 0.0)})
    assert scorer().objections(on) == [["violence"]]
    assert scorer().score(on)[0].flagged_concepts() == ["violence"]


def test_a_relief_moves_every_line_of_its_prompt() -> None:
    found = handmade.encode(["one", "other"], {"one": (LINE + 0.9, LINE), "other": (LINE - 1, 0.0)})
    assert scorer().objections(found) == [["violence", "shocking"], []]
    assert scorer().objections(found, [1.0, -1.5]) == [[], ["violence"]]
    one, other = scorer().score(found, [1.0, -1.5])
    assert (one.flagged_concepts(), other.flagged_concepts()) == ([], ["violence"])
    assert [sheet.concepts["violence"].threshold for sheet in (one, other)] == [LINE + 1, LINE - 1.5]


def test_a_sheet_says_what_was_found() -> None:
    (sheet,) = scorer().score(encode("a skull , a knife"))
    assert sheet.flagged_concepts() == ["shocking", "violence"]
    verdict = sheet.concepts["violence"]
    assert (verdict.score, verdict.z, verdict.threshold) == pytest.approx((FAR + 3, 3, LINE), abs=1e-4)
    assert (verdict.percentile, sheet.truncated) == (100, "")
    assert [(w.text, w.scores["violence"], w.scores["shocking"]) for w in sheet.words] == [
        ("a", 0, 0), ("skull", 0, 4), (",", 0, 0), ("a", 0, 0), ("knife", 3, 0),
    ]  # fmt: skip
    assert [w.flagged for w in sheet.words] == [(), ("shocking",), (), (), ("violence",)]
    assert [token.text for token in sheet.tokens] == ["<s>", "a", "skull", ",", "a", "knife", "</s>"]


def test_words_at_half_of_the_worst_carry_the_harm_with_it() -> None:
    (sheet,) = scorer().score(encode("a knife , a dagger , a gun"))
    assert [w.text for w in sheet.words if w.flagged] == ["knife", "dagger"]


def test_where_no_word_reaches_its_line_the_worst_one_carries_the_harm() -> None:
    high = replace(VIOLENCE, info={**VIOLENCE.info, "word_threshold": 99.0})
    (sheet,) = Scorer({"text": [high]}).score(encode("a knife , a dagger"))
    assert [w.text for w in sheet.words if w.flagged] == ["knife"]


def test_of_a_benign_prompt_no_word_is_flagged() -> None:
    (sheet,) = scorer().score(encode("a gun"))
    assert not sheet.flagged
    assert not any(word.flagged for word in sheet.words)


@quick
@given(st.lists(st.lists(st.sampled_from(["a", *MEANINGS]), max_size=9).map(" ".join), min_size=1, max_size=4))
def test_a_prompt_scores_in_a_batch_as_it_does_alone(prompts: list[str]) -> None:
    together = scorer().score(encode(*prompts))
    assert together == [sheet for prompt in prompts for sheet in scorer().score(encode(prompt))]


def test_a_scorer_keeps_the_order_of_the_names_and_the_lowest_word_line_of_any_channel() -> None:
    low = replace(VIOLENCE, info={**VIOLENCE.info, "word_threshold": 0.5})
    by_concept = {"shocking": {"text": SHOCKING, "more": SHOCKING}, "violence": {"text": VIOLENCE, "more": low}}
    made = Scorer.of(by_concept, ["violence", "shocking"])
    assert made.names == ("violence", "shocking")
    assert made.word_lines == {"violence": 0.5, "shocking": 1.0}
    assert made.directions() == [VIOLENCE, SHOCKING, low, SHOCKING]
    assert Scorer.of(by_concept, ["shocking"]).names == ("shocking",)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_states_that_are_not_finite_count_as_no_verdict(generator: Generator, wrong: float) -> None:
    """Never as one under the line."""
    assert generator.guard is not None
    conditioning = generator.family.encode(["a kitchen knife"])
    states = conditioning.channels["text"].states.clone()
    states[0, 2] = wrong
    broken, scorer = conditioning.with_states({"text": states}), generator.guard.context.scorer
    for ask in (scorer.score, scorer.margins, scorer.objections, generator.guard.score):
        with pytest.raises(GuardError, match="not finite"):
            ask(broken)
