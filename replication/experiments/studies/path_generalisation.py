"""Whether basis-path norms tell how well networks generalise, and whether training with them helps (figE4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor

from replication.experiments.data.images import ImageData
from replication.experiments.studies.many_networks import Samples, Weights, he_normal, train_together, wrong_percent
from replication.experiments.studies.path_structure import (
    COLUMNS,
    MEASURES,
    Row,
    basis_penalty,
    counts,
    invariance,
    line,
    squared_size,
)
from replication.path_basis import path_norms, skeleton

SIZE = 14  # pixels a side that images are averaged to, at most
STARTS = ("he", "skeleton")  # He's weights, and the same with the skeleton's weights at 1
OWN, RIVALS = ("basis_sup", "basis_l2"), ("path_l1", "path_l2", "l2", "spectral")
LEVEL = 95  # % of intervals
PENALTIES: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "L2": squared_size,
    "path norm": lambda weights: path_norms(weights, 2.0).square(),
    "basis-path norm": basis_penalty,
}


def paths_and_norms(
    data: ImageData,
    architectures: Sequence[Sequence[int]],
    widths: Sequence[int],
    changes: int,
    correlation: Mapping[str, Any],
    regularisation: Mapping[str, Any],
    seed: int,
) -> pd.DataFrame:
    """Count basis paths, see what leaves their norm alone, hold it against generalisation, and train with it.

    Source: Zheng and others, Capacity control of ReLU neural networks by basis-path norm (2019); assumption A22.

    Args:
        data: of which networks learn a small part; where there are too few, all numbers of images shrink by one factor.
        architectures: widths of small networks whose paths are enumerated.
        widths: of the network whose hidden units are rescaled and permuted.
        changes: how often.
        correlation: settings as for `trained_networks`, and `resamples` of the bootstrap.
        regularisation: settings as for `regularised`.
        seed: of all draws.

    Returns:
        A row for each number: part, start, axis, case, seed, quantity, value, low, high (95 % by bootstrap).
    """
    images = Images.of(data)
    share = min(1.0, len(images.train) / max(images_of(correlation), images_of(regularisation)))
    settings, regularisation = fewer(correlation, share), fewer(regularisation, share)
    resamples = int(settings.pop("resamples"))
    rows = [*counts(architectures, seed), *invariance(widths, changes, seed)]
    networks = list(trained_networks(images, seed=seed, **settings))
    rows += networks
    rows += correlations(pd.DataFrame(networks, columns=COLUMNS), resamples, seed)
    rows += regularised(images, seed=seed, **regularisation)
    return pd.DataFrame(rows, columns=COLUMNS)


def images_of(settings: Mapping[str, Any]) -> int:
    """Return how many training images an experiment needs."""
    return int(settings["labelled"] + np.max(settings["mislabelled"]) + settings.get("validation", 0))


def fewer(settings: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Return the settings of an experiment with a share of its images."""
    given = {name: settings[name] for name in ("labelled", "mislabelled", "validation") if name in settings}
    smaller = {name: np.floor(share * np.asarray(number)).astype(int).tolist() for name, number in given.items()}
    return {**settings, **smaller}


