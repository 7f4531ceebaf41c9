"""Whole models: read stage by stage, certified by a table or by two colliding inputs, and brought back."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from builders import Block, assert_one_sentence, length, unit_of_norm
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

from replication import Inverse, LayerwiseNetwork, MonotoneConvUnit, Verdict, as_network, as_unit, certify, invert
from replication.exact_arithmetic import rank
from replication.units import SpaceToDepth
from replication.units.affine_layers import LeakyRectifier, LinearMap, Rearrangement

EPS = torch.finfo(torch.float64).eps


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def residual_block(d: int = 4, h: int = 6, share: float = 0.3, seed: int = 0) -> Block:
    """A block whose branch is `share` times a contraction or so."""
    torch.manual_seed(seed)
    block = Block(nn.Linear(d, h), nn.Linear(h, d))
    with torch.no_grad():
        block.branch[2].weight.mul_(share)
    return block


def image_block(channels: int) -> Block:
    return residual_scaled(Block(nn.Conv2d(channels, 3, 3, padding=1), nn.Conv2d(3, channels, 3, padding=1)))


def residual_scaled(block: Block, share: float = 0.3) -> Block:
    with torch.no_grad():
        block.branch[2].weight.mul_(share)
    return block


def folding_block() -> Block:
    """x − 3·relu(x), number by number."""
    block = Block(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        for layer, factor in ((block.branch[0], 1.0), (block.branch[2], -3.0)):
            layer.weight.copy_(factor * torch.eye(4))
            layer.bias.zero_()
    return block


class Classifier(nn.Module):
    """A chain of children, with a function between two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(1, 2, 3, padding=1), nn.PixelUnshuffle(2)
        self.stages = nn.Sequential(image_block(8), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.LeakyReLU(0.2))
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = torch.flatten(self.pool(self.stages(self.down(self.stem(x)))), 1)
        return self.head(pooled)


