"""Whether a module maps single images, and each time the same way, as a layer that is to be undone must."""

from __future__ import annotations

from functools import singledispatch

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm


def check_map(module: nn.Module) -> None:
    """Refuse a module that is no map of single images, or may compute something else the next time.

    Raises:
        RuntimeError: if it has batch normalisation without running statistics; or, in training mode, a part that may
            compute something else there: normalisation that has running statistics, dropout, spectral normalisation, or
            a module that neither torch.nn nor this package knows.
    """
    for part in module.modules():
        if isinstance(part, _BatchNorm) and part.running_mean is None:
            raise RuntimeError("batch normalisation without running statistics is no map of single images")
        if part.training and changes_in_evaluation(part):
            raise RuntimeError(
                f"a reversible block with {parametrize.type_before_parametrizations(part).__name__} has an inverse in "
                "evaluation mode only: call network.eval() first"
            )


@singledispatch
def changes_in_evaluation(part: nn.Module) -> bool:
    """Return whether a module, without its parts, may compute something else in evaluation mode than in training."""
    known = parametrize.type_before_parametrizations(part).__module__.startswith(("torch.nn.", "replication."))
    return not known or any(isinstance(hook, SpectralNorm) for hook in part._forward_pre_hooks.values())


@changes_in_evaluation.register
def _(part: _NormBase) -> bool:
    return part.track_running_stats


@changes_in_evaluation.register(nn.MultiheadAttention)
@changes_in_evaluation.register(nn.RNNBase)
def _(part: nn.MultiheadAttention | nn.RNNBase) -> bool:
    return part.dropout > 0


@changes_in_evaluation.register(_DropoutNd)
@changes_in_evaluation.register(nn.RReLU)
@changes_in_evaluation.register(_SpectralNorm)
def _(part: nn.Module) -> bool:
    return True
