"""Large feed-forward maps of images: their matrix M by its entries, and whether it is diagonally stable."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from replication.certification.decisions import STABLE, Decision
from replication.certification.sparse import SparseMatrix, stability
from replication.conditions import NEGATIVE, POSITIVE
from replication.folds.jacobians import Entries, Sites, as_vector, coloured
from replication.forward_mode import Map
from replication.maps.feed_forward import FeedForwardMap, LinearPart

LARGEST = 2**16  # preactivations of a map whose entries are formed
MOST_SITES = 4096
ROUNDING = 2.0**-44  # of an entry, relative to the norms of what it is a product of
STEPS = 10  # of power iterations


def decide_images(f: FeedForwardMap) -> Decision:
    """Decide whether M = I + (CE − B)β has one scaling Λ for every site, where slopes lie in [0, β] and P = I.

    Entries are taken to be right to ROUNDING of the norms of C and E, which are estimated.
    """
    if not takes(f):
        return Decision(
            None,
            f"It has {f.d} inputs and {f.n} preactivations, and conditions are decided past a few thousand for images "
            "and signals of one size throughout, added to what they become, with slopes from 0 on.",
        )
    M = sparse_matrix(f)
    if M is None or not M.fits:
        return Decision(None, f"M of order {f.n} is no narrow band, and too large to be factorized otherwise.")
    found = stability(M)
    if found.sign == POSITIVE and found.monotone:
        return Decision("monotone", "M + Mᵀ is positive definite.")
    if found.sign == POSITIVE:
        return Decision("diagonal_stability", f"{STABLE.replace('I + A ', '', 1).replace('= ', '', 1)}.")
    few = ", even for a few sites" if found.sign == NEGATIVE else " that was found"
    return Decision(None, f"No diagonal Λ{few} makes ΛM + MᵀΛ positive definite.")


def takes(f: FeedForwardMap) -> bool:
    """Return whether all preactivations of a map are of the size of its images, its shortcut the identity, α = 0."""
    spatial = f.shape[1:]
    return (
        0 < f.n <= LARGEST
        and len(spatial) > 0
        and torch.Size(spatial).numel() <= MOST_SITES
        and all(a.shape[1:] == spatial for a in f.activations)
        and not f.alpha.any()
        and f.keeps_input
    )


def sparse_matrix(f: FeedForwardMap) -> SparseMatrix | None:
    """Return M by its entries, from products with ones at sites that have no site of a product in common.

    How far sites see is read off a few of them; None where a product with M shows that others see farther.
    """
    per_site = sum(a.shape[0] for a in f.activations)
    zero = torch.zeros(1, per_site, *f.shape[1:], dtype=f.dtype, device=f.device)
    b, e = f.affine(f.no_x(zero), f.no_phi(zero))

    def product(z: Tensor) -> Tensor:
        flat = z.flatten(1)  # channels of all activations one after the other, all of one size
        s, y = f.affine(f.no_x(flat), flat * f.beta)
        seen, _ = f.affine(y - e, f.no_phi(flat))
        image: Tensor = (flat + seen - s).unflatten(1, z.shape[1:])
        return image

    sites = within_reach(product, zero)
    place, rows, columns = sites.entries
    products = torch.cat([product(tangents) for tangents in sites.tangents(zero)])
    values = products.double().cpu().numpy().reshape(-1)[place]
    entries = Entries(f.n, rows, columns, values)
    v = torch.randn(zero.shape, dtype=f.dtype, generator=torch.Generator().manual_seed(0)).to(f.device)
    size = float(np.abs(values).max() + b.abs().max()) + float(e.abs().max() + 4 * norm(f.E, f.no_phi(zero))) * norm(
        f.C, f.no_x(zero)
    ) * float(f.beta.max())
    missed = np.abs(entries @ as_vector(v, sites) - as_vector(product(v), sites)).max()
    if not missed <= 2.0**10 * ROUNDING * size:
        return None
    return SparseMatrix(entries, np.where(values != 0, ROUNDING * size, 0.0), per_site)


def within_reach(product: Map, zero: Tensor) -> Sites:
    """Return sites that see as far as the middle one and those at the corners do, marked by NaN."""
    spatial, channels = zero.shape[2:], zero.shape[1]
    chosen = [*itertools.product(*((0, size - 1) for size in spatial)), tuple(size // 2 for size in spatial)]
    marked = torch.zeros(len(chosen), channels, *spatial, dtype=zero.dtype, device=zero.device)
    for row, site in enumerate(chosen):
        marked[row].flatten(1)[:, np.ravel_multi_index(site, spatial)] = torch.nan
    reached = torch.isnan(product(marked)).any(1).cpu().numpy()
    steps = np.concatenate([np.argwhere(seen) - site for seen, site in zip(reached, chosen, strict=True)])
    where = np.stack(np.unravel_index(np.arange(math.prod(spatial)), spatial), 1)
    seen = np.ones((len(where), len(where)), dtype=bool)
    for low, high, at in zip(steps.min(0), steps.max(0), where.T, strict=True):
        apart = at[:, None] - at
        seen &= (apart >= low) & (apart <= high)
    return coloured(tuple(zero.shape[1:]), seen)


def norm(part: LinearPart, like: Tensor) -> float:
    """Estimate the norm of a linear part of a map, from rows like `like` (1, …), by power iteration."""
    v = torch.randn(like.shape, dtype=like.dtype, generator=torch.Generator().manual_seed(0)).to(like.device)
    size = 0.0
    for _ in range(STEPS):
        v = part.adjoint(part(v / v.norm().clamp_min(torch.finfo(v.dtype).tiny)))
        size = float(v.norm()) ** 0.5
    return size
