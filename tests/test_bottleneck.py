"""The bottleneck: a vector reaches the conditional half of every picture it is meant for, and nothing stays behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image

from safegen.errors import DirectionError, ModelError
from safegen.families import family_of
from safegen.families.denoiser import Received, watched
from safegen.families.pushes import Push, steered
from safegen.generator import Generator
from safegen.models.options import DrawOptions
from safegen.prompts.prompt import clean
from tests.helpers import miniatures
from tests.helpers.pipelines import BENIGN, CLOSED, STEERED, call, pipeline

pytestmark = [pytest.mark.filterwarnings("ignore")]  # of the libraries, about models as small as these

# Every miniature with guidance, by the arguments that its pipeline takes for it.
GUIDED: dict[str, dict[str, Any]] = {
    "qwen-image": {"negative_prompt": " ", "true_cfg_scale": 4.0},
    "flux-dev": {"negative_prompt": "a dog", "true_cfg_scale": 2.0},
    "flux-schnell": {"negative_prompt": "a dog", "true_cfg_scale": 2.0},
    "flux2": {"guidance_scale": 4.0},
}


def guided(name: str) -> dict[str, Any]:
    return GUIDED.get(name, {"guidance_scale": 4.0})


def random_push(name: str, weight: float = 1.0, flat: bool = True) -> Push:
    place = family_of(pipeline(name)).bottleneck
    draw = torch.Generator().manual_seed(3)
    size = (place.width,) if flat else (place.width, 8, 8)
    return Push(5 * torch.randn(size, generator=draw), weight)


def hooks(pipe: Any) -> list[Any]:
    """Whatever a denoiser would call besides its own code, and what replaces methods of it or of its pipeline."""
    denoiser = getattr(pipe, "transformer", None) or pipe.unet
    found = [hook for m in denoiser.modules() for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    replaced = [
        name for part in (pipe, denoiser) for name in ("prepare_latents", "cache_context") if name in vars(part)
    ]
    return found + replaced


@STEERED
def test_a_vector_changes_the_picture_and_a_zero_one_does_not(name: str) -> None:
    pipe, push = pipeline(name), random_push(name)
    family, plain = family_of(pipe), call(name, BENIGN, **guided(name))
    with steered(family, [[push]]):
        assert not torch.equal(call(name, BENIGN, **guided(name)), plain)
    with steered(family, [[Push(torch.zeros_like(push.vector))]]):
        assert torch.equal(call(name, BENIGN, **guided(name)), plain)
    assert torch.equal(call(name, BENIGN, **guided(name)), plain)


@STEERED
def test_nothing_is_hooked_at_weight_zero_and_nothing_stays_behind(name: str) -> None:
    pipe, push = pipeline(name), random_push(name)
    family = family_of(pipe)
    before = hooks(pipe)
    for nothing in ([], [[]], [[Push(push.vector, 0.0)]]):
        with steered(family, nothing):
            assert hooks(pipe) == before
    with steered(family, [[push]]):
        assert hooks(pipe) != before
    assert hooks(pipe) == before
    with pytest.raises(ZeroDivisionError), steered(family, [[push]]):
        raise ZeroDivisionError
    assert hooks(pipe) == before


@STEERED
def test_the_conditional_half_alone_is_changed(name: str) -> None:
    """What the block puts out for the negative prompt keeps every bit; so does the text's part of a joint stream."""
    pipe, push = pipeline(name), random_push(name)
    family = family_of(pipe)
    with outputs(pipe) as plain:
        call(name, BENIGN, **guided(name))
    with steered(family, [[push]]), outputs(pipe) as pushed:
        call(name, BENIGN, **guided(name))
    assert len(plain) == len(pushed)
    changed = [(old != new).flatten(1).any(1).tolist() for (_, old), (_, new) in zip(plain, pushed, strict=True)]
    kinds = [conditional for conditional, _ in plain]
    if [len(rows) for rows in changed] == [2]:
        assert changed == [[False, True]] if family.negative_first else [[True, False]]
    else:
        assert changed == [[kind] for kind in kinds]
        assert kinds[0]
    for (kind, old), (_, new) in zip(plain, pushed, strict=True):
        moved = (new - old)[-1 if family.negative_first else 0]
        if kind and moved.ndim == 2:
            rows = moved.abs().sum(1) > 1e-3
            assert torch.allclose(moved[rows], push.vector.expand(int(rows.sum()), -1), atol=1e-3)
            assert int(rows.sum()) == picture_tokens(name)


