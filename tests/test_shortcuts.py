"""Shortcuts through text encoders: what only the guard reads is encoded without pads, and says the same."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from safegen.conditioning import Conditioning, Position
from safegen.families import family_of
from tests.helpers.counting import counted
from tests.helpers.pipelines import EVERY, HARMFUL, pipeline

pytestmark = [
    pytest.mark.slow,  # every family is built
    pytest.mark.filterwarnings("ignore"),  # of the libraries, about models as small as these
]
# Their encoders attend to pads, get one prompt at a time, are called layer by layer, or get no more than the longest.
WHOLE = ("cogview3", "cogview4", "ernie-image", "ideogram4", "qwen-image-21", "lumina")
VARIANTS = [f"{HARMFUL} next to the big house", "a cat and a kitchen next to the big house", "a cat", "a cat and"]


def classes(conditioning: Conditioning, row: int, of: Sequence[Position]) -> dict[tuple[str, Position], torch.Tensor]:
    """The states of one prompt, by channel and class."""
    return {
        (name, position): channel.states[row][channel.positions[row] == position]
        for name, channel in conditioning.channels.items()
        for position in of
    }


@EVERY
def test_without_pads_every_other_state_is_the_same_but_for_rounding(name: str) -> None:
    family = family_of(pipeline(name))
    whole, all_positions = counted(family, lambda: family.encode(VARIANTS))
    short, positions = counted(family, lambda: family.encode_words(VARIANTS))
    others = [p for p in Position if p not in (Position.PAD, Position.UNREAD, Position.ABSENT)]
    for row, prompt in enumerate(whole.prompts):
        old, new = (classes(one, row, others) for one in (whole, short))
        for place, states in old.items():
            torch.testing.assert_close(new[place], states, atol=1e-5, rtol=1e-4)
        assert short.prompts[row] == prompt
        assert [(w.text, w.span) for w in short.words(row)] == [(w.text, w.span) for w in whole.words(row)]
    for channel_name, channel in short.channels.items():
        assert channel.lengths == whole.channels[channel_name].lengths
        assert not channel.states.isnan().any()
    assert (positions < all_positions) == (name not in WHOLE)


@pytest.mark.parametrize(
    ("name", "share"),
    [("flux2", 0.15), ("flux2-klein", 0.15), ("z-image", 0.15), ("sana", 0.15), ("qwen-image", 0.3)],
)
def test_variants_of_a_prompt_share_what_they_begin_with(name: str, share: float) -> None:
    family = family_of(pipeline(name))
    words = VARIANTS[0].split()
    variants = [VARIANTS[0], *(" ".join(words[:i] + words[i + 1 :]) for i in range(len(words)))]
    _, all_positions = counted(family, lambda: family.encode(variants))
    _, positions = counted(family, lambda: family.encode_words(variants))
    assert positions < share * all_positions


@pytest.mark.parametrize("name", ["flux2-klein", "sd"])
def test_a_few_pads_stand_for_all_where_they_are_masked_and_all_are_kept_where_they_are_not(name: str) -> None:
    family = family_of(pipeline(name))
    whole, some = family.encode([HARMFUL]), family.encode_words([HARMFUL], 4)
    ((channel, old),), ((_, new),) = whole.channels.items(), some.channels.items()
    pads = [states.states[0][states.positions[0] == Position.PAD] for states in (old, new)]
    assert len(pads[1]) == (4 if name == "flux2-klein" else len(pads[0])), channel
    spread = torch.linspace(0, len(pads[0]) - 1, len(pads[1])).round().long()
    torch.testing.assert_close(pads[1], pads[0][spread], atol=1e-5, rtol=1e-4)


def test_the_encoder_is_left_as_it_was_and_states_of_words_that_are_not_finite_stay() -> None:
    family = family_of(pipeline("z-image"))
    encoder = family.outputs[0].encoder
    before, weight = dict(vars(encoder)), encoder.embed_tokens.weight
    kept = weight.clone()
    try:
        weight[:] = float("nan")
        assert family.encode_words(VARIANTS[:1]).channels["qwen"].states.isnan().all()
    finally:
        weight[:] = kept
    assert dict(vars(encoder)) == before
