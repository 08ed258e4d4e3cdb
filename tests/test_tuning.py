"""Weight edits that are tuned from pictures: the loop, each method's loss, and what they leave as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from safegen.cli.directions_edits import judge_of
from safegen.directions import edits
from safegen.directions.edits import WeightEdit
from safegen.directions.recipes import Concept
from safegen.errors import DirectionError, ModelError, UsageError
from safegen.families import family_of
from safegen.families.edits import Delta, attached, edited, picture_layers
from safegen.generator import Generator
from safegen.learning import TUNED, duo, shielddiff, tuning
from safegen.learning.objective import NOBODY, Judge, Objective, Pairs, Plan, TunedModel
from safegen.learning.safegen_ccs import SelfAttention, mosaic
from safegen.safeguards import import_object
from tests.helpers import miniatures
from tests.helpers.pipelines import BENIGN, HARMFUL, call, pipeline

pytestmark = [pytest.mark.filterwarnings("ignore")]  # of the libraries, about models as small as the miniatures

SMALL = Plan(4, 2, batch=2, draw_steps=3, steps=4, rate=1e-3, warm_up=2, rank=2, side=64)
BRIGHT = Judge("brightness", lambda pictures: [float(np.asarray(one).mean()) > 127 for one in pictures])
METHODS = pytest.mark.parametrize("method", sorted(TUNED))


def objective(method: str) -> Objective:
    made: Objective = import_object(TUNED[method])()
    return made


def learn(method: str, plan: Plan = SMALL, **more: Any) -> WeightEdit:
    family = family_of(pipeline("sd"))
    return tuning.learn(Concept.load("violence"), family, objective(method), 3.0, plan, BRIGHT, **more)


def state(pipe: Any) -> list[Any]:
    """All that tuning could leave behind in a pipeline, bit for bit."""
    modules = list(pipe.unet.modules())
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules]
    asking = [weight.requires_grad for weight in pipe.unet.parameters()]
    weights = [weight.detach().numpy().tobytes() for weight in pipe.unet.state_dict().values()]
    return [hooks, asking, weights, id(pipe.scheduler), dict(pipe.config)]


@pytest.fixture
def model() -> TunedModel:
    """A miniature with changes that change nothing yet."""
    family = family_of(pipeline("sd"))
    denoiser = family.bottleneck.denoiser
    return TunedModel(family, 3.0, tuning.begin(denoiser, picture_layers(denoiser), SMALL), SMALL, BRIGHT)


@pytest.fixture
def pairs(model: TunedModel) -> Pairs:
    own, _ = tuning.lessons(Concept.load("violence"), tuning.SAFE, 2, 1)
    (found,) = tuning.Work(model, objective("duo"), "", None, lambda _: None).draw(own, 0)
    return found


# The loop


@METHODS
def test_a_method_learns_a_change_of_its_own_layers_and_leaves_the_model_as_it_was(method: str) -> None:
    pipe = pipeline("sd")
    before = state(pipe)
    edit = learn(method)
    assert state(pipe) == before
    assert edit.layers() == sorted(objective(method).layers(pipe.unet))
    assert all(torch.isfinite(half).all() for half in edit.tensors.values())
    assert any(bool(half.any()) for name, half in edit.tensors.items() if name.endswith(".up"))
    assert {"loss", "loss_before"} <= set(edit.info["held_out"])
    assert edit.info["sources"].get("judge", "") == ("brightness" if method == "shielddiff" else "")


def test_a_run_that_was_interrupted_ends_where_it_would_have_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tuning, "SAVED", 2)

    class Interrupted(Exception): ...

    class Alarm:
        def __init__(self, after: int) -> None:
            self.left = after

        def say(self, message: str) -> None: ...

        @contextlib.contextmanager
        def counting(self, label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
            yield self.tick

        def tick(self, count: int) -> None:
            self.left -= count
            if self.left <= 0:
                raise Interrupted

    whole, partial = learn("safegen-ccs"), tmp_path / "x.partial"
    for after in (2, 3 + tuning.TURNS + 3):  # among the pictures; behind the second step
        with pytest.raises(Interrupted):
            learn("safegen-ccs", partial=partial, progress=Alarm(after))
        assert partial.is_file()
    again = learn("safegen-ccs", partial=partial)
    assert all(torch.equal(half, again.tensors[name]) for name, half in whole.tensors.items())
    assert not partial.exists()


def test_joint_attention_is_refused_before_anything_is_drawn() -> None:
    with pytest.raises(UsageError, match="FluxTransformer2DModel has no cross-attention"):
        tuning.learn(Concept.load("violence"), family_of(pipeline("flux-dev")), SelfAttention(), 3.0, SMALL)


@pytest.mark.slow
def test_on_the_embedded_model_a_short_tuning_lowers_the_loss_of_pictures_kept_apart(
    command: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And so the command keeps what was learned, beside the recipe. Its one line is of what the model can draw."""
    monkeypatch.setattr(duo.Preference, "plan", Plan(4, 4, 2, draw_steps=4, steps=12, rate=6e-5, warm_up=0, rank=8))
    recipe = tmp_path / "knives" / "concept.toml"
    recipe.parent.mkdir()
    recipe.write_text('title = "Knives"\n[targets]\n"a kitchen knife" = "a wooden spoon"\n')
    assert command("directions", "learn", "knives", "--method", "duo", "--directions", str(tmp_path)) == 0
    (file,) = (recipe.parent / edits.FOLDER).glob("duo-unet-*.safetensors")
    held = WeightEdit.load(file).info["held_out"]
    assert held["loss"] < held["loss_before"]