class Cumulative(nn.Module):
    """An affine map that no layer of torch is."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1).flip(-1)


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2).add_(1)


IMAGE, ROW = (2, 4, 4), (4,)
STAGES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(4, 4), ROW),
    "linear of the last dimension": (lambda: nn.Linear(4, 4), IMAGE),
    "wider": (lambda: nn.Linear(4, 7), ROW),
    "wider images": (lambda: nn.Conv2d(2, 3, 1), IMAGE),
    "single points": (lambda: nn.Conv2d(2, 2, 1), IMAGE),
    "groups": (lambda: nn.Conv2d(2, 4, 1, groups=2, bias=False), IMAGE),
    "wide kernel": (lambda: nn.Conv2d(2, 2, 3, padding=1), IMAGE),
    "padded single points": (lambda: nn.Conv2d(2, 2, 1, padding=1), IMAGE),
    "spectral norm": (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), ROW),
    "normalisation of rows": (lambda: nn.BatchNorm1d(4), ROW),
    "normalisation": (lambda: nn.BatchNorm2d(2, affine=False), IMAGE),
    "space to depth": (lambda: nn.PixelUnshuffle(4), IMAGE),
    "depth to space": (lambda: nn.PixelShuffle(2), (4, 2, 3)),
    "flat": (nn.Flatten, IMAGE),
    "not flat": (lambda: nn.Unflatten(1, (2, 2)), ROW),
    "shuffled": (lambda: nn.ChannelShuffle(3), (6, 2, 2)),
    "padded": (lambda: nn.ZeroPad2d((1, 0, 2, 1)), IMAGE),
    "padded channels": (lambda: nn.ConstantPad3d((0, 0, 0, 0, 1, 2), 5.0), IMAGE),
    "leaky": (lambda: nn.LeakyReLU(0.1, inplace=True), IMAGE),
    "leaky channels": (lambda: nn.PReLU(2), IMAGE),
    "dropout": (nn.Dropout, ROW),
    "affine": (Cumulative, IMAGE),
    "in place": (InPlace, ROW),
    "block": (residual_block, ROW),
    "images": (lambda: image_block(2), IMAGE),
    "layer of this package": (lambda: MonotoneConvUnit(2, 3, image_size=(4, 4)), IMAGE),
}


def stage(name: str) -> tuple[nn.Module, Tensor]:
    """A stage in evaluation mode, with statistics, and inputs."""
    make, shape = STAGES[name]
    torch.manual_seed(0)
    module, x = make().double(), random(5, *shape)
    module(2 * x.clone() + 1)  # statistics of one batch
    return module.eval(), x


def loss_of_lengths(value: Tensor, x: Tensor) -> float:
    return float((length(value - x) / (1 + length(x))).max())


# stages


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_computes_what_the_module_does_and_brings_it_back(name: str) -> None:
    module, x = stage(name)
    network = as_network(module, x)
    y = module(x.clone()).detach()
    torch.testing.assert_close(network.features(x.clone()), y, rtol=1e-12, atol=1e-12)
    solution = network.inverse(y)
    assert solution.converged.all()
    assert loss_of_lengths(solution.value, x) < 1e-8
    assert network.certificate().verdict is Verdict.INVERTIBLE


@pytest.mark.parametrize("name", STAGES)
def test_no_rows_are_no_work_for_a_stage(name: str) -> None:
    module, x = stage(name)
    network = as_network(module, x)
    solution = network.inverse(network.features(x[:0].clone()).detach())
    assert solution.value.shape == (0, *x.shape[1:])
    assert solution.codes.shape == (0,)


@pytest.mark.parametrize("name", [name for name in STAGES if name != "layer of this package"])
def test_the_constant_of_a_stage_bounds_the_singular_values_of_its_jacobian(name: str) -> None:
    module, x = stage(name)
    constant = as_network(module, x).certificate().inverse_lipschitz
    for row in x:
        jacobian = torch.autograd.functional.jacobian(lambda v: module(v[None].clone()).flatten(), row.clone())
        smallest = np.linalg.svd(jacobian.flatten(1).reshape(-1, row.numel()).numpy())[1][-1]
        assert smallest * constant >= 1 - 1e-9


@pytest.mark.parametrize("name", ["linear", "linear of the last dimension", "single points", "wide kernel", "affine",
                                  "normalisation", "leaky", "leaky channels", "space to depth"])  # fmt: skip
def test_log_determinants_of_stages_are_those_of_their_jacobians(name: str) -> None:
    module, x = stage(name)
    found = as_network(module, x).layer(0).log_abs_det_jacobian(x)
    for row, number in zip(x, found, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: module(v[None].clone()).flatten(), row.clone())
        expected = np.linalg.slogdet(jacobian.reshape(row.numel(), row.numel()).numpy())[1]
        assert float(number.detach()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["linear", "wider", "single points", "leaky channels"])
def test_gradients_of_formulas_are_those_of_finite_differences(name: str) -> None:
    module, x = stage(name)
    layer = as_network(module, x).layer(0)
    y = layer(x).detach().requires_grad_()
    assert torch.autograd.gradcheck(layer.undo, [y])
    parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]

    def undone(*values: Tensor) -> Tensor:
        names = [name for name, _ in layer.named_parameters()]
        x = torch.func.functional_call(Undoing(layer), {f"layer.{n}": v for n, v in zip(names, values, strict=True)}, y)
        assert isinstance(x, Tensor)
        return x

    assert torch.autograd.gradcheck(undone, [p.detach().clone().requires_grad_() for p in parameters])


class Undoing(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, y: Tensor) -> Tensor:
        return self.layer.undo(y)


# linear maps


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), m=st.integers(1, 6), n=st.integers(1, 6), deficient=st.booleans())
def test_ranks_are_those_of_numpy_on_integer_matrices(seed: int, m: int, n: int, deficient: bool) -> None:
    g = np.random.default_rng(seed)
    W = g.integers(-3, 4, size=(m, n)).astype(float)
    if deficient and n > 1:
        W[:, -1] = 2 * W[:, 0]
    assert rank(torch.tensor(W)) == np.linalg.matrix_rank(W)


def test_ranks_are_exact_where_numpys_are_not() -> None:
    n = 14
    hilbert = torch.tensor([[1 / (i + j + 1) for j in range(n)] for i in range(n)], dtype=torch.float64)
    assert rank(hilbert) == n > np.linalg.matrix_rank(hilbert.numpy())
    tiny = torch.tensor([[1.0, 1.0], [1.0, 1.0 + EPS]], dtype=torch.float64)
    assert rank(tiny) == 2
    assert LinearMap(hilbert, None, (n,)).certificate().verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(("m", "n"), [(3, 3), (5, 3)])
def test_the_condition_number_of_a_linear_map_is_numpys(m: int, n: int) -> None:
    W = random(m, n)
    layer = LinearMap(W, None, (n,))
    values = np.linalg.svd(W.numpy())[1]
    assert float(layer.inverse_lipschitz()) == pytest.approx(1 / values[-1])
    assert layer.certificate().reason.endswith(f"{values[0] / values[-1]:.4g}.")


@pytest.mark.parametrize("kind", ["zero column", "repeated column", "product"])
@pytest.mark.parametrize("shape", [(4,), (4, 3), (2, 4)])
def test_singular_matrices_have_two_inputs_with_one_output_and_no_inverse(kind: str, shape: tuple[int, ...]) -> None:
    W = torch.tensor([[1.0, 2, 3, 0], [0, 1, -1, 4], [2, 0, 1, 1], [1, 1, 1, 1]], dtype=torch.float64)
    if kind == "zero column":
        W[:, 2] = 0
    elif kind == "repeated column":
        W[:, 1] = W[:, 3]
    else:
        W = W[:, :2] @ W[:2]
    layer = LinearMap(W, random(4), shape, dim=shape.index(4))
    certificate = layer.certificate()
    assert certificate.verdict is Verdict.NOT_INVERTIBLE
    x1, x2 = certificate.witness
    assert length((x1 - x2)[None]) > 0.5
    assert length(layer(x1[None]) - layer(x2[None])) < 1e-12
    with pytest.raises(ValueError, match="singular to rounding") as caught:
        layer.inverse(layer(random(2, *shape)).detach())
    assert_one_sentence(caught.value)


def test_least_squares_do_not_pass_off_what_is_no_output() -> None:
    network = LayerwiseNetwork(LinearMap(random(5, 3), None, (3,)))
    y = random(4, 5)
    solution = network.inverse(y)
    assert not solution.converged.any()
    W = network.layer(0).weight.detach().numpy()
    expected = np.linalg.lstsq(W, y.numpy().T, rcond=None)[0].T
    np.testing.assert_allclose(solution.value.numpy(), expected, rtol=1e-10)


def test_layers_refuse_what_they_are_not_made_for() -> None:
    for make, said in (
        (lambda: LinearMap(random(2, 3), None, (3,)), "m >= n"),
        (lambda: LinearMap(random(3, 3), None, (4,)), "m >= n"),
        (lambda: LeakyRectifier(torch.tensor(0.0)), "must be positive"),
        (lambda: LinearMap(random(3, 3), None, (3,))(random(2, 4)), "shape"),
        (lambda: Rearrangement(nn.Identity(), nn.Identity(), (3,), (3,)).undo(random(2, 4)), "shape"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            make()
        assert_one_sentence(caught.value)


# chains


def chain_of_blocks(seed: int, norm: float = 0.8) -> nn.Sequential:
    """Ten blocks with ‖W₁W₂‖ = norm."""
    blocks = []
    for k in range(10):
        unit, block = unit_of_norm(5, 4, norm, 100 * seed + k), Block(nn.Linear(4, 5), nn.Linear(5, 4))
        with torch.no_grad():
            for layer, weight, bias in ((0, unit.W1, unit.b1), (2, unit.W2, unit.b2)):
                block.branch[layer].weight.copy_(weight)
                block.branch[layer].bias.copy_(bias)
        blocks.append(block)
    return nn.Sequential(*blocks)


@pytest.mark.parametrize("seed", range(3))
def test_ten_blocks_come_back_to_the_product_of_their_conditions(seed: int) -> None:
    model, x = chain_of_blocks(seed), random(6, 4, seed=seed)
    y = model(x).detach()
    solution = invert(model, y)
    assert solution.converged.all()
    condition, value = 1.0, x
    for block in model:
        W1, W2 = (block.branch[k].weight.detach().numpy() for k in (0, 2))
        stretch = 1 + np.linalg.norm(W1, 2) * np.linalg.norm(W2, 2)
        jacobians = [torch.autograd.functional.jacobian(lambda v, b=block: b(v), row).numpy() for row in value]
        inverse = max(1 / np.linalg.svd(jacobian)[1][-1] for jacobian in jacobians)
        condition *= stretch * inverse
        value = block(value).detach()
    error = length(solution.value - x)
    assert (error <= 100 * EPS * condition * (1 + length(x))).all()
    rounding = 100 * EPS * float(y.norm()) * certify(model, x).inverse_lipschitz
    assert (error <= solution.error_bound + rounding).all()


def test_the_error_bound_of_a_chain_is_its_residual_times_the_product_of_constants() -> None:
    model, x = chain_of_blocks(0), random(6, 4)
    y = model(x).detach()
    solution = invert(model, y, "banach", tolerance=1e-4)
    left = length(model(solution.value).detach() - y)
    torch.testing.assert_close(solution.residual, left / length(y), rtol=1e-9, atol=0)
    torch.testing.assert_close(solution.error_bound, certify(model, x).inverse_lipschitz * left, rtol=1e-9, atol=0)
    error = length(solution.value - x)
    assert (error > 1e-9).any()
    assert (error <= solution.error_bound).all()


def mixed_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.PixelUnshuffle(2), nn.Sequential(image_block(8), nn.BatchNorm2d(8)),
        nn.Conv2d(8, 8, 1), nn.LeakyReLU(0.3), nn.ChannelShuffle(2), image_block(8),
    )  # fmt: skip


def test_the_stages_of_nested_models_have_their_names_in_the_table() -> None:
    model, x = mixed_model().double().eval(), random(3, 1, 4, 6)
    certificate = certify(model, x)
    assert certificate.verdict is Verdict.INVERTIBLE
    assert [layer.name for layer in certificate.layers] == ["0", "1", "2.0", "2.1", "3", "4", "5", "6"]
    assert certificate.inverse_lipschitz == pytest.approx(
        math.prod(part.inverse_lipschitz for part in certificate.layers)
    )
    assert "2.1 normalisation" in str(certificate)
    assert certificate.witness is None
    solution = invert(model, model(x).detach())
    assert solution.converged.all()
    assert loss_of_lengths(solution.value, x) < 1e-10


def test_float32_models_come_back_to_their_precision() -> None:
    model, x = mixed_model().float().eval(), random(3, 1, 4, 6).float()
    solution = invert(model, model(x).detach())
    assert solution.converged.all()
    assert loss_of_lengths(solution.value, x) < 1e-3


def test_a_model_is_left_as_it_is_and_later_changes_do_not_reach_its_network() -> None:
    model, x = nn.Sequential(InPlace(), mixed_model(), nn.ELU(inplace=True)).double().eval(), random(2, 1, 4, 4)
    before, given_x = copy.deepcopy(model.state_dict()), x.clone()
    torch.manual_seed(5)
    numbers = torch.get_rng_state()
    network, y = as_network(model, x), model(x.clone()).detach()
    network.certificate()
    given_y = y.clone()
    assert network.inverse(y).converged.all()
    assert torch.equal(numbers, torch.get_rng_state())
    assert torch.equal(x, given_x)
    assert torch.equal(y, given_y)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    held = {id(parameter) for parameter in model.parameters()}
    assert not held & {id(parameter) for parameter in network.parameters()}
    with torch.no_grad():
        model[1][3].weight.zero_()
    torch.testing.assert_close(network.features(x.clone()).detach(), y)


def test_gradients_pass_through_the_inverse_of_a_model() -> None:
    model, x = nn.Sequential(nn.Linear(4, 4), residual_block(), nn.LeakyReLU(0.5)).double(), random(2, 4)
    network = as_network(model, x)
    y = model(x).detach().requires_grad_()
    assert torch.autograd.gradcheck(Inverse(network, tolerance=1e-13), [y])


def test_modules_that_are_chains_are_followed_up_to_the_stage_that_is_named() -> None:
    torch.manual_seed(0)
    model, x = Classifier().double().eval(), random(3, 1, 4, 4)
    with pytest.raises(ValueError, match=r"stage 'pool' \(AdaptiveAvgPool2d\).* 24 dimensions are lost") as caught:
        as_network(model, x)
    assert_one_sentence(caught.value)
    certificate = certify(model, x)
    assert certificate.verdict is Verdict.UNKNOWN
    assert "24 dimensions" in certificate.reason
    network = as_network(model, x, until="pool")
    features = model.stages(model.down(model.stem(x))).detach()
    torch.testing.assert_close(network.features(x), features)
    assert loss_of_lengths(network.inverse(features).value, x) < 1e-10
    assert as_network(model, x, until="stages.2").names == ("stem", "down", "stages.0", "stages.1")
    with pytest.raises(ValueError, match="no stage 'pol'") as caught:
        as_network(nn.Sequential(model.stem, model.down), x, until="pol")
    assert_one_sentence(caught.value)


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "strides": (lambda: nn.Sequential(nn.Identity(), nn.Conv2d(2, 2, 3, 2, 1)), IMAGE, "stage '1'.* 24 dimensions"),
    "a classifier": (lambda: nn.Sequential(residual_block(), nn.Linear(4, 3)), ROW, "stage '1'.* 1 dimensions"),
    "cutting": (lambda: nn.Sequential(nn.ZeroPad2d((-1, 0, 0, 0)), nn.Identity()), IMAGE, "stage '0'.* 8 dimensions"),
    "layer norm": (lambda: nn.Sequential(residual_block(), nn.LayerNorm(4)), ROW, "layer_norm"),
    "wider and bent": (lambda: nn.Sequential(Wider(), residual_block(6)), ROW, "not affine .*tanh"),
    "training": (lambda: nn.Sequential(nn.BatchNorm1d(4), residual_block()), ROW, r"stage '0' \(BatchNorm1d\).*eval"),
    "no chain": (lambda: Branched(), ROW, "nn.Sequential of its stages"),
}


class Wider(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x[:, :2].tanh()], 1)


class Branched(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2] * x[:, 2:]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_in_the_way_is_named(name: str) -> None:
    make, shape, said = REFUSED[name]
    module = make().double()
    with pytest.raises(ValueError, match=said) as caught:
        as_network(module.eval() if name != "training" else module, random(3, *shape))
    assert_one_sentence(caught.value)


def test_single_modules_that_change_the_shape_are_taken_too_and_models_within_modules() -> None:
    wider, x = nn.Linear(3, 5).double(), random(4, 3)
    assert certify(wider, x).verdict is Verdict.INVERTIBLE
    assert loss_of_lengths(invert(wider, wider(x).detach()).value, x) < 1e-12
    assert certify(nn.Linear(3, 3).double(), x).condition == "affine"
    within = nn.Sequential(nn.Sequential(residual_block(), residual_block(seed=1)))
    assert [layer.name for layer in certify(within, random(3, 4)).layers] == ["0.0", "0.1"]


def pruned(layer: nn.Linear) -> nn.Module:
    return prune.l1_unstructured(layer, "weight", 2)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("hook", [nn.utils.weight_norm, nn.utils.spectral_norm, pruned])
def test_models_with_weights_that_hooks_compute_are_read_too(hook: Callable[[nn.Module], nn.Module]) -> None:
    model, x = nn.Sequential(hook(nn.Linear(4, 4)), residual_block()).double().eval(), random(3, 4)
    y = model(x).detach()
    assert not model[0].weight.is_leaf
    network = as_network(model, x)
    assert loss_of_lengths(network.inverse(y).value, x) < 1e-10
    with torch.no_grad():
        next(model.parameters()).mul_(2)  # which the network does not see
    torch.testing.assert_close(network(x), y)


def test_models_that_cannot_be_copied_say_what_to_do() -> None:
    model, x = nn.Sequential(residual_block(), residual_block(seed=1)), random(3, 4)
    model[0].lock = threading.Lock()
    with pytest.raises(ValueError, match="cannot be copied") as caught:
        as_network(model, x)
    assert_one_sentence(caught.value)
    assert loss_of_lengths(as_unit(model, x).inverse(model(x).detach()).value, x) < 1e-6  # as one module


def test_a_matrix_that_was_computed_is_certified_with_its_errors() -> None:
    class Scaled(nn.Module):
        def __init__(self, smallest: float) -> None:
            super().__init__()
            self.scale = torch.tensor([1.0, smallest])

        def forward(self, x: Tensor) -> Tensor:
            return (x @ torch.tensor([[1.0, 1.0], [1.0, -1.0]])) * self.scale

    x = random(3, 2).float()
    assert certify(nn.Sequential(Scaled(1e-3), nn.Identity()), x).verdict is Verdict.INVERTIBLE
    assert certify(nn.Sequential(Scaled(1e-8), nn.Identity()), x).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 5), (2, 0), (2, 3, 5, 5), (2, 4, 2)])
def test_outputs_of_the_wrong_shape_are_refused_or_no_work(shape: tuple[int, ...]) -> None:
    images = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 4, 1), nn.ZeroPad2d(1)).double()
    rows = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(), nn.Linear(4, 4)).double()
    for model in (images, rows):
        try:
            solution = invert(model, random(*shape))
        except ValueError as error:
            assert_one_sentence(error)
        else:
            assert solution.value.shape == (0, 3)


def test_outputs_of_unknown_inputs_are_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 8)).double()
    x = random(3, 2, 2, 2)
    with pytest.raises(ValueError, match="flattens them; use as_network") as caught:
        invert(model, model(x).detach())
    assert_one_sentence(caught.value)
    assert loss_of_lengths(as_network(model, x).inverse(model(x).detach()).value, x) < 1e-10
    with pytest.raises(ValueError, match=r"no outputs of shape \(batch, 5\)") as caught:
        invert(nn.Sequential(residual_block(), nn.Linear(4, 4).double()), random(3, 5))
    assert_one_sentence(caught.value)
    with pytest.raises(TypeError, match="float32"):
        invert(nn.Sequential(residual_block(), nn.Linear(4, 4).double()), random(3, 4).float())


def test_networks_of_this_package_are_read_and_inverted_too() -> None:
    network = LayerwiseNetwork(MonotoneConvUnit(1, 2), SpaceToDepth()).double()
    x = random(2, 1, 4, 4)
    assert loss_of_lengths(invert(network, network(x).detach()).value, x) < 1e-8
    wider = nn.Sequential(network, image_block(4), nn.Conv2d(4, 4, 1).double())
    assert loss_of_lengths(invert(wider, wider(x).detach()).value, x) < 1e-8
    assert certify(wider, x).verdict is Verdict.INVERTIBLE
    assert network.layer(0).image_size is None  # as it was


# folds


def check_witness(model: nn.Module, witness: tuple[Tensor, Tensor]) -> None:
    """Two different inputs with the same output, as the model itself evaluates them."""
    x1, x2 = witness
    with torch.no_grad():
        gap = length(model(x1[None].clone()) - model(x2[None].clone()))
    assert length((x1 - x2)[None]) > 0
    assert gap <= torch.finfo(x1.dtype).eps ** 0.5 * length((x1 - x2)[None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_first_fold_is_pulled_back_to_the_model(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), residual_block(), folding_block(), residual_block(seed=1)).to(dtype)
    certificate = certify(model, random(5, 4).to(dtype))
    assert certificate.verdict is Verdict.NOT_INVERTIBLE
    assert "Layer 2 residual unit" in certificate.reason
    assert certificate.reason in str(certificate)
    assert certificate.layers[3].certificate.verdict is Verdict.INVERTIBLE
    check_witness(model, certificate.witness)


@pytest.mark.parametrize("fold", [nn.ReLU, lambda: nn.ReLU(inplace=True), nn.Hardtanh, lambda: nn.LeakyReLU(-0.5)])
def test_folding_activations_fold_the_model(fold: Callable[[], nn.Module]) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 4), fold(), nn.Linear(4, 4)).double()
    certificate = certify(model, random(5, 4))
    assert certificate.verdict is Verdict.NOT_INVERTIBLE
    check_witness(model, certificate.witness)


def test_a_channel_of_scale_zero_folds_the_model() -> None:
    model = nn.Sequential(image_block(2), nn.BatchNorm2d(2)).double().eval()
    with torch.no_grad():
        model[1].weight[1] = 0
    certificate = certify(model, random(2, *IMAGE))
    assert certificate.verdict is Verdict.NOT_INVERTIBLE
    check_witness(model, certificate.witness)


def test_a_fold_behind_a_layer_that_is_not_onto_proves_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), folding_block()).double()
    certificate = certify(model, random(5, 2))
    assert certificate.layers[1].certificate.verdict is Verdict.NOT_INVERTIBLE
    assert certificate.verdict is Verdict.UNKNOWN
    assert certificate.witness is None


def test_a_fold_behind_a_layer_of_unknown_verdict_proves_nothing() -> None:
    certificate = certify(nn.Sequential(nn.Tanh(), folding_block()).double(), random(5, 4))
    assert certificate.layers[0].certificate.verdict is Verdict.UNKNOWN
    assert certificate.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("tolerance", [1e-4, 1e-8, 1e-12, 1e-15])
def test_a_row_has_converged_if_and_only_if_the_models_residual_is_within_the_tolerance(tolerance: float) -> None:
    model = nn.Sequential(*(residual_block(seed=seed, share=2.0) for seed in range(6))).double()
    y = torch.cat([model(random(4, 4)).detach(), random(4, 4)])
    solution = invert(model, y, tolerance=tolerance)
    residual = length(model(solution.value).detach() - y) / length(y)
    assert torch.equal(solution.converged, residual <= tolerance)


@pytest.mark.parametrize("solver", ["banach", "anderson", "newton_gmres"])
def test_general_solvers_undo_every_stage_and_others_are_refused_by_the_stage(solver: str) -> None:
    deep = residual_scaled(Block(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6)), nn.Linear(6, 4)))
    model = nn.Sequential(nn.Linear(4, 4), residual_block(), nn.LeakyReLU(0.5), deep).double()
    x = random(5, 4)
    y = model(x).detach()
    solution = invert(model, y, solver)
    assert solution.converged.all()
    assert {record.solution.solver for record in solution.layers if not record.closed_form} == {solver}
    with pytest.raises(ValueError, match=r"^layer 3 \(feed-forward unit\) stands in the way: exact needs .*[^.]$"):
        invert(model, y, "exact")
