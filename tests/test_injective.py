"""Injective ReLU layers: inverse, certificate, parametrizations, and their place in networks."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn

from replication import (
    InjectiveConvReLU,
    InjectiveReLU,
    Inverse,
    LayerwiseNetwork,
    MonotoneConvUnit,
    PairedReLU,
    ResidualUnit,
    Status,
    Verdict,
)
from replication.experiments.data.ensembles import normal
from replication.relu_layers.verdict import SpanningTest
from replication.solvers.one_sided import OneSidedLeastSquares, by_eigenvalues, newton_step
from replication.units.injective import judged


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return normal(*shape, generator=torch.Generator().manual_seed(seed))


def trained(layer: nn.Module) -> nn.Module:
    """A layer whose parameters have been moved far, as training may do."""
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter += 0.5 * gaussian(*parameter.shape, seed=number).to(parameter)
    return layer.double()


LAYERS: dict[str, Callable[[], InjectiveReLU]] = {
    "gaussian": lambda: InjectiveReLU(gaussian(40, 4)),
    "gaussian with biases": lambda: InjectiveReLU(gaussian(60, 4), gaussian(60, seed=1)),
    "minimal": lambda: InjectiveReLU.minimal(gaussian(5, 5), torch.tensor([0.5, 1, 2, 3, 4]).double()),
    "extra rows": lambda: InjectiveReLU.minimal(gaussian(5, 5), extra=gaussian(3, 5, seed=2)),
    "orthogonal frames": lambda: InjectiveReLU.orthogonal_frame(6, frames=2),
    "paired": lambda: trained(PairedReLU(5, 7)),
}
layers = pytest.mark.parametrize("layer", [make() for make in LAYERS.values()], ids=list(LAYERS))


@layers
def test_inputs_come_back_with_a_bound_of_their_error(layer: InjectiveReLU) -> None:
    x = gaussian(200, *layer.input_shape) * 10 ** gaussian(200, 1, seed=3)
    x[0] = 0
    x[1, 1:] = 0
    y = layer(x).detach()
    solution = layer.inverse(y)
    assert solution.converged.all()
    assert solution.solver == "one_sided_least_squares"
    error = (solution.value - x).norm(dim=1)
    condition = float(
        torch.linalg.matrix_norm(layer.weights()[0].detach(), 2) * layer.inverse_lipschitz(layer.input_shape)
    )
    scale = x.norm(dim=1) + float(layer.weights()[1].detach().norm())
    assert (error[2:] <= 1e-13 * max(condition, 100) ** 2 * scale[2:]).all()
    assert solution.error_bound is not None
    assert (error <= solution.error_bound).all()
    assert float(solution.error_bound[2:].max()) < 1e-6
    torch.testing.assert_close(
        solution.residual, ((layer(solution.value) - y).norm(dim=1) / y.norm(dim=1)).nan_to_num(0)
    )


def test_a_residual_that_is_not_a_number_has_not_converged() -> None:
    layer = InjectiveReLU(torch.tensor([[1e38], [-1e38]]))  # f(value) overflows
    for y in (torch.tensor([[3e38, 3e38]]), torch.full((1, 2), 3.4e38)):
        assert not layer.inverse(y).converged.any()
    tiny = InjectiveReLU(torch.tensor([[1e-38], [-1e-38]]))  # the value overflows
    assert set(tiny.inverse(torch.tensor([[3e38, 0.0]])).status) == {Status.NOT_FINITE}


@layers
def test_no_rows_have_no_solution_to_find(layer: InjectiveReLU) -> None:
    for of_any_shape in (layer, InjectiveConvReLU(2, 3, image_size=(4, 4)).double()):
        solution = of_any_shape.inverse(of_any_shape(torch.zeros(0, *of_any_shape.input_shape).double()).detach())
        assert solution.value.shape == (0, *of_any_shape.input_shape)
        assert len(solution.converged) == len(solution.residual) == 0


@layers
def test_its_certificate_holds(layer: InjectiveReLU) -> None:
    assert layer.certificate().verdict is Verdict.INVERTIBLE
    assert InjectiveReLU(*layer.weights()).certificate().verdict is Verdict.INVERTIBLE
    constant = float(layer.inverse_lipschitz(layer.input_shape).detach())
    x, other = gaussian(20_000, *layer.input_shape), gaussian(20_000, *layer.input_shape, seed=1)
    ratio = (x - other).norm(dim=1) / (layer(x) - layer(other)).detach().norm(dim=1)
    assert float(ratio.max()) <= constant * (1 + 1e-9)


@pytest.mark.parametrize("relative", [1e-9, 1e-6, 1e-3, 1e-2])
def test_noise_is_answered_by_an_error_of_its_size_within_the_bound(relative: float) -> None:
    for layer in (InjectiveReLU(gaussian(80, 8) / 9), InjectiveReLU.orthogonal_frame(20)):
        x = gaussian(200, *layer.input_shape)
        clean = layer(x).detach()
        noise = gaussian(*clean.shape, seed=4)
        noise *= relative * clean.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)
        size = noise.norm(dim=1)
        unknown, known = layer.inverse(clean + noise), layer.inverse(clean + noise, noise=float(size.max()))
        assert not unknown.converged.any()
        assert set(unknown.status) == {Status.STAGNATED}
        assert known.converged.all()
        error = (known.value - x).norm(dim=1)
        assert known.error_bound is None or (error <= known.error_bound).all()
        rows = [
            torch.linalg.lstsq(layer.W.detach()[a], v[a, None]).solution[:, 0]
            for a, v in zip(clean > 0, clean + noise, strict=True)
        ]
        oracle = (torch.stack(rows) - x).norm(dim=1)  # that knows which rows were active
        for solution in (known, unknown):
            error = (solution.value - x).norm(dim=1)
            assert float((error / size).max()) < 1.5 * float((oracle / size).max())
            assert float(error.median()) < 1.1 * float(oracle.median())


def test_outputs_of_another_layer_are_not_called_converged() -> None:
    layer = InjectiveReLU(gaussian(40, 4))
    y = gaussian(20, 40, seed=1).relu()
    solution = layer.inverse(y)
    assert set(solution.status) == {Status.STAGNATED}
    assert (solution.residual > 0.1).all()
    zero = layer.inverse(torch.zeros(1, 40).double())
    assert zero.converged.all()
    assert torch.equal(zero.value, torch.zeros(1, 4).double())


def test_the_nearest_output_is_found_from_the_one_sided_minimum() -> None:
    layer = InjectiveReLU(gaussian(40, 4))
    x = gaussian(50, 4, seed=2)
    y = layer(x).detach() + 0.05 * gaussian(50, 40, seed=3)
    value = layer.inverse(y).value.requires_grad_()
    (slope,) = torch.autograd.grad((layer(value) - y.relu()).square().sum() / 2, value)
    assert slope.norm(dim=1).max() < 1e-5 * y.norm(dim=1).max()


def test_newton_steps_from_factors_are_those_from_eigenvalues() -> None:
    W, misfit = gaussian(200, 80), gaussian(3, 200, seed=1)
    weights = torch.rand(3, 200, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.1
    weights *= torch.arange(200) < torch.tensor([[120], [60], [60]])  # more active rows than inputs, and fewer
    W[1] = W[0]
    weights[:2, 0] = 0  # in the third the active rows are dependent
    for found, expected in zip(newton_step(W, weights, misfit), by_eigenvalues(W, weights, misfit), strict=True):
        assert (found - expected).norm() < 1e-10 * expected.norm()


def test_collisions_are_evaluated_in_the_layers_type() -> None:
    for dtype in (torch.float32, torch.float64):
        for m, b in ((7, 0.0), (12, 1.0), (24, -0.5)):
            layer = InjectiveReLU(gaussian(m, 4).to(dtype), torch.full((m,), b, dtype=dtype))
            certificate = layer.certificate()
            if certificate.verdict is Verdict.INVERTIBLE:
                continue
            assert certificate.verdict is Verdict.NOT_INVERTIBLE
            assert certificate.condition == "collision"
            x1, x2 = certificate.witness
            assert x1.dtype == dtype
            y1, y2 = layer(torch.stack([x1, x2])).detach()
            assert (y1 - y2).norm() <= math.sqrt(torch.finfo(dtype).eps) * (x1 - x2).norm()
            assert (x1 - x2).norm() > 0


def test_a_collision_shows_in_the_inverse_too() -> None:
    layer = InjectiveReLU(gaussian(9, 4))
    x1, _ = layer.certificate().witness
    solution = layer.inverse(layer(x1[None]).detach())
    assert solution.converged.all()
    assert solution.error_bound is None
    assert (solution.value - x1).norm() > 1e-3


def test_every_trained_parameter_keeps_the_paired_layers_injective() -> None:
    for case in range(10):
        torch.manual_seed(case)
        paired, conv = trained(PairedReLU(4, 6)), trained(InjectiveConvReLU(2, 3, image_size=(5, 5)))
        assert float(torch.linalg.svdvals(paired.linear().detach())[-1]) >= 0.1
        K = conv.linear().matrix(torch.empty(0).double()).detach()
        assert float(torch.linalg.svdvals(K)[-1]) >= 0.1
        assert conv.certificate().verdict is Verdict.INVERTIBLE
        sigma = torch.linalg.svdvals(conv.log_d.detach().exp().clamp_max(1).repeat_interleave(25)[:, None] * K)[-1]
        assert math.sqrt(2) / float(sigma) <= float(conv.inverse_lipschitz(conv.input_shape))


@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_convolutional_layers_come_back(padding: str) -> None:
    layer = trained(InjectiveConvReLU(2, 3, image_size=(6, 7), padding=padding))
    x = gaussian(20, 2, 6, 7)
    y = layer(x).detach()
    assert y.shape == (20, 6, 6, 7)
    solution = layer.inverse(y, tolerance=1e-12)
    assert solution.converged.all()
    error = (solution.value - x).flatten(1).norm(dim=1)
    assert (error <= solution.error_bound).all()
    assert float(solution.error_bound.max()) < 1e-8
    assert set(layer.inverse(y + 0.1).status) == {Status.STAGNATED}
    with pytest.raises(ValueError, match=r"shape \(batch, 6, 6, 7\), not \(20, 2, 6, 7\)"):
        layer.inverse(x)


def test_both_kinds_work_in_a_network_beside_other_units() -> None:
    torch.manual_seed(0)
    unit = ResidualUnit(gaussian(6, 16) / 20, gaussian(6), gaussian(16, 6), gaussian(16))
    dense = LayerwiseNetwork(PairedReLU(4, 5), PairedReLU(10, 8 + 2), InjectiveReLU.orthogonal_frame(20)).double()
    mixed = LayerwiseNetwork(PairedReLU(4, 8).double(), unit, PairedReLU(16, 16).double())
    conv = LayerwiseNetwork(
        InjectiveConvReLU(1, 2, image_size=(4, 4)), MonotoneConvUnit(4, 3, image_size=(4, 4)),
        InjectiveConvReLU(4, 4, image_size=(4, 4)),
    ).double()  # fmt: skip
    for network, shape in ((dense, (4,)), (mixed, (4,)), (conv, (1, 4, 4))):
        x = gaussian(10, *shape)
        y = network(x).detach()
        solution = network.inverse(y)
        assert solution.converged.all()
        error = (solution.value - x).flatten(1).norm(dim=1)
        assert (error <= solution.error_bound).all()
        assert float(error.max()) < 1e-9
        certificate = network.certificate()
        assert certificate.verdict is Verdict.INVERTIBLE
        assert certificate.inverse_lipschitz < math.inf
        assert str(certificate).count("opposite_rows") >= 2
        inverse = Inverse(network)
        v = torch.randn_like(x)
        _, forward = torch.autograd.functional.jvp(network.features, x, v)
        (backward,) = torch.autograd.grad(inverse(y.requires_grad_()), y, v)
        torch.testing.assert_close((forward * backward).sum(), v.square().sum())


def test_a_looser_solver_of_the_next_unit_is_said_by_the_layer_before_it() -> None:
    unit = ResidualUnit(gaussian(6, 8) / 20, gaussian(6), gaussian(8, 6), gaussian(8))
    network = LayerwiseNetwork(InjectiveReLU.orthogonal_frame(4), unit)
    x = gaussian(10, 4)
    solution = network.inverse(network(x).detach(), "modulus", tolerance=1e-4, omega=2.0)
    error = (solution.value - x).norm(dim=1)
    assert (error <= solution.error_bound).all()
    assert 1e-9 < float(error.max()) < float(solution.error_bound.max()) < 1e-2


def test_the_inverse_is_differentiable_in_the_parameters() -> None:
    for layer in (trained(PairedReLU(3, 4)), trained(InjectiveConvReLU(1, 2, image_size=(3, 3)))):
        x = gaussian(2, *layer.input_shape)
        v = torch.randn_like(x)
        inverse = Inverse(layer, tolerance=1e-13)
        for parameter in (layer.c, layer.log_d):
            y = layer(x)
            # x = inverse(f(x)) whatever the parameters: the two ways they act on it cancel
            (through,) = torch.autograd.grad((inverse(y) * v).sum(), parameter)
            assert through.abs().max() < 1e-9
            (alone,) = torch.autograd.grad((inverse(y.detach()) * v).sum(), parameter)
            assert alone.abs().max() > 1e-3


def test_float32_comes_back_to_its_precision() -> None:
    layer = PairedReLU(16, 16)
    x = torch.randn(100, 16)
    solution = layer.inverse(layer(x).detach())
    assert solution.converged.all()
    assert solution.value.dtype == torch.float32
    assert float((solution.value - x).norm(dim=1).max()) < 1e-4
    assert ((solution.value - x).norm(dim=1) <= solution.error_bound).all()


def preimages(f: Callable[[Tensor], Tensor], x: Tensor, starts: Tensor) -> Tensor:
    """Inputs with the output of x that the Gauss–Newton method finds from the starts, infinite where none."""
    y, v = f(x), starts.clone()
    for _ in range(30):
        jacobian = torch.func.vmap(torch.func.jacrev(f))(v).detach()
        v = v - (torch.linalg.pinv(jacobian) @ (f(v) - y).detach()[:, :, None])[:, :, 0]
    missed = (f(v) - y).norm(dim=1) > 1e-9 * y.norm()
    return torch.where(missed[:, None], torch.inf, v).detach()


def test_random_projections_to_two_n_plus_one_dimensions_keep_injectivity() -> None:
    n, generator = 2, torch.Generator().manual_seed(0)
    width = 2 * n + 1
    first = InjectiveReLU.orthogonal_frame(n, 3, generator)
    projection = normal(width, 6 * n, generator=generator)
    last = InjectiveReLU.orthogonal_frame(width, 1, generator)
    down = normal(width, 2 * width, generator=generator)

    def network(x: Tensor) -> Tensor:
        return last(first(x) @ projection.mT) @ down.mT

    x = gaussian(4000, n, seed=5)
    y = network(x).detach()
    assert y.shape[1] == width
    assert float((torch.pdist(y) / torch.pdist(x)).min()) > 1e-2
    assert float((torch.pdist(y[:, :n]) / torch.pdist(x)).min()) < 1e-3
    # every input that Gauss and Newton's method finds for an output is the right one; n outputs have others too
    starts = 2 * gaussian(300, n, seed=6)
    for outputs, wrong in ((width, False), (n, True)):
        found = torch.cat([preimages(lambda v, k=outputs: network(v)[..., :k], x[i], starts) for i in range(10)])
        distances = (found - x[:10].repeat_interleave(300, 0)).norm(dim=1)
        assert (distances < 1e-6).any()
        assert bool((distances[distances.isfinite()] > 1e-6).any()) == wrong


@pytest.mark.slow
def test_the_generator_example_recovers_the_latents_of_the_injective_decoder_only() -> None:
    done = subprocess.run(
        [sys.executable, "examples/injective_generator.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shares = [float(share) for share in re.findall(r"([\d.]+)% of 297 latents recovered", done.stdout)]
    assert len(shares) == 3
    assert shares[0] == 100
    assert shares[2] < 60
    assert done.stdout.count("hidden layers: invertible") == 1
    differences = [float(number) for number in re.findall(r"images differ by (\S+)", done.stdout)]
    assert len(differences) == 2
    assert max(differences) < 1e-9


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: InjectiveReLU(torch.ones(3)), ValueError, r"W must have the shape \(m, n\)"),
        (lambda: InjectiveReLU(torch.ones(3, 2), torch.ones(2)), ValueError, r"not \(3, 2\) and \(2,\)"),
        (lambda: InjectiveReLU(torch.ones(3, 2), torch.ones(3).double()), TypeError, "W and b must have one dtype"),
        (lambda: InjectiveReLU(torch.ones(3, 2, dtype=torch.int)), TypeError, "float32 or float64, not torch.int32"),
        (lambda: InjectiveReLU(torch.full((3, 2), torch.nan)), ValueError, "W has values that are not finite"),
        (lambda: InjectiveReLU(torch.ones(3, 2)).inverse(torch.ones(1, 2)), ValueError, r"shape \(batch, 3\)"),
        (lambda: InjectiveReLU(torch.ones(3, 2)).inverse(torch.ones(1, 3).double()), TypeError, "convert one"),
        (lambda: InjectiveReLU(torch.ones(3, 2)).inverse(torch.ones(1, 3), noise=-1), ValueError, "noise must not"),
        (lambda: InjectiveReLU(torch.ones(3, 2)).inverse(torch.ones(1, 3), sover=1), TypeError, "no option 'sover'"),
        (lambda: PairedReLU(4, 3), ValueError, "pairs must be at least inputs"),
        (lambda: InjectiveConvReLU(1, 1, 2, image_size=(4, 4)), ValueError, "kernel_size odd"),
        (lambda: OneSidedLeastSquares(0), ValueError, "max_iterations must be at least 1, not 0"),
    ],
)
def test_wrong_arguments_are_refused(call: Callable[[], object], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        call()


def test_outputs_that_coincide_only_as_evaluated_are_no_witness() -> None:
    layer = InjectiveReLU(torch.ones(1, 1), torch.full((1,), 1e8))
    test = SpanningTest(False, "collision", "They collide.", (torch.tensor([0.0]), torch.tensor([1.0])))
    assert torch.equal(*layer(torch.stack(test.pair)))
    certificate = judged(layer, test)
    assert certificate.verdict is Verdict.UNKNOWN
    assert certificate.reason == "They collide, but its inputs do not collide in torch.float32."
