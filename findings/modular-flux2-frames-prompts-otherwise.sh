#!/usr/bin/env bash
# diffusers 0.42.1.
#
# What was expected: FLUX.2 as a modular pipeline and as `Flux2Pipeline` put the same prompt into the same frame for the
# text encoder, so that both give the same embeddings.
# What happens: the system message has a line end in `Flux2Pipeline`, where the modular block's has a space. The encoder
# reads another token in front of every prompt, and every state after it differs. Nothing is said.
# Why it matters here: what is learned or measured in the states of one form is not quite that of the other; a guard
# that encodes a repaired prompt in the classic frame gives the denoiser another picture than the block would.
# What to do: take the frame from the form that draws (safegen/families/modular.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0
"$work/venv/bin/pip" install -q diffusers==0.42.1 transformers==5.24.0
cd "$work"
venv/bin/python - <<'PY'
from diffusers.modular_pipelines.flux2.encoders import Flux2TextEncoderStep
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE

classic, modular = SYSTEM_MESSAGE, Flux2TextEncoderStep.DEFAULT_SYSTEM_MESSAGE
places = [i for i, (a, b) in enumerate(zip(classic, modular)) if a != b]
print("characters:", len(classic), len(modular), "| they differ at", places)
for i in places:
    print(f"classic {classic[i - 8:i + 12]!r}, modular {modular[i - 8:i + 12]!r}")
assert classic != modular, "both frames are the same now"
assert classic.split() == modular.split(), "the words differ now, not only what stands between them"
PY
