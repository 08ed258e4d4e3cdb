"""The linear algebra of directions: whitening, discriminants, logistic regression, bases."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

RIDGE = 0.1  # of the mean variance, added to every covariance
PENALTY = 1e-2  # of the gate's squared weights, in whitened units
BOX = 0.05  # benign states keep between this quantile and its mirror


def discriminant(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Fisher's linear discriminant with a ridge: probe (D,) and the negatives' mean (D,)."""
    centre = negative.mean(0)
    spread = torch.cat([positive - positive.mean(0), negative - centre])
    covariance = spread.T @ spread / len(spread)
    covariance += RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance))
    return torch.linalg.solve(covariance, positive.mean(0) - centre), centre


def whitening(states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), whitening matrix (D, D) and its inverse, of benign states (N, D), ridged."""
    mean = states.mean(0)
    covariance = (states - mean).T @ (states - mean) / len(states)
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp(min=0) + RIDGE * values.mean()
    return mean, vectors @ torch.diag(values.rsqrt()) @ vectors.T, vectors @ torch.diag(values.sqrt()) @ vectors.T


def basis(differences: Tensor, benign: Tensor, rank: int) -> dict[str, Tensor]:
    """The clamp's tensors for one position class.

    Args:
        differences: target minus counterpart, (N, D).
        benign: benign states of the class, (N, D).
        rank: directions kept.

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


def logistic(positive: Tensor, negative: Tensor) -> Tensor:
    """Weights (D,) of a balanced, penalised logistic regression; convex, so no seed matters."""
    points = torch.cat([positive, negative])
    labels = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))])
    share = torch.where(labels > 0, 0.5 / len(positive), 0.5 / len(negative))
    weights = torch.zeros(points.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=60)

    def closure() -> Tensor:
        optimizer.zero_grad()
        errors = binary_cross_entropy_with_logits(points @ weights + bias, labels, reduction="none")
        loss = (share * errors).sum() + PENALTY * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()