class Images:
    """Training and test images, averaged to at most 14×14 pixels and flattened (images, pixels), with their labels."""

    def __init__(self, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: int) -> None:
        (self.train, self.labels), (self.test, self.targets), self.classes = train, test, classes

    @staticmethod
    def of(data: ImageData) -> Images:
        """Read the images of a data module."""
        data.setup()
        assert data.train is not None
        assert data.test is not None
        train, test = (
            (F.avg_pool2d(images, max(1, images.shape[-1] // SIZE)).flatten(1), labels)
            for images, labels in (data.train.tensors, data.test.tensors)
        )
        return Images(train, test, data.classes)

    def samples(self, labelled: int, mislabelled: Sequence[int], seeds: Sequence[int]) -> Samples:
        """Return, for each network, `labelled` training images with their labels and so many more with wrong ones.

        Networks of one seed have the same true images, and the first of the same mislabelled ones.
        """
        most, rows, labels = labelled + max(mislabelled), [], []
        if most > len(self.train):
            raise ValueError(f"there are {len(self.train)} training images, fewer than {most}; ask for fewer")
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            chosen = torch.randperm(len(self.train), generator=generator)[:most]
            wrong = torch.randint(1, self.classes, (most,), generator=generator)
            wrong[:labelled] = 0
            rows.append(chosen)
            labels.append((self.labels[chosen] + wrong) % self.classes)
        return Samples(self.train, torch.stack(rows), torch.stack(labels), labelled + torch.tensor(mislabelled))


def begun(start: str, networks: int, widths: Sequence[int], seed: int) -> Weights:
    """Return He's weights, for "skeleton" with the inward and outward edges of hidden units at 1."""
    weights = he_normal(networks, widths, torch.Generator().manual_seed(seed))
    if start == "skeleton":
        for place, W in enumerate(weights):
            W[:, skeleton(W, first=place == 0, last=place == len(weights) - 1)] = 1
    return weights


def trained_networks(
    images: Images, labelled: int, mislabelled: Sequence[int], widths: Sequence[int], width: int, layers: int,
    seeds: int, more_seeds: int, steps: int, batch: int, rate: float, seed: int,
) -> Iterator[Row]:  # fmt: skip
    """Train networks along three axes, from both starts, and yield their measures, errors and gaps.

    The gap is the test error less the training error by the labels given, in percent.

    Args:
        images: to learn from.
        labelled: number of images with true labels.
        mislabelled: numbers of images with wrong labels added, for the axis of that name.
        widths: of the hidden layers, for the axis of the width, without wrong labels.
        width: of the hidden layers otherwise.
        layers: number of hidden layers.
        seeds: of each network on these axes.
        more_seeds: of the networks on the axis of the seed, with the middle number of wrong labels.
        steps, batch, rate: of Adam.
        seed: the first.
    """
    middle, fit = sorted(mislabelled)[len(mislabelled) // 2], partial(torch.optim.Adam, lr=rate, fused=True)
    groups = [("seed", width, [middle] * more_seeds, range(more_seeds))]
    groups += [("mislabelled", width, [number] * seeds, range(seeds)) for number in mislabelled]
    groups += [("width", other, [0] * seeds, range(seeds)) for other in widths]
    for start in STARTS:
        for size in sorted({group[1] for group in groups}):
            own = [(axis, wrong, one) for axis, w, wrongs, ones in groups if w == size
                   for wrong, one in zip(wrongs, ones, strict=True)]  # fmt: skip
            samples = images.samples(labelled, [wrong for _, wrong, _ in own], [seed + one for *_, one in own])
            shape = (images.train.shape[1], *[size] * layers, images.classes)
            weights = begun(start, len(own), shape, seed)
            trained, _ = train_together(weights, samples, fit, steps, batch, torch.Generator().manual_seed(seed))
            train_error, test_error = samples.share_wrong(trained), wrong_percent(trained, images.test, images.targets)
            doubled = [W.double() for W in trained]
            found = {name: measure(doubled) for name, measure in MEASURES.items()}
            found |= {"train_error": train_error, "test_error": test_error, "gap": test_error - train_error}
            for place, (axis, wrong, one) in enumerate(own):
                case = size if axis == "width" else wrong
                for quantity, values in found.items():
                    yield line("network", quantity, float(values[place]), start=start, axis=axis, case=case, seed=one)


def correlations(networks: pd.DataFrame, resamples: int, seed: int) -> Iterator[Row]:
    """Yield the rank correlation of each measure with the gap, and how far a basis-path norm leads each rival.

    Intervals are those of the bootstrap over networks; the lead is resampled in pairs.
    """
    generator = np.random.default_rng(seed)
    for start in networks["start"].unique():
        for axis in networks["axis"].unique():
            rows = networks[(networks["start"] == start) & (networks["axis"] == axis)]
            wide = rows.pivot(index=["case", "seed"], columns="quantity", values="value")
            drawn = np.concatenate(
                [np.arange(len(wide))[None], generator.integers(len(wide), size=(resamples, len(wide)))]
            )
            gap = wide["gap"].to_numpy(float)[drawn]
            found = {name: rank_correlation(wide[name].to_numpy(float)[drawn], gap) for name in MEASURES}
            place = {"start": start, "axis": axis}
            for name, values in found.items():
                yield line("correlation", name, values[0], **place, **interval(values[1:]))
            for own in OWN:
                for rival in RIVALS:
                    lead = found[own] - found[rival]
                    yield line("lead", own, lead[0], **place, case=rival, **interval(lead[1:]))


def rank_correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation of every row of x and y (rows, numbers), NaN where one is constant."""
    x, y = (rankdata(values, axis=1) for values in (x, y))
    x, y = (values - values.mean(1, keepdims=True) for values in (x, y))
    with np.errstate(invalid="ignore"):
        found: np.ndarray = (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))
    return found


def interval(values: np.ndarray) -> dict[str, float]:
    """Return the middle 95 % of values."""
    low, high = np.nanpercentile(values, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return {"low": float(low), "high": float(high)}


def regularised(
    images: Images, labelled: int, mislabelled: int, width: int, layers: int, rates: Sequence[float],
    strengths: Mapping[str, Sequence[float]], seeds: int, validation: int, steps: int, batch: int, momentum: float,
    seed: int,
) -> Iterator[Row]:  # fmt: skip
    """Train with each penalty, tune its strength on validation images, and yield the test errors of the best.

    Every method has as many tunings: plain SGD's are its rates, the penalties have the upper middle one.

    Args:
        images: to learn from.
        labelled, mislabelled: images with true and with wrong labels.
        width, layers: of the hidden layers.
        rates: of plain SGD.
        strengths: factors of each penalty.
        seeds: of each setting.
        validation: training images, none of those learnt from, that choose the setting.
        steps, batch, momentum: of SGD.
        seed: the first.
    """
    middle = sorted(rates)[len(rates) // 2]
    tunings = [("SGD", 0.0, rate) for rate in rates]
    tunings += [(name, factor, middle) for name, factors in strengths.items() for factor in factors]
    each = [(*tuning, one) for tuning in tunings for one in range(seeds)]
    ones = [one for *_, one in each]
    samples = images.samples(labelled, [mislabelled] * len(each), [seed + one for one in ones])
    held = images.samples(len(images.train), [0] * seeds, range(seed, seed + seeds)).rows[:, -validation:]
    factor = torch.tensor([factor for _, factor, _, _ in each])
    places = {name: [k for k, (method, *_) in enumerate(each) if method == name] for name in strengths}

    def penalty(weights: Weights) -> Tensor:
        total = torch.zeros(len(each))
        for name, own in places.items():
            total = total.index_add(0, torch.tensor(own), factor[own] * PENALTIES[name]([W[own] for W in weights]))
        return total

    shape = (images.train.shape[1], *[width] * layers, images.classes)
    for start in STARTS:
        first = begun(start, seeds, shape, seed)
        trained, _ = train_together(
            [W[ones] for W in first], samples, partial(torch.optim.SGD, lr=1.0, momentum=momentum), steps, batch,
            torch.Generator().manual_seed(seed), penalty, torch.tensor([rate for _, _, rate, _ in each]),
        )  # fmt: skip
        chosen = [
            wrong_percent([W[[k]] for W in trained], images.train[held[one]], images.labels[held[one]])
            for k, one in enumerate(ones)
        ]
        table = pd.DataFrame(each, columns=["method", "factor", "rate", "seed"])
        table["validation_error"] = torch.cat(chosen).numpy()
        table["test_error"] = wrong_percent(trained, images.test, images.targets).numpy()
        yield from best_tunings(table, start)


def best_tunings(table: pd.DataFrame, start: str) -> Iterator[Row]:
    """Yield the test errors of each method's tuning with the least mean validation error, and that tuning."""
    for method, rows in table.groupby("method", sort=False):
        means = rows.groupby(["factor", "rate"])["validation_error"].mean()
        factor, rate = cast("tuple[float, float]", means.idxmin())
        best = rows[(rows["factor"] == factor) & (rows["rate"] == rate)]
        for _, one in best.iterrows():
            place = {"start": start, "case": method, "seed": int(one["seed"])}
            yield line("regularised", "test_error", one["test_error"], **place)
        for quantity, value in (("factor", factor), ("rate", rate), ("validation_error", means.min())):
            yield line("regularised", quantity, value, start=start, case=method)
