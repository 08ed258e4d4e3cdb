#!/usr/bin/env bash
# diffusers 0.42.1.
#
# What was expected: a step of `DDIMScheduler` goes from one entry of its `timesteps` to the next. The next call of the
# denoiser is told that entry, so the latents should have its noise.
# What happens: `step()` goes to `timestep - num_train_timesteps // num_inference_steps` instead. With
# `timestep_spacing="linspace"` the latents have the noise of other timesteps than the denoiser is told: with ten steps,
# of eleven later in the list of a thousand, every time. With `trailing` some are one off where the number of steps does
# not divide the schedule. `leading` agrees. Nothing is said, and the pictures still look like pictures.
# Why it matters here: a safeguard that adds noise to the level of the next timestep, or compares its latents with a
# reference at that level, is wrong by an amount that depends on the spacing.
# What to do: ask the scheduler's own arithmetic for the level, not its list; or take a number of steps that divides the
# schedule.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0
"$work/venv/bin/pip" install -q diffusers==0.42.1 transformers==5.24.0
cd "$work"
venv/bin/python - <<'PY'
import torch
from diffusers import DDIMScheduler


def landed(spacing: str, count: int) -> list[tuple[int, int]]:
    """Give, for every step but the last, the next timestep and the one whose noise the latents have."""
    scheduler = DDIMScheduler(timestep_spacing=spacing, clip_sample=False)
    scheduler.set_timesteps(count)
    signal, times = scheduler.alphas_cumprod.sqrt(), scheduler.timesteps.tolist()
    found = []
    for now, following in zip(times, times[1:]):
        picture = signal[now] * torch.ones(1)  # without noise: what is left of the ones says the level
        after = scheduler.step(torch.zeros(1), now, picture).prev_sample
        found.append((following, int((signal - after).abs().argmin())))
    return found


for spacing, count in (("leading", 12), ("trailing", 20), ("trailing", 12), ("linspace", 10)):
    pairs = landed(spacing, count)
    print(f"{spacing}, {count} steps: told, landed", pairs[:4], "...", pairs[-1])
    agrees = all(told == level for told, level in pairs)
    expected = (spacing, count) in (("leading", 12), ("trailing", 20))
    assert agrees == expected, f"{spacing} with {count} steps is otherwise now"
PY
