"""Edits of a denoiser's weights, at work for some pictures and not for others.

An edit is a change of low rank to the weights of linear layers, as LoRA has them (Hu et al. 2021, arXiv 2106.09685).
No weight is written: while pictures are drawn, what the change would do is added to the layers' outputs, in the rows of
the pictures that it is for. So the others keep every bit, and there is nothing to restore.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safegen.errors import DirectionError, ModelError, UsageError
from safegen.families.denoiser import Received, cross_attention, is_aside, prompted_rows, watched

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.families.base import Family


@dataclass(frozen=True)
class Delta:
    """The change of one layer's weight (O, D): the product of `up` (O, R) and `down` (R, D)."""

    up: Tensor
    down: Tensor

    def of(self, inputs: Tensor) -> Tensor:
        """Give what the change adds to the layer's output for inputs (..., D)."""
        added: Tensor = inputs @ self.down.to(inputs).T @ self.up.to(inputs).T
        return added


Edit = Mapping[str, Delta]  # by the name of the layer in the denoiser


@contextlib.contextmanager
def edited(
    family: Family, pictures: int, edits: Mapping[int, Sequence[tuple[Edit, float]]], *, whole: bool = False
) -> Iterator[None]:
    """Let edits of weights work on pictures, each with its own weight; **changes the denoiser** meanwhile.

    Args:
        family: the family of the pipeline that draws.
        pictures: how many a call of the pipeline draws.
        edits: by the number of the picture.
        whole: whether they also work on the negative half of guidance, as changed weights would.

    Raises:
        ModelError: the denoiser is compiled, or a layer is fused with others, so that it is never called.
        DirectionError: an edit does not fit the denoiser.
    """
    place, prompted = family.bottleneck, True
    place.check_hooks()

    def receive(_: Received, conditional: bool) -> None:
        nonlocal prompted
        prompted = conditional

    def hook_of(name: str) -> Any:
        def hook(_module: Any, inputs: tuple[Any, ...], output: Any) -> Any:
            if is_aside() or not (prompted or whole):
                return None
            first = prompted_rows(len(output), pictures, family.negative_first).start
            new = output.clone()
            for picture, parts in edits.items():
                rows = slice(picture, None, pictures) if whole else first + picture
                for edit, weight in parts:
                    if name in edit:
                        new[rows] += weight * edit[name].of(inputs[0][rows])
            return new

        return hook

    with contextlib.ExitStack() as stack:
        stack.enter_context(watched(place.denoiser, receive))
        for name in sorted({name for parts in edits.values() for edit, _ in parts for name in edit}):
            layer = _layer(place.denoiser, name, [edit for parts in edits.values() for edit, _ in parts])
            handle = layer.register_forward_hook(hook_of(name))
            stack.callback(handle.remove)
        yield


@contextlib.contextmanager
def attached(denoiser: Any, edit: Edit) -> Iterator[None]:
    """Let an edit work on all that a denoiser is called with; **changes the denoiser** meanwhile.

    Gradients run back to the edit's tensors, so it can be learned.

    Raises:
        ModelError, DirectionError: see `edited`.
    """

    def hook_of(delta: Delta) -> Any:
        return lambda _module, inputs, output: output + delta.of(inputs[0])

    with contextlib.ExitStack() as stack:
        for name, delta in edit.items():
            handle = _layer(denoiser, name, [edit]).register_forward_hook(hook_of(delta))
            stack.callback(handle.remove)
        yield


def _layer(denoiser: Any, name: str, edits: Sequence[Edit]) -> Any:
    """Find a layer that all edits of it fit.

    Raises:
        DirectionError: there is none, or an edit is of another size.
        ModelError: it is fused with others.
    """
    modules = dict(denoiser.named_modules())
    layer, parent = modules.get(name), modules.get(name.rpartition(".")[0])
    if getattr(parent, "fused_projections", False):
        raise ModelError(
            f"{name} is fused with other layers of the denoiser, and is never called itself",
            "Take it apart: unfuse_qkv_projections() of the pipeline.",
        )
    size = None if layer is None else (getattr(layer, "out_features", 0), getattr(layer, "in_features", 0))
    for delta in (edit[name] for edit in edits if name in edit):
        wanted = (delta.up.shape[0], delta.down.shape[1])
        if wanted != size:
            raise DirectionError(
                f"a weight edit of {name} is {wanted[0]} by {wanted[1]}, and the denoiser has "
                f"{f'{size[0]} by {size[1]}' if size else 'no such layer'} there",
                "Learn it for this model: safegen directions learn NAME --method METHOD",
            )
    return layer


def text_layers(denoiser: Any) -> dict[str, list[str]]:
    """List the linear layers that read the text's states as they are, by what is done with them.

    `attention` has the keys and values of cross-attention. `pool` has those by which a denoiser sums up the text into
    its time embedding, and `pooled` the layer that reads pooled vectors, where there are any.

    Raises:
        UsageError: there is no cross-attention.
    """
    modules = dict(denoiser.named_modules())
    found = {
        "attention": [f"{name}.{part}" for name in cross_attention(denoiser) for part in ("to_k", "to_v")],
        "pool": [name for name in (f"add_embedding.pool.{part}_proj" for part in "kv") if name in modules],
        "pooled": [name for name in ("add_embedding.linear_1",) if name in modules],
    }
    return {what: layers for what, layers in found.items() if layers}


def picture_layers(denoiser: Any) -> list[str]:
    """List the linear layers by which places of the picture attend to each other, and to nothing else.

    Raises:
        UsageError: there are none: blocks change the text as they change the picture.
    """
    return linear_layers(denoiser, self_attention(denoiser))


def block_layers(denoiser: Any) -> list[str]:
    """List the linear layers of the blocks that have such layers, but for those of cross-attention.

    Raises:
        UsageError: see `picture_layers`.
    """
    blocks = [name.rpartition(".")[0] for name in self_attention(denoiser)]
    return linear_layers(denoiser, blocks, list(cross_attention(denoiser)))


def attention_layers(denoiser: Any) -> list[str]:
    """List the linear layers of all attention, to the picture and to the text.

    Raises:
        UsageError: see `picture_layers`.
    """
    return linear_layers(denoiser, [*self_attention(denoiser), *cross_attention(denoiser)])


def self_attention(denoiser: Any) -> list[str]:
    """Name the parts in which places of the picture attend to each other, and to nothing else.

    Raises:
        UsageError: see `picture_layers`.
    """
    cross_attention(denoiser)
    found = [name for name, part in denoiser.named_modules() if getattr(part, "is_cross_attention", None) is False]
    if not found:
        raise UsageError(
            f"a {type(denoiser).__name__} has no attention within the picture alone",
            "Choose another method: --safeguard localise.",
        )
    return found


def linear_layers(denoiser: Any, inside: Sequence[str], outside: Sequence[str] = ()) -> list[str]:
    """List the linear layers inside some parts of a denoiser and outside others; a LoRA's layer counts as one."""
    found: list[str] = []
    for name, part in denoiser.named_modules():
        apart = (*outside, *found)
        if hasattr(part, "out_features") and _is_in(name, inside) and not _is_in(name, apart):
            found.append(name)
    return found


def _is_in(name: str, parts: Sequence[str]) -> bool:
    return any(name.startswith(f"{part}.") for part in parts)
