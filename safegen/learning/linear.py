"""The linear algebra of directions: whitening, discriminants, bases."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 0.1  # share of the mean variance that is added to every covariance
STILL = 1e-4  # states whose mean standard deviation is lower do not vary
BOX = 0.05  # benign states stay between this quantile and its mirror


def varies(states: Tensor) -> bool:
    """Tell whether states (N, D) differ from prompt to prompt; a causal encoder's first state does not."""
    return float(states.std(0).mean()) > STILL


def discriminant(positive: Tensor, negative: Tensor, few: int = 0) -> tuple[Tensor, Tensor]:
    """Solve Fisher's linear discriminant with a ridge: probe (D,) and the negatives' mean (D,).

    Args:
        positive: (N, D).
        negative: (M, D).
        few: the number of positives for which the ridge is doubled; the fewer there are, the higher it is, since the
            less is known of how they vary.
    """
    centre = negative.mean(0)
    spread = torch.cat([positive - positive.mean(0), negative - centre])
    covariance = spread.T @ spread / len(spread)
    covariance += RIDGE * (1 + few / len(positive)) * covariance.diagonal().mean() * torch.eye(len(covariance))
    return torch.linalg.solve(covariance, positive.mean(0) - centre), centre


def leading(states: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Find the mean (D,) of benign states (N, D) and their directions of highest variance (D, M).

    There are at most `most` directions, each divided by its ridged standard deviation.
    """
    mean, values, vectors = _spread(states)
    return mean, vectors[:, -most:] * values[-most:].rsqrt()


def whitening(states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the mean (D,), the ridged whitening matrix (D, D) and its inverse for benign states (N, D)."""
    mean, values, vectors = _spread(states)
    return mean, vectors @ torch.diag(values.rsqrt()) @ vectors.T, vectors @ torch.diag(values.sqrt()) @ vectors.T


def _spread(states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the mean, the ridged variances in rising order, and their directions, one a column."""
    mean = states.mean(0)
    covariance = (states - mean).T @ (states - mean) / len(states)
    values, vectors = torch.linalg.eigh(covariance)
    return mean, values.clamp(min=0) + RIDGE * values.mean(), vectors


def basis(differences: Tensor, benign: Tensor, rank: int) -> dict[str, Tensor]:
    """Compute the clamp's tensors for one position class, from its leading directions of change.

    Args:
        differences: target minus counterpart, (N, D).
        benign: benign states of the class, (N, D).
        rank: number of directions to keep.
    """
    spread = whitening(benign)
    _, _, rows = torch.linalg.svd(differences @ spread[1], full_matrices=False)
    return clamped(rows[:rank], benign, spread)


def clamped(rows: Tensor, benign: Tensor, spread: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
    """Compute the clamp's tensors from orthonormal directions (R, D) of whitened states.

    Args:
        rows: the directions.
        benign: benign states of the class, (N, D).
        spread: what `whitening` gives for them.

    Returns:
        `mean` (D,), `basis` and `dual` (R, D), `floor` and `ceiling` (R,) in whitened units.
    """
    mean, white, unwhite = spread
    coordinates = (benign - mean) @ (rows @ white).T
    return {
        "mean": mean,
        "basis": rows @ white,
        "dual": rows @ unwhite,
        "floor": coordinates.quantile(BOX, dim=0),
        "ceiling": coordinates.quantile(1 - BOX, dim=0),
    }


@dataclass(frozen=True)
class Affine:
    """A ridged least-squares map of states: x goes to (x - centre) @ weight + offset.

    Attributes:
        weight: (X, Y).
        centre: (X,) the mean of what it was fitted to.
        offset: (Y,) the mean of where that went.
    """

    weight: Tensor
    centre: Tensor
    offset: Tensor

    @classmethod
    def fit(cls, states: Tensor, goals: Tensor, ridge: float) -> Affine:
        """Fit states (N, X) to goals (N, Y); the ridge is in variances of the states, whitened.

        The states' own directions are found from the N rows, so that wide states cost no more than N allows.
        """
        centre, offset = states.mean(0), goals.mean(0)
        left, sizes, right = torch.linalg.svd(states - centre, full_matrices=False)
        variances = sizes.square() / len(states)
        spread = variances + RIDGE * variances.sum() / states.shape[1]
        shared = left.T @ (goals - offset) * (sizes / len(states)).unsqueeze(1)
        return cls(right.T @ (shared / (variances + ridge * spread).unsqueeze(1)), centre, offset)
