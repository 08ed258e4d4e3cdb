"""A guard beside what else users put into a pipeline: ControlNets, IP-Adapters, checkers, schedulers, compilation."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from PIL import Image

from safegen.errors import ModelError
from safegen.generator import Generator
from safegen.guard import Guard
from tests.helpers import miniatures
from tests.helpers.pipelines import BENIGN, HARMFUL, call, pipeline, prepared, same, watched

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about models as small as these
IMAGE = Image.radial_gradient("L").resize((64, 64)).convert("RGB")
SMALL = {"guidance_scale": 1.0, "num_inference_steps": 2, "output_type": "pt"}


def sd() -> Any:
    pipe = miniatures.stable_diffusion()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(pipe: Any, prompt: str, **more: Any) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Everything that the denoiser, and a ControlNet beside it, are told of the prompt; and the picture."""
    told: list[torch.Tensor] = []
    beside = getattr(pipe, "controlnet", None)
    hook = beside and beside.register_forward_pre_hook(
        lambda _, args, named: told.append(named["encoder_hidden_states"]), with_kwargs=True
    )
    with watched(pipe) as calls:
        images = pipe(prompt, generator=torch.Generator().manual_seed(3), **{**SMALL, **more}).images
    if hook:
        hook.remove()
    return [*told, *(c["encoder_hidden_states"] for c in calls)], images


def check_guarded(pipe: Any, **more: Any) -> None:
    """A harmful prompt reaches nothing unchanged; a benign one is drawn bit for bit as ever, then and after."""
    plain = {prompt: drawn(pipe, prompt, **more) for prompt in (HARMFUL, BENIGN)}
    with prepared("sd").attached(pipe) as guard:
        guarded = {prompt: drawn(pipe, prompt, **more) for prompt in (HARMFUL, BENIGN)}
        assert not guard.last[0].sanitized
    told, picture = guarded[HARMFUL]
    assert told
    assert len(told) == len(plain[HARMFUL][0])
    assert not any(same(one, other) for one, other in zip(told, plain[HARMFUL][0], strict=True))
    assert not torch.equal(picture, plain[HARMFUL][1])
    assert all(same(one, other) for one, other in zip(guarded[BENIGN][0], plain[BENIGN][0], strict=True))
    assert torch.equal(guarded[BENIGN][1], plain[BENIGN][1])
    assert torch.equal(drawn(pipe, HARMFUL, **more)[1], plain[HARMFUL][1])


@pytest.mark.parametrize("kind", ["", "Img2Img"])
def test_a_controlnet_is_told_no_more_than_the_denoiser(kind: str) -> None:
    plain = sd()
    control = miniatures.seeded(
        lambda: diffusers.ControlNetModel.from_unet(plain.unet, conditioning_embedding_out_channels=(4, 8, 8))
    )
    zeros = (*control.controlnet_down_blocks, control.controlnet_mid_block, control.controlnet_cond_embedding.conv_out)
    for zero in zeros:
        torch.nn.init.constant_(zero.weight, 0.1)  # untrained, it would add nothing
    pipeline = getattr(diffusers, f"StableDiffusionControlNet{kind}Pipeline")
    pipe = pipeline(**plain.components, controlnet=control, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    given = {"image": IMAGE, "control_image": IMAGE, "strength": 1.0} if kind else {"image": IMAGE}
    check_guarded(pipe, **given)
    other = {
        name: IMAGE.transpose(Image.Transpose.ROTATE_90).point(lambda v: 255 - v) for name in given if "image" in name
    }
    with prepared("sd").attached(pipe):
        one, two = (drawn(pipe, BENIGN, **more)[1] for more in (given, {**given, **other}))
    assert not torch.equal(one, two)  # the picture still steers


def test_an_ip_adapter_s_picture_goes_through() -> None:
    pipe = sd()
    draw = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    crossed = [name for name in pipe.unet.attn_processors if "attn2" in name]
    keys = {f"{2 * i + 1}.to_{part}_ip.weight": numbers(16, 64) for i in range(len(crossed)) for part in "kv"}
    project = {"proj.weight": numbers(4 * 64, 8), "proj.bias": numbers(4 * 64)}
    project |= {"norm.weight": torch.ones(64), "norm.bias": torch.zeros(64)}
    pipe.unet._load_ip_adapter_weights([{"image_proj": project, "ip_adapter": keys}])
    one, two = numbers(1, 1, 8), numbers(1, 1, 8)
    size = {"width": 64, "height": 64}
    check_guarded(pipe, ip_adapter_image_embeds=[one], **size)
    with prepared("sd").attached(pipe):
        pictures = [drawn(pipe, BENIGN, ip_adapter_image_embeds=[e], **size)[1] for e in (one, two)]
    assert not torch.equal(*pictures)


@pytest.mark.parametrize("scheduler", ["EulerAncestralDiscrete", "DPMSolverMultistep", "LCM", "UniPCMultistep"])
def test_other_schedulers(scheduler: str) -> None:
    pipe = sd()
    pipe.scheduler = getattr(diffusers, f"{scheduler}Scheduler").from_config(pipe.scheduler.config)
    check_guarded(pipe, width=64, height=64)


@pytest.mark.parametrize("name", ["sd", "hunyuan-dit"])
def test_a_second_guard_is_refused_and_the_first_one_stays(name: str) -> None:
    pipe = pipeline(name)
    with prepared(name).attached(pipe) as guard:
        for second in (lambda: Guard().attach(pipe), lambda: Generator(pipe, None)):
            with pytest.raises(ModelError, match="is attached to this"):
                second()
        call(name, HARMFUL, pipe)
        assert guard.last[0].sanitized
    assert "encode_prompt" not in vars(pipe)


@pytest.mark.parametrize("line", [-2.0, 2.0])
def test_diffusers_own_safety_checker_stays_the_user_s(line: float) -> None:
    pipe = miniatures.checked(line)
    with prepared("sd").attached(pipe) as guard:
        result = pipe(HARMFUL, width=64, height=64, generator=torch.Generator().manual_seed(3), **SMALL)
        assert guard.last[0].sanitized
    assert result.nsfw_content_detected == [line < 0]
    assert bool(result.images.any()) is (line > 0)


@pytest.mark.slow
def test_a_compiled_denoiser() -> None:
    """Traced and run as it is: what a compiler makes of it afterwards is no matter of the guard."""
    pipe = sd()
    pipe.unet = torch.compile(pipe.unet, backend="eager")
    check_guarded(pipe, width=64, height=64)