def picture_tokens(name: str) -> int:
    """A picture of 64 pixels a side has so many tokens in the miniatures."""
    family = family_of(pipeline(name))
    return (64 // (family.pipe.vae_scale_factor * family.patch)) ** 2


class outputs:  # noqa: N801
    """What the bottleneck puts out in every call, and whether the call is the conditional one."""

    def __init__(self, pipe: Any) -> None:
        self.place = family_of(pipe).bottleneck
        self.calls: list[tuple[bool, torch.Tensor]] = []
        self.conditional = True

    def __enter__(self) -> list[tuple[bool, torch.Tensor]]:
        def note(_: Received, conditional: bool) -> None:
            self.conditional = conditional

        def hook(_m: Any, _i: Any, output: Any) -> None:
            states = output[-1] if isinstance(output, tuple) else output
            self.calls.append((self.conditional, states.clone()))

        self.watching = watched(self.place.denoiser, note)
        self.watching.__enter__()
        self.handle = self.place.block.register_forward_hook(hook)
        return self.calls

    def __exit__(self, *error: object) -> None:
        self.handle.remove()
        self.watching.__exit__(None, None, None)


@STEERED
def test_every_picture_of_a_batch_has_its_own_vectors(name: str) -> None:
    """Those without any keep every bit; copies of a prompt share what their prompt has."""
    pipe, push = pipeline(name), random_push(name)
    prompts = [BENIGN, BENIGN]
    # diffusers does not repeat the negative prompt of these for several prompts.
    more = {"num_images_per_prompt": 2, **({} if name.startswith(("flux-", "qwen")) else guided(name))}
    plain = call(name, prompts, **more)
    with steered(family_of(pipe), [[], [push]]):
        own = call(name, prompts, **more)
    assert [bool(torch.equal(a, b)) for a, b in zip(plain, own, strict=True)] == [True, True, False, False]


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_a_unets_vector_may_have_a_place_and_fits_other_sizes(name: str) -> None:
    push = random_push(name, flat=False)
    plain = call(name, BENIGN)
    with steered(family_of(pipeline(name)), [[push]]):
        assert not torch.equal(call(name, BENIGN), plain)


def test_vectors_add_up_and_opposite_ones_cancel() -> None:
    push, family = random_push("sd"), family_of(pipeline("sd"))
    plain = call("sd", BENIGN)
    with steered(family, [[push, Push(push.vector, 0.5)]]):
        both = call("sd", BENIGN)
    with steered(family, [[Push(1.5 * push.vector)]]):
        assert torch.allclose(call("sd", BENIGN), both, atol=1e-4)
    with steered(family, [[push, Push(push.vector, -1.0)]]):
        assert torch.equal(call("sd", BENIGN), plain)


def test_a_step_has_one_more_addition_and_nothing_else() -> None:
    """The denoiser runs as often as before."""
    pipe, family = pipeline("sd"), family_of(pipeline("sd"))
    counts = []
    for pushes in ([], [[random_push("sd")]]):
        with steered(family, pushes), outputs(pipe) as calls:
            call("sd", BENIGN, num_inference_steps=3, **guided("sd"))
        counts.append(len(calls))
    assert counts == [3, 3]


def test_a_vector_that_does_not_fit_is_refused_before_anything_is_drawn() -> None:
    family = family_of(pipeline("sd"))
    width = family.bottleneck.width
    for vector, why in (
        (torch.zeros(width + 1), "does not fit"),
        (torch.zeros(width, 2), "does not fit"),
        (torch.full((width,), torch.nan), "not finite"),
    ):
        with pytest.raises(DirectionError, match=why), steered(family, [[Push(vector)]]):
            raise AssertionError
    transformer = family_of(pipeline("sd3"))
    with pytest.raises(DirectionError, match="does not fit"):
        steered(transformer, [[Push(torch.zeros(transformer.bottleneck.width, 4, 4))]]).__enter__()
    assert hooks(pipeline("sd")) == []


def test_a_denoiser_without_a_bottleneck_is_refused() -> None:
    pipe = miniatures.stable_diffusion()
    pipe.unet.mid_block = None
    with pytest.raises(ModelError, match="no mid_block"):
        steered(family_of(pipe), [[random_push("sd")]]).__enter__()


def test_a_compiled_denoiser_is_refused_at_once() -> None:
    for compile_ in (lambda pipe: pipe.unet.compile(), lambda pipe: setattr(pipe, "unet", torch.compile(pipe.unet))):
        pipe = miniatures.stable_diffusion()
        compile_(pipe)
        with pytest.raises(ModelError, match="compiled"):
            steered(family_of(pipe), [[random_push("sd")]]).__enter__()


def test_a_streamed_denoiser_is_refused_at_once() -> None:
    from accelerate import cpu_offload

    pipe = miniatures.stable_diffusion()
    cpu_offload(pipe.unet, torch.device("cpu"))
    with pytest.raises(ModelError, match="streamed"):
        steered(family_of(pipe), [[random_push("sd")]]).__enter__()


def test_a_whole_model_that_is_offloaded_works() -> None:
    """The hooks of accelerate move the denoiser, and the vector follows the states."""
    from accelerate import cpu_offload_with_hook

    pipe = miniatures.stable_diffusion()
    plain = call("sd", BENIGN, pipe)
    cpu_offload_with_hook(pipe.unet, torch.device("cpu"))
    with steered(family_of(pipe), [[random_push("sd")]]):
        assert not torch.equal(call("sd", BENIGN, pipe), plain)


@pytest.mark.parametrize("kind", ["", "Img2Img"])
def test_it_works_beside_a_controlnet(kind: str) -> None:
    plain = miniatures.stable_diffusion()
    control = miniatures.seeded(
        lambda: diffusers.ControlNetModel.from_unet(plain.unet, conditioning_embedding_out_channels=(4, 8, 8))
    )
    pipeline_class = getattr(diffusers, f"StableDiffusionControlNet{kind}Pipeline")
    pipe = pipeline_class(**plain.components, controlnet=control, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    image = Image.new("RGB", (64, 64), "red")
    more = {"image": image, "control_image": image, "strength": 1.0} if kind else {"image": image}
    bare = call("sd", BENIGN, pipe, **more, **guided("sd"))
    with steered(family_of(pipe), [[random_push("sd")]]):
        assert not torch.equal(call("sd", BENIGN, pipe, **more, **guided("sd")), bare)
    assert torch.equal(call("sd", BENIGN, pipe, **more, **guided("sd")), bare)


def test_the_fingerprint_is_the_denoisers_own() -> None:
    """Another denoiser has another; the same one in half precision has the same."""
    pipe, other = miniatures.stable_diffusion(), miniatures.stable_diffusion()
    mine = family_of(pipe).bottleneck.fingerprint
    assert mine == family_of(other).bottleneck.fingerprint
    assert mine == family_of(other.to(torch.bfloat16)).bottleneck.fingerprint
    pipe.unet.conv_in.weight.requires_grad_(False).mul_(2)
    assert mine != family_of(pipe).bottleneck.fingerprint


@pytest.fixture
def collected() -> Iterator[None]:
    yield
    gc.collect()


def test_the_embedded_model_draws_another_picture(generator: Generator, collected: None) -> None:
    family = generator.family
    (prepared,) = generator.prepare([clean("a cat")])
    options = DrawOptions(steps=3)
    (plain,) = generator.draw([prepared], options, [5])  # type: ignore[list-item]
    push = Push(torch.randn(family.bottleneck.width, generator=torch.Generator().manual_seed(0)))
    with steered(family, [[push]]):
        (other,) = generator.draw([prepared], options, [5])  # type: ignore[list-item]
    (again,) = generator.draw([prepared], options, [5])  # type: ignore[list-item]
    assert plain is not None
    assert other is not None
    assert again is not None
    assert other.tobytes() != plain.tobytes()
    assert again.tobytes() == plain.tobytes()


@pytest.mark.parametrize("name", sorted(set(CLOSED) & set(miniatures.BUILDERS)))
def test_where_it_is_not_known_where_to_act_is_said(name: str) -> None:
    with pytest.raises(ModelError, match="is not known"):
        _ = family_of(pipeline(name)).bottleneck
