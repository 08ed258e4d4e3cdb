#!/usr/bin/env bash
# transformers 5.24.0 and 4.57.3, torch 2.13.0.
#
# What was expected: a `CLIPTextModel` that transformers 5 saves is the same model in transformers 4: the class, its
# configuration and the safetensors format have not changed, and CLIP files from 2021 load in both.
# What happens: transformers 5 leaves `text_model.` out of the names of the weights. It reads files of either kind, but
# transformers 4 knows only the long names: there every weight is made anew, at random, with a warning and no error, and
# the encoder puts out other states at every load.
# Why it matters here: a pipeline whose text encoder was saved again (after an inversion, a merge, a change of precision)
# draws noise for everyone who has not updated, and directions learned for the encoder read nothing.
# What to do: write the long names, which both read (safegen/builtin/training/assemble.py, `widen`).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv five && five/bin/pip install -q torch==2.13.0 && five/bin/pip install -q transformers==5.24.0
python3 -m venv four && four/bin/pip install -q torch==2.13.0 && four/bin/pip install -q transformers==4.57.3
cat >states.py <<'PY'
import sys

import torch
import transformers

model = transformers.CLIPTextModel.from_pretrained("saved").eval()
states = model(torch.tensor([[0, 2, 3, 1]]))[0]
print(f"transformers {transformers.__version__}: first states", [round(x, 4) for x in states[0, 0, :4].tolist()])
torch.save(states, sys.argv[1])
PY
five/bin/python - <<'PY'
import torch
import transformers
from safetensors import safe_open

torch.manual_seed(0)
config = transformers.CLIPTextConfig(vocab_size=4, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                     num_attention_heads=1, bos_token_id=0, eos_token_id=1)
transformers.CLIPTextModel(config).save_pretrained("saved")
with safe_open("saved/model.safetensors", framework="pt") as weights:
    names = list(weights.keys())
print("saved by 5:", names[0])
assert not any(name.startswith("text_model.") for name in names)
PY
five/bin/python states.py five-a.pt && five/bin/python states.py five-b.pt
four/bin/python states.py four-a.pt && four/bin/python states.py four-b.pt
five/bin/python - <<'PY'
import torch

five, again, four, other = (torch.load(f"{name}.pt") for name in ("five-a", "five-b", "four-a", "four-b"))
assert torch.equal(five, again)
assert not torch.allclose(five, four, atol=1e-3)
assert not torch.allclose(four, other, atol=1e-3)
print("transformers 4 loads other weights each time, and raises nothing")
PY
