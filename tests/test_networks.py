"""The network: round trip from the last hidden layer, layer records, and failures that show."""

import math
from functools import partial

import pytest
import torch
from builders import folding, small_network, unit_of_norm

from replication import (
    HamiltonianBlock,
    Inverse,
    LayerwiseNetwork,
    LipschitzConvUnit,
    MonotoneConvUnit,
    NetworkCertificate,
    RectifierNetwork,
    ReversibleLayer,
    StandardConvUnit,
    Status,
    Verdict,
)
from replication.units import Affine, Flip, SpaceToDepth


def test_images_come_back_from_the_last_hidden_layer() -> None:
    net, images = small_network(), torch.rand(5, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        solution = net.inverse(net.features(images), "modulus", omega="auto")
    assert solution.converged.all()
    torch.testing.assert_close(solution.value, images, rtol=1e-7, atol=1e-7)
    assert [record.title for record in solution.layers] == [layer.title for layer in reversed(net.hidden_layers)]
    solved = [record.solution for record in solution.layers if not record.closed_form]
    assert len(solved) == 4
    assert torch.equal(solution.iterations, sum(part.iterations for part in solved))
    assert (solution.residual < 1e-8).all()


def test_float32_comes_back_to_its_precision() -> None:
    net, images = small_network().float(), torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        solution = net.inverse(net.features(images))
    assert ((solution.value - images).flatten(1).norm(dim=1) / images.flatten(1).norm(dim=1) < 1e-3).all()


def test_a_failing_layer_shows_in_the_status_and_spares_the_other_rows() -> None:
    net, images = small_network(), torch.rand(3, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        for unit in net.units:
            unit.weight1 *= 4
        features = net.features(images)
        features[1] *= 1e-9  # where every preactivation keeps the sign of its bias, the existing method is exact
        solution = net.inverse(features, "banach", max_iterations=50, patience=10)
    assert solution.status[0] is not Status.CONVERGED
    assert torch.isfinite(solution.value).all()
    assert solution.residual[0] > 1e-3


def test_certificates_say_which_units_are_invertible() -> None:
    def loud(**shape: object) -> StandardConvUnit:
        unit = StandardConvUnit(**shape)
        torch.nn.init.constant_(unit.weight1, 1.0)
        return unit

    certificate = small_network().certificate()
    assert certificate.verdict is Verdict.INVERTIBLE
    assert len(certificate.layers) == len(small_network().hidden_layers)
    assert str(certificate).count("monotone  ") == 4
    certificate = small_network(loud).certificate()
    assert certificate.verdict is Verdict.UNKNOWN  # the images of a first unit that folds are taken back to no input
    assert certificate.reason.count("standard unit: not invertible") == 4
    assert certificate.inverse_lipschitz == float("inf")


def test_one_layer_without_a_certificate_is_named() -> None:
    net = small_network()
    loud = StandardConvUnit(16, 8, image_size=(4, 4)).double()
    torch.nn.init.constant_(loud.weight1, 1.0)
    index = next(i for i, layer in enumerate(net.hidden_layers) if layer is net.units[1])
    net.hidden_layers[index] = loud
    assert net.certificate().reason == f"Not all hidden layers are certified: {index} (standard unit: not invertible)."


def test_two_inputs_that_collide_in_a_layer_are_taken_back_to_the_network() -> None:
    net = LayerwiseNetwork(unit_of_norm(4, 1, 0.5, seed=0), folding(), unit_of_norm(4, 1, 0.5, seed=1))
    certificate = net.certificate()
    assert certificate.verdict is Verdict.NOT_INVERTIBLE
    assert certificate.reason.startswith("Layer 1 residual unit takes two of its inputs to one output")
    x1, x2 = certificate.witness
    inner = [net.layer(0)(x[None]) for x in (x1, x2)]
    for x, y in zip(inner, certificate.layers[1].certificate.witness, strict=True):
        torch.testing.assert_close(x[0].detach(), y)
    torch.testing.assert_close(net(x1[None]), net(x2[None]), rtol=0, atol=1e-12)
    assert (x1 - x2).abs() > 0.1
    assert LayerwiseNetwork(folding(), folding()).certificate().verdict is Verdict.NOT_INVERTIBLE


def test_names_of_layers_are_those_of_the_certificate() -> None:
    net = LayerwiseNetwork(Flip(), MonotoneConvUnit(1, 2, image_size=(4, 4)), names=("turn", "a.very.long.name"))
    assert [layer.name for layer in net.certificate().layers] == ["turn", "a.very.long.name"]
    lines = str(net.certificate()).splitlines()
    assert lines[2].startswith("a.very.long.name monotone unit  invertible")
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
def test_error_bound_of_the_network_holds(tolerance: float) -> None:
    net, images = small_network(), torch.rand(6, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        solution = net.inverse(net.features(images), "modulus", tolerance)
    error = (solution.value - images).flatten(1).norm(dim=1)
    assert (error > 1e-12).all()
    assert (error <= solution.error_bound).all()
    assert (solution.error_bound < 1e6 * tolerance).all()
    assert net.inverse(torch.rand(2, 64, 2, 2).double(), "modulus").solver == "modulus"


def test_bounds_through_layers_without_a_constant_are_infinite_or_hold_but_never_nan() -> None:
    unit, layer = MonotoneConvUnit(4, 3, image_size=(4, 4)), ReversibleLayer(HamiltonianBlock(4))
    x = torch.rand(3, 4, 4, 4, dtype=torch.float64)
    chains = {(unit, layer): True, (layer, unit): False, (layer,): True, (layer, unit, layer): False}
    for layers, known in chains.items():
        net = LayerwiseNetwork(*layers).double().eval()
        with torch.no_grad():
            solution = net.inverse(net.features(x))
        assert solution.converged.all()
        assert torch.isfinite(solution.error_bound).all() == known  # what is given has no error to amplify
        assert not torch.isnan(solution.error_bound).any()
        error = (solution.value - x).flatten(1).norm(dim=1)
        assert (error <= solution.error_bound + 1e-12).all()


def test_constants_of_layers_that_under_and_overflow_on_the_way_are_multiplied_all_the_same() -> None:
    def certificate(*scales: float) -> NetworkCertificate:
        layers = [Affine((1, 2, 2)).double() for _ in scales]
        with torch.no_grad():
            for layer, scale in zip(layers, scales, strict=True):
                layer.log_scale.fill_(-math.log(scale) if scale else 800.0)
        return LayerwiseNetwork(*layers).certificate()

    assert certificate(1e-200, 1e-200, 1e200, 1e205).inverse_lipschitz == pytest.approx(1e5)
    assert certificate(1e200, 1e200).inverse_lipschitz == math.inf
    assert certificate(0.0, 0.0, 1e300).inverse_lipschitz > 0
    net = LayerwiseNetwork(Affine((1, 2, 2)).double(), ReversibleLayer(HamiltonianBlock(2)).double().eval())
    with torch.no_grad():
        net.hidden_layers[0].log_scale.fill_(800.0)
    assert net.certificate().inverse_lipschitz == math.inf


def test_networks_of_formulas_only_are_undone() -> None:
    net, x = LayerwiseNetwork(Flip(), SpaceToDepth()), torch.rand(2, 1, 4, 6)
    for images in (x, x.double(), x[:0]):
        solution = net.inverse(net.features(images))
        assert torch.equal(solution.value, images)
        assert solution.converged.all()
        assert solution.error_bound.tolist() == [0.0] * len(images)
    assert net.certificate().verdict is Verdict.INVERTIBLE
    with pytest.raises(TypeError, match=r"float32 or float64, not torch.float16"):
        net.inverse(x.half())
    with pytest.raises(TypeError, match=r"must be a torch.Tensor, not list"):
        net.features([1.0])


def test_rows_that_overflow_within_a_network_leave_the_others_alone() -> None:
    shrinking = Affine((1, 2, 2))
    with torch.no_grad():
        shrinking.log_scale.fill_(-20)
    net = LayerwiseNetwork(MonotoneConvUnit(1, 1, image_size=(2, 2)), shrinking)
    features = torch.rand(2, 1, 2, 2)
    features[0] *= 3e38
    solution = net.inverse(features)
    assert solution.status.tolist() == [Status.NOT_FINITE, Status.CONVERGED]
    assert torch.isinf(solution.error_bound[0])


def test_auto_says_what_it_took_in_every_family() -> None:
    images = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    for unit, method in ((MonotoneConvUnit, "exact"), (partial(LipschitzConvUnit, lipschitz=0.5), "exact")):
        net = small_network(unit)
        with torch.no_grad():
            solution = net.inverse(net.features(images))
        assert solution.converged.all()
        assert solution.solver == method
        torch.testing.assert_close(solution.value, images, rtol=1e-7, atol=1e-7)


def test_gradients_pass_through_the_networks_inverse() -> None:
    net = small_network()
    images = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    features = net.features(images).detach().requires_grad_()
    layer = Inverse(net, tolerance=1e-13)
    torch.testing.assert_close(layer(features), images, rtol=0, atol=1e-9)
    # the derivative of inverse(features(x)) = x is the identity
    v = torch.randn_like(images)
    _, forward = torch.autograd.functional.jvp(net.features, images, v)
    (backward,) = torch.autograd.grad(layer(features), features, v)
    torch.testing.assert_close((forward * backward).sum(), v.square().sum())
    assert torch.autograd.gradcheck(layer, [features], fast_mode=True)

    def loss() -> torch.Tensor:
        return (layer(features.detach()) * v).sum()

    parameter = net.units[0].bias1
    (gradient,) = torch.autograd.grad(loss(), parameter)
    steps = torch.zeros_like(gradient)
    for i in range(len(parameter)):
        with torch.no_grad():
            parameter[i] += 1e-6
            above = loss()
            parameter[i] -= 2e-6
            steps[i] = (above - loss()) / 2e-6
            parameter[i] += 1e-6
    torch.testing.assert_close(gradient, steps, rtol=1e-5, atol=1e-6)


def test_training_mode_and_bad_features_are_refused() -> None:
    net = small_network()
    features = net.features(torch.rand(2, 1, 8, 8, dtype=torch.float64)).detach()
    with pytest.raises(TypeError, match=r"float32 and the unit torch.float64"):
        net.inverse(features.float())
    with pytest.raises(ValueError, match="not finite"):
        net.inverse(features * torch.nan)
    with pytest.raises(RuntimeError, match="eval"):
        net.train().inverse(features)


def test_images_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ValueError, match="9×8 images cannot be halved 2 times"):
        RectifierNetwork((1, 9, 8), 10, partial(MonotoneConvUnit))
