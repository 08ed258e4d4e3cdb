#!/usr/bin/env bash
# diffusers 0.42.1, transformers 5.24.0.
#
# What was expected: for two prompts and `num_images_per_prompt=2`, `encode_prompt` gives states in the order a, a, b, b
# and an attention mask in the same order, since the denoiser reads both side by side.
# What happens: Lumina Image 2 gives states a, a, b, b and masks a, b, a, b. The second picture of the short prompt is
# drawn with the mask of the long one and reads pads; the first of the long one with the mask of the short one, so words
# at its end are not read. Nothing is said.
# Why it matters here: words that a guard has scored do not reach the denoiser, and pads that nobody scored do.
# What to do: encode every prompt once and repeat states and masks together (safegen/families/base.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0
"$work/venv/bin/pip" install -q diffusers==0.42.1 transformers==5.24.0
cd "$work"
venv/bin/python - <<'PY'
import diffusers
import tokenizers
import transformers

words = ["<pad>", "<bos>", "<eos>", "<unk>", "a", "cat", "on", "the", "mat"]
model = tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
backend = tokenizers.Tokenizer(model)
backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>")
config = transformers.Gemma2Config(vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=2,
                                   num_attention_heads=2, num_key_value_heads=1, head_dim=8)
encoder = transformers.Gemma2Model(config)
denoiser = diffusers.Lumina2Transformer2DModel(sample_size=4, patch_size=2, in_channels=4, hidden_size=24, num_layers=1,
                                               num_refiner_layers=1, num_attention_heads=3, num_kv_heads=1,
                                               axes_dim_rope=(4, 2, 2), axes_lens=(64, 64, 64), cap_feat_dim=16)
pipe = diffusers.Lumina2Pipeline(denoiser, diffusers.FlowMatchEulerDiscreteScheduler(),
                                 diffusers.AutoencoderKL(block_out_channels=(4,), norm_num_groups=4), encoder, tokenizer)
states, mask, _, _ = pipe.encode_prompt(["a", "a cat on the mat"], False, num_images_per_prompt=2, system_prompt="")
same = lambda some, i, j: bool((some[i] == some[j]).all())
print("states: rows 0 and 1 alike:", same(states, 0, 1), "| rows 0 and 2 alike:", same(states, 0, 2))
print("masks:  rows 0 and 1 alike:", same(mask, 0, 1), "| rows 0 and 2 alike:", same(mask, 0, 2))
print("tokens that the masks let through:", mask.sum(1).tolist())
assert same(states, 0, 1) and not same(states, 0, 2), "the states have another order now"
assert not same(mask, 0, 1) and same(mask, 0, 2), "masks are in the order of the states now"
PY
