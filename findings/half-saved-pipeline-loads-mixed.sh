#!/usr/bin/env bash
# diffusers 0.42.1, transformers 5.24.0.
#
# What was expected: a Stable Diffusion pipeline saved in half precision and opened without a dtype is in single
# precision throughout, which is the documented default of `DiffusionPipeline.from_pretrained`; or in half throughout.
# What happens: the parts of diffusers come in single precision, the text encoder, which transformers loads, in the
# half that its own config.json names. The first call ends in a matrix product of two types.
# Why it matters here: a folder that its own library wrote does not draw when it is opened as the documentation shows;
# and the same words give other embeddings than in the pipeline that was saved from single precision.
# What to do: name a dtype on loading, or let the encoder's config.json say "dtype": "float32", which is read where
# nothing else is said (safegen/builtin/training/assemble.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0
"$work/venv/bin/pip" install -q diffusers==0.42.1 transformers==5.24.0
cd "$work"
venv/bin/python - <<'PY'
import json
from pathlib import Path

import diffusers
import torch
import transformers

text = transformers.CLIPTextConfig(vocab_size=40, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                   num_attention_heads=1, projection_dim=8, bos_token_id=0, eos_token_id=1)
pieces = ["<|startoftext|>", "<|endoftext|>", "a", "a</w>"]
tokenizer = transformers.CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])
unet = diffusers.UNet2DConditionModel(sample_size=8, in_channels=4, out_channels=4, block_out_channels=(4, 4),
                                      down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), layers_per_block=1,
                                      up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), norm_num_groups=2,
                                      cross_attention_dim=8, attention_head_dim=2)
vae = diffusers.AutoencoderKL(block_out_channels=(4,), norm_num_groups=4)
pipe = diffusers.StableDiffusionPipeline(vae, transformers.CLIPTextModel(text), tokenizer, unet,
                                         diffusers.DDIMScheduler(), None, None, requires_safety_checker=False)
pipe.to(torch.float16).save_pretrained("half")


def types():
    again = diffusers.DiffusionPipeline.from_pretrained("half")
    return {name: getattr(again, name).dtype for name in ("unet", "vae", "text_encoder")}


mixed = types()
print("opened without a dtype:", mixed)
assert mixed == {"unet": torch.float32, "vae": torch.float32, "text_encoder": torch.float16}
config = Path("half/text_encoder/config.json")
config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}))
whole = types()
print("with dtype float32 in the encoder's config.json:", whole)
assert set(whole.values()) == {torch.float32}
PY
