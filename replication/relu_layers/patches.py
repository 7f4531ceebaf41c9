"""A sufficient test of convolutional ReLU layers: the rows of a kernel in one patch of the image."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from replication.relu_layers.spanning import directed_spanning_test
from replication.relu_layers.verdict import SpanningTest


def patch_spanning_test(kernel: Tensor, patch: int, time_limit: float = 60.0) -> SpanningTest:
    """Test a sufficient condition for x ↦ relu(kernel ∗ x) to be injective on images of patch × patch pixels or more.

    The rows are the kernel's places that lie wholly in a patch, each the kernel padded with zeros to the patch. If the
    active ones span the numbers of the patch at every input, those of all patches of an image span the image, whatever
    its padding. That they do not span decides nothing about images, so that the answer is True or None.

    Source: paper D (zero-padded kernels); the argument above is ours.

    Args:
        kernel: (out, in, k, k), of a convolution of stride 1.
        patch: width of the patch, at least k.
        time_limit: as for `directed_spanning_test`.

    Raises:
        ValueError: if the patch is smaller than the kernel.

    >>> kernel = torch.tensor([[1.0, 2.0], [0.0, 1.0]])[None, None]
    >>> patch_spanning_test(torch.cat([kernel, -kernel]), 2).spans, patch_spanning_test(kernel, 2).spans
    (None, None)
    >>> patch_spanning_test(torch.ones(2, 1, 1, 1) * torch.tensor([1.0, -1.0])[:, None, None, None], 2).spans
    True
    """
    test = directed_spanning_test(patch_rows(kernel, patch), time_limit=time_limit)
    where = f"on patches of {patch}×{patch} pixels"
    if test.spans:
        return replace(test, reason=f"{test.reason[:-1]}, {where}.")
    return SpanningTest(None, None, f"The rows of the kernel {where} are not known to span: {test.reason}")


def patch_rows(kernel: Tensor, patch: int) -> Tensor:
    """Return the kernel (out, in, k, k) at all places in a patch, padded with zeros (out·places, in·patch²).

    Raises:
        ValueError: if the patch is smaller than the kernel.

    >>> patch_rows(torch.full((1, 1, 1, 1), 3.0), 2).tolist()
    [[3.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0], [0.0, 0.0, 0.0, 3.0]]
    """
    k = kernel.shape[-1]
    if patch < k:
        raise ValueError(f"the patch must be at least as wide as the kernel, {k}, not {patch}")
    free = patch - k
    places = [
        torch.nn.functional.pad(kernel, (left, free - left, top, free - top))
        for top in range(free + 1)
        for left in range(free + 1)
    ]
    return torch.cat(places).flatten(1)
