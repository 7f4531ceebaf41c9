"""Running averages of a network's weights in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Return a network of the running averages of another's free parameters and statistics.

        average ← d·average + (1 − d)·value,    d = min(decay, (1 + n)/(10 + n))

    after n averages, so that the first weights are soon forgotten. Parametrized weights are made from averaged
    parameters, and so keep their caps.

    Args:
        network: whose weights are averaged, by `update_parameters(network)` after every step.
        decay: between 0 and 1.
    """

    @torch.no_grad()
    def average(averages: Tensors, values: Tensors, number: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(number)) / (10 + int(number)))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, share)
        else:
            torch._foreach_copy_(averages, values)  # counts

    model = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
    model.requires_grad_(False)
    return model
