"""The linear algebra of directions: whitening, discriminants, bases."""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 0.1  # share of the mean variance that is added to every covariance
STILL = 1e-4  # states whose mean standard deviation is lower do not vary
BOX = 0.05  # benign states stay between this quantile and its mirror


def varies(states: Tensor) -> bool:
    """Tell whether states (N, D) differ from prompt to prompt; a causal encoder's first state does not."""
    return float(states.std(0).mean()) > STILL


def discriminant(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Solve Fisher's linear discriminant with a ridge: probe (D,) and the negatives' mean (D,)."""
    centre = negative.mean(0)
    spread = torch.cat([positive - positive.mean(0), negative - centre])
    covariance = spread.T @ spread / len(spread)
    covariance += RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance))
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
    """Compute the clamp's tensors for one position class.

    Args:
        differences: target minus counterpart, (N, D).
        benign: benign states of the class, (N, D).
        rank: number of directions to keep.

    Returns:
        `mean` (D,), `basis` and `dual` (R, D), `floor` and `ceiling` (R,) in whitened units.
    """
    mean, white, unwhite = whitening(benign)
    _, _, rows = torch.linalg.svd(differences @ white, full_matrices=False)
    rows = rows[:rank]
    coordinates = (benign - mean) @ (rows @ white).T
    return {
        "mean": mean,
        "basis": rows @ white,
        "dual": rows @ unwhite,
        "floor": coordinates.quantile(BOX, dim=0),
        "ceiling": coordinates.quantile(1 - BOX, dim=0),
    }
