"""How a model is loaded and where it runs, as values that everything hands on whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict


class Placing(TypedDict, total=False):
    """Where a model runs, which no picture should depend on; everything has a default."""

    device: str  # auto, cpu, cuda, mps, …
    offline: bool  # never ask the network; what is not in the cache is an error
    offload: str  # of placement.OFFLOADS: whole models, or single layers, on the device only while they run
    slicing: bool  # decode one picture at a time
    tiling: bool  # decode tile by tile


class Loading(Placing, total=False):
    """How to load a model."""

    dtype: str  # of placement.DTYPES; auto is float32 on the CPU, else what the family was trained in
    revision: str | None  # a branch, tag or commit of the hub
    variant: str | None  # such as fp16, of the weight files
    embeddings: Sequence[str | Path]  # textual inversions
    loras: Sequence[str | Path]  # FILE or FILE:SCALE each
    quantize: str | None  # of placement.BACKENDS
    scheduler: str | None  # of schedulers.NAMES; the model's own by default