@pytest.mark.parametrize("after", [1.0, 2.0, float("nan")])
def test_an_edit_that_lowers_nothing_is_not_kept(after: float) -> None:
    info = {"concept": "violence", "method": "duo", "held_out": {"loss_before": 1.0, "loss": after}}
    with pytest.raises(DirectionError, match="by duo has a loss of"):
        edits.check_ready(WeightEdit({}, info))


# Changes at work


def test_a_whole_edit_does_what_changed_weights_would_do_in_both_halves_of_guidance() -> None:
    pipe, family, chance = pipeline("sd"), family_of(pipeline("sd")), torch.Generator().manual_seed(2)
    modules = dict(pipe.unet.named_modules())
    deltas = {
        name: Delta(
            torch.randn(modules[name].out_features, 2, generator=chance),
            torch.randn(2, modules[name].in_features, generator=chance),
        )
        for name in picture_layers(pipe.unet)
    }
    before, two = state(pipe), [BENIGN, HARMFUL]
    plain = call("sd", two, guidance_scale=4.0)
    with edited(family, 2, {1: [(deltas, 0.5)]}, whole=True):
        mixed = call("sd", two, guidance_scale=4.0)
    assert torch.equal(mixed[0], plain[0])
    assert state(pipe) == before
    other = miniatures.stable_diffusion()
    for name, delta in deltas.items():
        dict(other.unet.named_modules())[name].weight.data += 0.5 * delta.up @ delta.down
    changed = call("sd", two, other, guidance_scale=4.0)[1]
    assert not torch.allclose(changed, plain[1], atol=1e-3)
    assert torch.allclose(changed, mixed[1], atol=1e-3)


def test_a_change_that_does_not_fit_or_would_not_be_called_leaves_nothing_behind() -> None:
    pipe = miniatures.stable_diffusion()
    name = picture_layers(pipe.unet)[0]
    layer = dict(pipe.unet.named_modules())[name]
    fitting = Delta(torch.zeros(layer.out_features, 1), torch.zeros(1, layer.in_features))
    before = state(pipe)
    with (
        pytest.raises(DirectionError, match="5 by 5"),
        attached(pipe.unet, {name: fitting, "conv_in": Delta(torch.zeros(5, 1), torch.zeros(1, 5))}),
    ):
        raise AssertionError
    with pytest.raises(ZeroDivisionError), attached(pipe.unet, {name: fitting}):
        raise ZeroDivisionError
    assert state(pipe) == before
    pipe.fuse_qkv_projections()
    with pytest.raises(ModelError, match="fused"), attached(pipe.unet, {name: fitting}):
        raise AssertionError


# The losses


def test_a_mosaic_has_the_mean_of_its_picture_and_is_its_own_mosaic() -> None:
    picture = torch.randn(2, 4, 16, 16)
    seen = mosaic(picture)
    assert torch.allclose(seen.mean((2, 3)), picture.mean((2, 3)), atol=1e-6)
    assert torch.allclose(mosaic(seen), seen, atol=1e-6)
    assert len(seen[0, 0].unique()) == 16


def test_an_untuned_denoiser_prefers_nothing_and_has_not_moved(model: TunedModel, pairs: Pairs) -> None:
    found = duo.Preference().losses(model, pairs, torch.Generator().manual_seed(0))
    assert float(found["preference"]) == pytest.approx(float(torch.tensor(2.0).log()))
    assert float(found["drift"]) == 0


def test_a_step_of_the_policy_makes_moves_of_much_reward_likelier(model: TunedModel, pairs: Pairs) -> None:
    """A move is a sample of what the denoiser says, so its distance is that of plain noise; the gradient lessens it."""
    drawn = shielddiff.draw(model, pairs, 1, torch.Generator().manual_seed(0))
    assert len(drawn.calls) == len(drawn.ends) == SMALL.draw_steps
    before = shielddiff.surprise(model, drawn, 0)
    assert before.tolist() == pytest.approx([0.5] * len(before), abs=0.15)
    halves = list(tuning.named(model).values())
    for half, slope in zip(halves, torch.autograd.grad(before.sum(), halves), strict=True):
        half.data -= 1e-3 * slope
    assert shielddiff.surprise(model, drawn, 0).sum() < before.sum()


def test_who_judges_is_said_and_nobody_is_refused(generator: Generator) -> None:
    violence = Concept.load("violence")
    judge = judge_of(violence, generator.pipe, generator.model)
    assert judge.name == "judge/1"
    with pytest.raises(UsageError, match="and not smoke"):
        judge_of(replace(violence, name="smoke"), generator.pipe, generator.model)
    with pytest.raises(UsageError, match="nobody judges"):
        tuning.learn(violence, family_of(pipeline("sd")), objective("shielddiff"), 3.0, SMALL)


def test_moves_without_noise_are_refused(model: TunedModel) -> None:
    family = family_of(pipeline("sana"))
    other = TunedModel(family, 3.0, {}, SMALL, NOBODY)
    with pytest.raises(UsageError, match="SanaPipeline"):
        shielddiff.PolicyGradient().check(other)
