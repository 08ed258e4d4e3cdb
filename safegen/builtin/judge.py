"""The judge: it says which things of the world a picture shows, on which ground, and which person.

It is a small convolutional classifier over 128x128 pictures. It is trained on renders and on renders passed
through the autoencoder (`safegen.builtin.training.judge`), and measured on pictures that it never saw there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from safegen.builtin import world

if TYPE_CHECKING:
    from PIL import Image

THRESHOLD = 0.5
WEIGHTS = Path(__file__).with_name("weights") / "judge"


@dataclass(frozen=True)
class Verdict:
    """What one picture shows."""

    things: dict[str, float]  # label -> probability; only things above the threshold, likeliest first
    ground: str
    job: str = ""
    gender: str = ""
    skin: str = ""


class Residual(nn.Module):
    """Two normalised 3x3 convolutions around a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(8, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class Network(nn.Module):
    """A network from pixels (B, 3, 128, 128) in [-1, 1] to logits (B, labels)."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 48, 4, stride=4),
            Residual(48),
            nn.Conv2d(48, 96, 2, stride=2),
            Residual(96),
            Residual(96),
            nn.Conv2d(96, 192, 2, stride=2),
            Residual(192),
            Residual(192),
        )
        self.head = nn.Linear(2 * 192, labels)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.trunk(pixels)
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)
        logits: Tensor = self.head(pooled)
        return logits


def label_names() -> list[str]:
    """List the labels in the order of the logits: things, then professions, genders, skin tones."""
    return [*world.things(), *world.tables()["people"], *world.GENDERS, *world.SKINS]


class Judge:
    """The trained network and its labels."""

    def __init__(self, network: Network, labels: list[str]) -> None:
        self.network, self.labels = network.eval(), labels

    @classmethod
    def load(cls, folder: Path = WEIGHTS) -> Judge:
        """Read the shipped judge.

        Raises:
            FileNotFoundError: there are no weights in `folder`.
        """
        from safetensors.torch import load_file

        labels = json.loads((folder / "labels.json").read_text())
        network = Network(len(labels))
        weights = load_file(folder / "model.safetensors")
        network.load_state_dict({k: v.float() for k, v in weights.items()})
        return cls(network, labels)

    @torch.no_grad()
    def look(self, pictures: list[Image.Image]) -> list[Verdict]:
        """Tell what each picture shows; pictures of another size are resized first."""
        pixels = as_pixels(pictures)
        probabilities = torch.cat([self.network(p).sigmoid() for p in torch.split(pixels, 64)])
        return [
            self._verdict(dict(zip(self.labels, row.tolist(), strict=True)), ground_of(picture))
            for row, picture in zip(probabilities, pictures, strict=True)
        ]

    def _verdict(self, by_label: dict[str, float], ground: str) -> Verdict:
        seen = {k: p for k, p in by_label.items() if p >= THRESHOLD}
        jobs = {k: p for k, p in seen.items() if k in world.tables()["people"]}
        things = {k: p for k, p in seen.items() if k in world.things()}
        likeliest = dict(sorted((things | jobs).items(), key=lambda item: -item[1]))
        if not jobs:
            return Verdict(likeliest, ground)
        return Verdict(
            likeliest,
            ground,
            job=max(jobs, key=jobs.__getitem__),
            gender=max(world.GENDERS, key=by_label.__getitem__),
            skin=max(world.SKINS, key=by_label.__getitem__),
        )


def as_pixels(pictures: list[Image.Image]) -> Tensor:
    """Turn pictures into pixels (B, 3, 128, 128) in [-1, 1]."""
    import numpy as np

    sized = [p.convert("RGB").resize((world.SIZE, world.SIZE)) for p in pictures]
    stacked = np.stack([np.asarray(p, dtype=np.float32) for p in sized])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2) / 127.5 - 1


def ground_of(picture: Image.Image) -> str:
    """Name the ground nearest to the median colour of the picture's rim."""
    from PIL import ImageStat

    small = picture.convert("RGB").resize((world.SIZE, world.SIZE))
    rim = [small.crop(box) for box in ((0, 0, 128, 6), (0, 122, 128, 128))]
    medians = [ImageStat.Stat(strip).median for strip in rim]
    colour = [sum(channel) / len(rim) for channel in zip(*medians, strict=True)]
    return min(
        world.grounds(),
        key=lambda name: sum((a - b) ** 2 for a, b in zip(colour, world.grounds()[name], strict=True)),
    )
