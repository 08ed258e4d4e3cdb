#!/usr/bin/env bash
# diffusers 0.42.1, transformers 5.24.0, torch 2.13.0.
#
# What was expected: `AuraFlowPipeline` raises "Must provide `prompt_attention_mask` when specifying `prompt_embeds`", so
# the mask says which states are text and which are pads, and the denoiser attends to the text alone.
# What happens: the mask is checked, repeated, and handed to nobody. The picture is the same, bit for bit, with a mask of
# ones, of zeros, or of half and half. Pads count as much as words: taken off, they change the picture. Only where the
# pipeline encodes the text itself are the pads' states set to zero, and zeros are attended to like all others.
# Why it matters here: who changes or cuts embeddings and trusts the mask to hide a part of them hides nothing.
# What to do: set to zero what a mask hides, keep the length, and score the pads (safegen/families/aura_flow.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.13.0
env/bin/pip install -q diffusers==0.42.1 transformers==5.24.0
cat >masks.py <<'PY'
import torch
from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel, AutoencoderKL, FlowMatchEulerDiscreteScheduler

torch.manual_seed(0)
denoiser = AuraFlowTransformer2DModel(
    sample_size=8, patch_size=2, in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=8,
    num_attention_heads=2, joint_attention_dim=16, caption_projection_dim=16, pos_embed_max_size=64,
)
for weights in denoiser.parameters():  # some begin as zeros, and then no text counts
    torch.nn.init.normal_(weights, std=0.3)
vae = AutoencoderKL(
    down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",), block_out_channels=(8,),
    latent_channels=4, norm_num_groups=4, sample_size=8,
)
pipe = AuraFlowPipeline(
    tokenizer=None, text_encoder=None, vae=vae, transformer=denoiser, scheduler=FlowMatchEulerDiscreteScheduler()
)
pipe.set_progress_bar_config(disable=True)
states = torch.randn(1, 10, 16)  # five words, and five pads behind them
ones, zeros = torch.ones(1, 10), torch.zeros(1, 10)
words = torch.tensor([[1.0] * 5 + [0.0] * 5])


def latents(given, mask):
    noise = torch.Generator().manual_seed(1)
    return pipe(
        prompt_embeds=given, prompt_attention_mask=mask, guidance_scale=1.0, num_inference_steps=2, height=8, width=8,
        generator=noise, output_type="latent",
    ).images


try:
    pipe(prompt_embeds=states, guidance_scale=1.0)
except ValueError as error:
    print("without a mask:", error)
whole = latents(states, ones)
for name, mask in (("zeros", zeros), ("the words alone", words)):
    print(f"a mask of {name} changes the picture:", not torch.equal(latents(states, mask), whole))
    assert torch.equal(latents(states, mask), whole)
short = latents(states[:, :5], ones[:, :5])
print("the words without their pads change it by", round(float((short - whole).abs().max()), 4))
assert not torch.allclose(short, whole, atol=1e-4)
PY
env/bin/python masks.py
