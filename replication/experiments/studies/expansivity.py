"""How wide a Gaussian ReLU layer must be to be injective (figD1), and when one direction refutes it (figD2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from rich.progress import Progress
from scipy.optimize import brentq
from scipy.special import entr, gammaln
from scipy.stats import binom, norm
from torch import Tensor

from replication.experiments.data.ensembles import normal
from replication.experiments.studies.invertibility import wilson
from replication.relu_layers.refutation import leanest_directions
from replication.relu_layers.spanning import directed_spanning_test

THRESHOLDS = {  # of the expansivity c = m/n as n grows, where no number is computed here: recalled, not checked
    "paper D: never injective below": 2.0,
    "statistical physics": 6.698,
    "rigorous, after paper D": 7.65,
    "paper D: injective above": 10.5,
}


def adversarial_threshold() -> float:
    """Return c with c·Φ(−1/√c) = 1, below which the adversarial direction has fewer than n active rows, as n grows.

    ⟨ŵⱼ, −Σŵᵢ⟩ = −1 + N(0, c) to first order, so that m·Φ(−1/√c) rows are active.

    Source: paper D.
    """
    return float(brentq(lambda c: c * norm.cdf(-1 / np.sqrt(c)) - 1, 2, 6))


def union_threshold() -> float:
    """Return the c above which `union_bound` proves injectivity as n grows: where its exponent changes sign."""

    def exponent(c: float) -> float:
        return float(c * entropy(1 / c) + (c - 1) * (entropy(1 / (c - 1)) - np.log(2)))

    return float(brentq(exponent, 6, 20))


def entropy(p: float) -> float:
    """Return −p·log p − (1 − p)·log(1 − p)."""
    return float(entr(p) + entr(1 - p))


def union_bound(m: int, n: int) -> float:
    """Bound the probability that a Gaussian layer is injective from below, for every m and n.

    A layer in general position is not injective iff at a ray ±r where n − 1 rows vanish at most n − 1 of the other
    m − n + 1 rows are positive, and these have independent signs: P ≥ 1 − 2·C(m, n − 1)·P(Bin(m − n + 1, ½) ≤ n − 1).
    """
    rays = np.log(2) + gammaln(m + 1) - gammaln(n) - gammaln(m - n + 2)
    return float(max(0.0, -np.expm1(min(0.0, rays + binom.logcdf(n - 1, m - n + 1, 0.5)))))


def injectivity(
    exact: Sequence[int],
    searched: Sequence[int],
    cases: int,
    searched_cases: int,
    expansivity: tuple[float, float],
    seed: int,
) -> pd.DataFrame:
    """Estimate the probability that a Gaussian layer is injective, by expansivity, exactly or from both sides.

    More rows keep a layer injective, so that one sequence of rows is drawn a case, and the number of rows from which it
    is injective is found; the cases of different m are therefore not independent.

    Source: paper D (Gaussian layers).

    Args:
        exact: numbers of inputs n for which every layer is decided.
        searched: n for which layers are only refuted, by the local search, which bounds the probability from above.
        cases, searched_cases: sequences of rows for each n.
        expansivity: least and largest m/n.
        seed: of the rows.

    Returns:
        A row for each n, m and quantity: n, m, expansivity, quantity, cases, count, percent, ci_low, ci_high (Wilson
        95 %). The quantity is "injective" or "not_refuted", or "union_bound", a bound from below without cases.
    """
    rows: list[dict[str, object]] = []
    with Progress() as progress:
        task = progress.add_task("Gaussian layers", total=len(exact) * cases + len(searched) * searched_cases)
        for sizes, count, quantity, first_of in (
            (exact, cases, "injective", first_injective),
            (searched, searched_cases, "not_refuted", first_not_refuted),
        ):
            for n in sizes:
                least, most = round(expansivity[0] * n), round(expansivity[1] * n)
                first = []
                for case in range(count):
                    generator = torch.Generator().manual_seed(1_000_003 * seed + 1009 * n + case)
                    first.append(first_of(normal(most, n, generator=generator), least))
                    progress.advance(task)
                rows += shares(np.array(first), n, range(least, most + 1), quantity)
                rows += bounds(n, range(least, most + 1))
    return pd.DataFrame(rows)


def first_injective(W: Tensor, least: int) -> int:
    """Return the least m from `least` on for which the first m rows make an injective layer, one past the end if none.

    Raises:
        RuntimeError: if the exact test leaves a layer open.
    """
    for m in range(first_not_refuted(W, least), len(W) + 1):
        spans = directed_spanning_test(W[:m]).spans
        if spans is None:
            raise RuntimeError(f"a Gaussian layer {m}×{W.shape[1]} was not decided; choose fewer inputs")
        if spans:
            return m
    return len(W) + 1


def first_not_refuted(W: Tensor, least: int) -> int:
    """Return an m from `least` on such that a local search refutes the first m − 1 rows and not the first m.

    Found by bisection; one past the end if all are refuted.
    """
    low, high, n = least, len(W) + 1, W.shape[1]
    while low < high:
        middle = (low + high) // 2
        x = leanest_directions(W[:middle].numpy(), np.random.default_rng(0), enough=n)
        refuted = np.count_nonzero(x @ W[:middle].numpy().T >= 0, axis=1).min() < n
        low, high = (middle + 1, high) if refuted else (low, middle)
    return low


def shares(first: np.ndarray, n: int, sizes: range, quantity: str) -> list[dict[str, object]]:
    """Return the rows of one n: how many of the cases pass from at most m rows on."""
    rows = []
    for m in sizes:
        count = int((first <= m).sum())
        low, high = wilson(count, len(first))
        about = {"n": n, "m": m, "expansivity": m / n, "quantity": quantity, "cases": len(first), "count": count}
        rows.append(about | {"percent": 100 * count / len(first), "ci_low": low, "ci_high": high})
    return rows


def bounds(n: int, sizes: range) -> list[dict[str, object]]:
    """Return the rows of the union bound for one n."""
    return [
        {"n": n, "m": m, "expansivity": m / n, "quantity": "union_bound", "percent": 100 * union_bound(m, n)}
        for m in sizes
    ]


def adversarial(sizes: Sequence[int], expansivity: Sequence[float], trials: int, draws: int, seed: int) -> pd.DataFrame:
    """Count how often at least n rows are active at the adversarial direction of a Gaussian layer.

    All expansivities of a trial share their rows: the layer with more rows begins with those of the one before. Random
    signs of its rows make a Gaussian layer into another one, so that a draw of rows serves several trials: their counts
    depend on each other only through sums over all rows of ⟨ŵᵢ,ŵⱼ⟩², which hardly vary.

    Source: paper D (figure with n = 500, 1000, 5000 and 100 trials).

    Args:
        sizes: numbers of inputs n.
        expansivity: values of c, m = round(c·n), increasing.
        trials: layers for each n and c.
        draws: of rows; the trials share them evenly.
        seed: of the rows.

    Returns:
        A row for each n and c: n, m, expansivity, cases, count, percent, ci_low, ci_high (Wilson 95 %), active_mean
        (the mean number of active rows over n).
    """
    rows: list[dict[str, object]] = []
    with Progress() as progress:
        task = progress.add_task("adversarial directions", total=len(sizes) * trials)
        for n in sizes:
            m = [round(c * n) for c in expansivity]
            found, W = [], torch.empty(m[-1], n)
            for draw, share in enumerate(np.array_split(np.arange(trials), min(draws, trials))):
                generator = torch.Generator().manual_seed(1_000_003 * seed + 1009 * n + draw)
                torch.randn(W.shape, generator=generator, out=W)
                signs = 2 * torch.randint(2, (len(share), len(W)), generator=generator) - 1.0
                found.append(active_at_adversarial(W, signs, m))
                progress.advance(task, len(share))
            counts = torch.cat(found).numpy()
            for place, size in enumerate(m):
                count = int((counts[:, place] >= n).sum())
                low, high = wilson(count, trials)
                about = {"n": n, "m": size, "expansivity": size / n, "cases": trials, "count": count}
                share_of = {"percent": 100 * count / trials, "ci_low": low, "ci_high": high}
                rows.append(about | share_of | {"active_mean": counts[:, place].mean() / n})
    return pd.DataFrame(rows)


def active_at_adversarial(W: Tensor, signs: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the number of active rows at −Σ ŵⱼ for the first m rows of layers, for every m in `sizes`, increasing.

    In float32: a row within rounding of zero may count either way, some 10⁻⁶ of the rows.

    Args:
        W: rows up to sign (rows, n).
        signs: of the rows of each layer, ±1 (layers, rows).
        sizes: numbers of rows.

    Returns:
        Numbers (layers, sizes).

    >>> W = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, -1.0]])
    >>> active_at_adversarial(W, torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0]]), [1, 3])
    tensor([[0, 0],
            [0, 1]])
    """
    scaled = signs / W.norm(dim=1)
    blocks = [scaled[:, a:b] @ W[a:b] for a, b in pairwise([0, *sizes])]
    sums = torch.stack(blocks).cumsum(0)
    along = signs.mT[:, None] * (W @ sums.flatten(0, 1).mT).unflatten(1, sums.shape[:2])  # (rows, sizes, layers)
    return torch.stack([(along[:m, place] <= 0).sum(0) for place, m in enumerate(sizes)], 1)
