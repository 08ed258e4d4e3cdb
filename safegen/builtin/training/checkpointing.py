"""A resumable training run: model, optimiser and moving average in one safetensors file."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn


def device() -> torch.device:
    """Choose the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def halved(kind: str) -> contextlib.AbstractContextManager[object]:
    """Compute products in bfloat16 on a `kind` of device, except on processors where that is many times slower."""
    slow = kind == "cpu" and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.autocast(kind, torch.bfloat16, enabled=not slow)


def adam(params: Any, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Make AdamW with the betas that suit short runs."""
    return torch.optim.AdamW(params, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.99), fused=True)


class Progress:
    """A run that steps a model towards `steps`, saves what a restart needs, and averages the weights.

    Args:
        model: the network, trained in place, on its device already.
        folder: where the checkpoint lives; an earlier one is resumed.
        steps: length of the whole run; the learning rate follows a cosine down to 3% over it.
        peak_lr: learning rate after the warm-up.
        minutes: the run's length if time ends it before `steps` do; the learning rate follows it, too.
        groups: parameters with the `share` of the learning rate that they get; without groups, all get it whole.
        optimizer: makes the optimizer of parameters or groups, `lr` and `weight_decay`.
    """

    def __init__(
        self,
        model: nn.Module,
        folder: Path,
        steps: int,
        peak_lr: float,
        minutes: float,
        decay: float = 0.999,
        groups: Sequence[dict[str, Any]] = (),
        optimizer: Callable[..., torch.optim.Optimizer] = adam,
    ) -> None:
        self.model, self.folder, self.steps, self.decay = model, folder, steps, decay
        self.peak_lr, self.seconds = peak_lr, minutes * 60
        taught = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = optimizer(groups or taught, lr=peak_lr, weight_decay=1e-2)
        self.average: Any = copy.deepcopy(model).requires_grad_(False).eval()
        self.step = 0
        self.start = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        if self._file.exists():
            self._restore()

    @property
    def _file(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def __iter__(self) -> Iterator[int]:
        """Yield step numbers; save every five minutes, at the end, and when interrupted."""
        self.start = saved = time.monotonic()
        try:
            while self.step < self.steps and time.monotonic() - self.start < self.seconds:
                yield self.step
                if time.monotonic() - saved > 300:
                    self.save()
                    saved = time.monotonic()
        finally:
            self.save()

    def update(self, loss: torch.Tensor) -> None:
        """Make one optimiser step on `loss`; a non-finite loss is skipped."""
        warmup = min(1.0, (self.step + 1) / 200)
        phase = max(self.step / self.steps, (time.monotonic() - self.start) / self.seconds)
        lr = self.peak_lr * warmup * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * phase)))
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("share", 1.0)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.step += 1
        # A short run must not average over its noisy beginning.
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
            for ours, theirs in zip(self.average.buffers(), self.model.buffers(), strict=True):
                ours.copy_(theirs)

    def save(self) -> None:
        """Write the checkpoint under a temporary name and move it into place."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{k}": v for k, v in state.items()}
        tensors["step"] = torch.tensor(self.step)
        partial = self._file.with_suffix(".partial")
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, partial)
        partial.replace(self._file)

    def _restore(self) -> None:
        saved = load_file(self._file)
        part = {
            name: {k.removeprefix(name): v for k, v in saved.items() if k.startswith(name)}
            for name in ("model.", "average.", "optimizer.")
        }
        self.model.load_state_dict(part["model."])
        self.average.load_state_dict(part["average."])
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in part["optimizer."].items():
            index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.step = int(saved["step"])
