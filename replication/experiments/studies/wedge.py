"""Digits that one Gaussian ReLU layer cannot tell apart, beside an injective layer of the same size (figD3)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from scipy.optimize import nnls
from torch import Tensor

from replication.experiments.data.ensembles import normal
from replication.experiments.data.images import ImageData
from replication.experiments.results import Result
from replication.relu_layers.refutation import adversarial_direction
from replication.rows import row_norm
from replication.units import InjectiveReLU


def turned_layer(W: Tensor, direction: Tensor) -> Tensor:
    """Turn the rows of W (m, n) so that their adversarial direction is this one (n,), by a Householder reflection.

    Random rows keep their distribution, seen from the reflected coordinates.
    """
    v = torch.nn.functional.normalize(adversarial_direction(W), dim=0) - torch.nn.functional.normalize(direction, dim=0)
    return W - 2 * (W @ v)[:, None] * v / v.square().sum()


def nearest_with_the_same_output(W: Tensor, x: Tensor, target: Tensor) -> Tensor:
    """Return the input nearest to `target` (n,) in the wedge {x′ : relu(Wx′) = relu(Wx)} around x (n,).

    x′ = x + Nz with N an orthonormal basis of the inputs orthogonal to the active rows, and WNz ≤ −Wx on the others:
    least distance programming, by nonnegative least squares.

    Source: Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23.
    """
    s = W @ x
    active = s > 0
    N = torch.linalg.svd(W[active], full_matrices=True)[2][int(active.sum()) :].mT
    start = N.mT @ (target - x)
    # the inactive rows keep a little below zero, so that rounding makes none of them active
    rows, room = -W[~active] @ N, (1 - 1e-6) * s[~active]
    E = torch.cat([rows.mT, (room - rows @ start)[None]]).numpy()
    weights, _ = nnls(E, np.eye(len(E))[-1], maxiter=10 * E.shape[1])
    residual = E @ weights - np.eye(len(E))[-1]
    step = start if abs(residual[-1]) < 1e-12 else start - torch.from_numpy(residual[:-1] / residual[-1])
    moved: Tensor = x + N @ step
    return moved


@torch.no_grad()
def wedges(data: ImageData, digits: list[int], towards: list[int], expansivity: float, seed: int) -> Result:
    """Send digits, and other images of their wedges, through a Gaussian and an injective layer, and invert both.

    For each digit a Gaussian layer of m = round(expansivity·n) rows is turned so that the digit lies along its
    adversarial direction; the other image is the one with the same output that is nearest to another digit. The
    injective layer has the rows of [B; −B], B Gaussian and square, and more Gaussian rows up to m.

    Source: paper D (figure on MNIST, c = 2.1, n = 784; assumption A12).

    Args:
        data: images.
        digits: classes of the digits, the first test image of each.
        towards: classes of the digits that the others lie near to.
        expansivity: m/n.
        seed: of the layers.

    Returns:
        A row for each digit, image ("digit" or "other") and layer ("gaussian" or "injective"): digit, towards, image,
        layer, n, m, active (number of active rows at the digit), distance (‖x′ − x‖/‖x‖), output_distance
        (‖f(x′) − f(x)‖/‖f(x)‖), relative_error, status; arrays of images and recovered images (digits, height, width).

    Raises:
        ValueError: if digits and towards are no classes, or not as many, or the expansivity is below 2.
    """
    images, labels, _ = data.balanced_test(1)
    if len(digits) != len(towards) or not {*digits, *towards} <= set(labels.tolist()):
        raise ValueError(
            f"digits {list(digits)} and towards {list(towards)} must be as many, of 0 to {data.classes - 1}"
        )
    if expansivity < 2:
        raise ValueError(f"an injective layer has at least two outputs for each input, not {expansivity:g}")
    n = images[0].numel()
    m, generator = round(expansivity * n), torch.Generator().manual_seed(seed)
    rows: list[dict[str, object]] = []
    pictures: dict[str, list[np.ndarray]] = {}
    for digit, toward in zip(digits, towards, strict=True):
        x, target = (images[labels == label][0].flatten().double() for label in (digit, toward))
        W = turned_layer(normal(m, n, generator=generator), x)
        inputs = {"digit": x, "other": nearest_with_the_same_output(W, x, target)}
        B = normal(n, n, generator=generator)
        made = {
            "gaussian": InjectiveReLU(W),
            "injective": InjectiveReLU.minimal(B, extra=normal(m - 2 * n, n, generator=generator)),
        }
        about = {"digit": digit, "towards": toward, "n": n, "m": m}
        for name, layer in made.items():
            rows += [about | row for row in recovered(name, layer, inputs, pictures)]
        for name, image in inputs.items():
            pictures.setdefault(name, []).append(image.numpy())
    shape = images.shape[-2:]
    return Result(pd.DataFrame(rows), {name: np.stack(kept).reshape(-1, *shape) for name, kept in pictures.items()})


def recovered(
    name: str, layer: InjectiveReLU, inputs: Mapping[str, Tensor], pictures: dict[str, list[np.ndarray]]
) -> list[dict[str, object]]:
    """Return the columns of a layer for each input, and append the recovered images to the pictures."""
    x = torch.stack(list(inputs.values()))
    y = layer(x)
    solution = layer.inverse(y)
    error = row_norm(solution.value - x) / row_norm(x)
    rows = []
    for place, image in enumerate(inputs):
        pictures.setdefault(f"{image}_{name}", []).append(solution.value[place].numpy())
        rows.append(
            {
                "image": image,
                "layer": name,
                "active": int((y[0] > 0).sum()),
                "distance": float((x[place] - x[0]).norm() / x[0].norm()),
                "output_distance": float((y[place] - y[0]).norm() / y[0].norm()),
                "relative_error": float(error[place]),
                "status": solution.status[place].name.lower(),
            }
        )
    return rows
