"""Going back over couplings, with the checks that the way back repeats what the way forward did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from replication.checks import check_rows
from replication.units.reversible.couplings import Coupling, Pair
from replication.units.reversible.replay import (
    attributes,
    copied_buffers,
    exchanged,
    random_states,
    restore_random_states,
)


def undone(module: nn.Module, couplings: Sequence[Coupling], first: Tensor, second: Tensor) -> Pair:
    """Go back over couplings that are parts of the module, from finite states of its dtype.

    The module's buffers stay as they are: normalisation in training mode uses the batch's statistics, as before.

    Raises:
        RuntimeError: if a branch has drawn random numbers, or has changed its state and gives something else then,
            since it did so in the forward pass too.
    """
    for state in (first, second):
        check_rows(state, like=next(module.parameters(), first))
    randomness, before = random_states(first.device), state_of(module)
    with exchanged(copied_buffers(module)):
        pair = undone_once(couplings, first, second)
        if random_states(first.device) != randomness:
            restore_random_states(first.device, randomness)
            raise RuntimeError("a branch draws random numbers, so it cannot be undone; call eval() first")
        changed = changes(before, state_of(module))
        if changed and not agree(pair, undone_once(couplings, first, second)):
            raise RuntimeError(
                f"a branch changes its state with every evaluation ({', '.join(sorted(changed))}), so it cannot be "
                "undone; call eval() first"
            )
    return pair


def undone_once(couplings: Sequence[Coupling], first: Tensor, second: Tensor) -> Pair:
    """Go back over couplings."""
    for coupling in reversed(couplings):
        first, second = coupling.inverse(first, second)
    return first, second


def state_of(module: nn.Module) -> dict[tuple[int, str], object]:
    """Return the buffers, but for those of normalisation, and the counters of a module's parts, by part and name."""
    return {
        (id(part), name): value
        for part in module.modules()
        if not isinstance(part, _NormBase)
        for name, value in (part._buffers | attributes(part)).items()
        if isinstance(value, int | float) or name in part._buffers
    }


def changes(before: Mapping[tuple[int, str], object], after: Mapping[tuple[int, str], object]) -> set[str]:
    """Return the names of what differs between two states of a module."""

    def same(old: object, new: object) -> bool:
        return torch.equal(old, new) if isinstance(old, Tensor) and isinstance(new, Tensor) else old == new

    return {key[1] for key, new in after.items() if key not in before or not same(before[key], new)}


def agree(pair: Pair, other: Pair) -> bool:
    """Return whether two pairs of states differ by rounding at most."""
    rounding = torch.finfo(pair[0].dtype).eps ** 0.5
    return all(bool((a - b).norm() <= rounding * b.norm()) for a, b in zip(pair, other, strict=True))
