"""Reading any module made of affine maps, element-wise activations and skip connections as a feed-forward map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from replication.checks import check_numbers
from replication.maps.feed_forward import ActivationLayer, FeedForwardMap
from replication.reading.blocks import Block, Trace
from replication.reading.graph import trace
from replication.reading.guest import Guest, UnreadableError
from replication.reading.held import NOT_AFFINE, hold_against, random_rows
from replication.reading.program import Graph, Layout, Program, Replay

FEW, MORE = 2, 3  # rows of the two batches that show which dimension of a tensor is that of the batch


@torch.no_grad()
def read(module: nn.Module, x: Tensor) -> FeedForwardMap:
    """Read what a module computes as a feed-forward map, and hold it against the module.

    The module's own forward pass is run, and every function of torch that it calls is looked at, so that it does not
    matter how the module is written. Element-wise activations become free inputs; everything else must be affine in
    what depends on x. Nothing of the module changes. It is read once: the graph keeps the weights that it has now.

    Args:
        module: keeps the shape of its input, acts on every row by itself, and computes with affine maps (in
            evaluation mode normalisation by running statistics is one), activations with bounded slopes, and sums.
        x: inputs (batch, *shape), which fix the shape and are used for the check.

    Returns:
        The map, which works in float64 where the module can be evaluated so, else in the precision of x.

    Raises:
        TypeError: if the module is no module, or x no tensor of float32 or float64.
        UnreadableError: if it is not of this form, a ValueError that names the function, the layer and the line that
            stand in the way, and what follows.

    >>> found = read(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)), torch.randn(4, 3))
    >>> found.activations, found.n
    ((tanh (5,),), 5)
    """
    guest = Guest(module)
    check_numbers(x=x)
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise ValueError(f"a module is read on inputs (batch, *shape), not {tuple(x.shape)}")
    x = x if len(x) else x.new_zeros(1, *x.shape[1:])
    found = evaluated(guest, x)
    try:
        feed_forward = mapped(guest, x, torch.float64)
    except UnreadableError:
        if x.dtype == torch.float64:
            raise
        feed_forward = mapped(guest, x, x.dtype)
    try:
        hold_against(feed_forward, guest, x, found)
    except RuntimeError as error:  # TorchScript's, say, under products
        raise UnreadableError(NOT_AFFINE) from error
    except UnreadableError:
        if feed_forward.dtype != x.dtype:
            mapped(guest, x, x.dtype)  # which names a layer that computes in half precision where it can
        raise
    return feed_forward


def evaluated(guest: Guest, x: Tensor) -> Tensor:
    """Return what a module makes of x.

    Raises:
        UnreadableError: if it fails, draws random numbers or changes its state, with the layer that does if it shows.
    """
    try:
        found: Tensor = guest(x)
    except ValueError as error:
        mapped(guest, x, x.dtype)
        raise UnreadableError(str(error)) from error
    if isinstance(found, Tensor) and found.dtype != x.dtype:
        raise UnreadableError(f"it takes {x.dtype} and returns {found.dtype}; only maps that keep both can be undone")
    return found


def mapped(guest: Guest, x: Tensor, dtype: torch.dtype) -> FeedForwardMap:
    """Return the map that a module computes in one precision.

    Raises:
        UnreadableError: if it is none.
    """
    program = Program(guest, dtype)
    few, more = (
        trace(program.guarded, program.module, random_rows(x, torch.ones(rows, dtype=dtype))) for rows in (FEW, MORE)
    )
    if few.names != more.names:
        raise UnreadableError("it calls other functions of torch for other numbers of rows; write it for batches")
    layouts = layouts_of(program, few, more, random_rows(x, torch.tensor([1, torch.nan, 1], dtype=dtype)))
    activations = tuple(activation_layer(*pair) for pair in zip(more.blocks, layouts, strict=True))
    graph = Graph(program, more.names, more.blocks, layouts)
    outer = None if more.outer is None else activations[more.outer]
    return FeedForwardMap(guest, graph, activations, tuple(x.shape[1:]), dtype, x.device, more.eps, outer)


def layouts_of(program: Program, few: Trace, more: Trace, poisoned: Tensor) -> tuple[Layout, ...]:
    """Return where the rows are in every preactivation.

    Args:
        program: the module.
        few, more: its traces on different numbers of rows.
        poisoned: as many rows as the second, the second of them NaN, which spreads to all that it reaches.

    Raises:
        UnreadableError: if rows are mixed.
    """
    replay = Replay(more.names, more.blocks, poisoned, None)
    y = program.guarded(replay, poisoned.clone())
    if reached(y):
        raise UnreadableError("each row of what it returns depends on other rows of the batch; it must act row by row")
    pairs = zip(few.blocks, more.blocks, replay.preactivations, strict=True)
    return tuple(layout_of(a, b, s) for a, b, s in pairs)


def layout_of(few: Block, more: Block, poisoned: Tensor) -> Layout:
    """Return where the rows are in a preactivation, as two shapes of it and the places that one row reaches show.

    Raises:
        UnreadableError: if rows are mixed.
    """
    grown = [dim for dim, (a, b) in enumerate(zip(few.shape, more.shape, strict=True)) if a != b]
    if len(grown) == 1 and few.shape[grown[0]] % FEW == 0:
        dim, per_row = grown[0], few.shape[grown[0]] // FEW
        rest = [*more.shape[:dim], *more.shape[dim + 1 :]]
        for inner in (False, True):
            shape = rest if per_row == 1 else [*rest[:dim], per_row, *rest[dim:]]
            found = Layout(dim, per_row, inner, tuple(shape))
            if per_row * MORE == more.shape[dim] and not reached(found.rows(poisoned)):
                return found
    raise UnreadableError(f"{more.place} stands in the way: it mixes the rows of a batch; it must act row by row")


def reached(tensor: Tensor) -> bool:
    """Return whether NaN in the second row has reached others."""
    return bool(tensor[::2].isnan().any())


def activation_layer(block: Block, layout: Layout) -> ActivationLayer:
    """Return the activation of a block, for preactivations (batch, *shape).

    Raises:
        UnreadableError: if rows have activations of their own.
    """
    make, numbers = block.recipe
    rows = [layout.rows(number) for number in numbers]
    if any(not torch.equal(number, number[:1].expand_as(number)) for number in rows):
        raise UnreadableError(f"{block.place} stands in the way: it is another function for each row of a batch")
    return ActivationLayer(make(*(number[0] for number in rows)), layout.shape, block.place)
