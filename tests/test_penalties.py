"""The penalty that keeps blocks with free weights invertible: against whole matrices, and in training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from builders import composed as configured
from builders import said_by_example
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from replication import Verdict, certify, monotone_defect, monotone_penalty
from replication.experiments.training import load_network, train
from replication.operators import Convolution, Dense, Operator, Product
from replication.penalties import composed, penalty_of_network
from replication.reading import read

LIKE = torch.zeros((), dtype=torch.float64)


def normal(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes]


def norm_by_matrices(W1: Operator, W2: Operator, W3: Operator, theta: float) -> float:
    """‖W₁W₃/θ − θW₂ᵀ‖/2 of whole matrices."""
    matrix = Product(W1, W3).matrix(LIKE) / theta - theta * W2.matrix(LIKE).mT
    return float(torch.linalg.matrix_norm(matrix, 2)) / 2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.01, 1.0, 100.0]))
def test_it_is_the_norm_of_the_symmetric_part_after_balancing(seed: int, size: float) -> None:
    W1, W2, W3 = normal(seed, (5, 3), (4, 5), (3, 4))
    W2 = size * W2
    found = float(monotone_defect(W1, W2, W3))
    theta = float((torch.linalg.norm(W1 @ W3) / torch.linalg.norm(W2)) ** 0.5)
    assert found == pytest.approx(norm_by_matrices(Dense(W1), Dense(W2), Dense(W3), theta))
    # and does not depend on how a block's scale is shared out
    assert float(monotone_defect(3 * W1, W2 / 3, 5 * W3)) == pytest.approx(5**0.5 * found)


@pytest.mark.parametrize(
    ("padding", "first", "last"),
    [("zeros", 1, 3), ("zeros", 3, 1), ("circular", 3, 3), ("circular", 1, 5), ("circular", 5, 3)],
)
@pytest.mark.parametrize("seed", range(3))
def test_the_bound_is_rigorous_where_it_says_so(padding: str, first: int, last: int, seed: int) -> None:
    W1, W2, W3 = normal(seed, (3, 2, first, first), (4, 3, 3, 3), (2, 4, last, last))
    size = (6, 5)
    parts = [Convolution(weight, size, padding) for weight in (W1, W2, W3)]
    exact = norm_by_matrices(*parts, float((composed(W1, W3).norm() / W2.norm()) ** 0.5))
    assert exact <= float(monotone_defect(W1, W2, W3, size, padding)) <= 1.3 * exact


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_holds_where_rounding_is_most_of_it(seed: int) -> None:
    W1, W3 = (100 * weight for weight in normal(seed, (30, 20), (20, 25)))
    W1, W2, W3 = W1.float(), (W1 @ W3).mT.float(), W3.float()
    exact = norm_by_matrices(*(Dense(weight.double()) for weight in (W1, W2, W3)), theta=1.0)
    assert exact < 1
    assert exact <= float(monotone_defect(W1, W2, W3)) < 100


def test_zeros_between_two_wide_kernels_change_little() -> None:
    W1, W2, W3 = normal(0, (3, 2, 3, 3), (4, 3, 3, 3), (2, 4, 3, 3))
    parts = [Convolution(weight, (12, 12)) for weight in (W1, W2, W3)]
    exact = norm_by_matrices(*parts, float((composed(W1, W3).norm() / W2.norm()) ** 0.5))
    assert float(monotone_defect(W1, W2, W3, (12, 12))) == pytest.approx(exact, rel=0.2)


def test_a_scale_is_a_diagonal_matrix_or_a_pointwise_kernel() -> None:
    scale, W2, W3 = normal(0, (3,), (4, 3), (3, 4))
    torch.testing.assert_close(monotone_defect(scale, W2, W3), monotone_defect(scale.diag(), W2, W3))
    scale, W2, W3 = normal(0, (3,), (4, 3, 3, 3), (3, 4, 3, 3))
    kernel = scale.diag()[..., None, None]
    torch.testing.assert_close(monotone_defect(scale, W2, W3, (5, 5)), monotone_defect(kernel, W2, W3, (5, 5)))


def test_the_penalty_is_zero_below_its_target_and_has_the_gradient_of_finite_differences() -> None:
    W1, W2, W3 = (weight.requires_grad_() for weight in normal(0, (3, 2), (4, 3), (2, 4)))
    assert float(monotone_penalty(W1, W2, W3, target=100.0).detach()) == 0
    assert torch.autograd.gradcheck(monotone_penalty, (W1, W2, W3))
    kernels = [weight.requires_grad_() for weight in normal(0, (2,), (2, 2, 3, 3), (2, 2, 3, 3))]
    assert torch.autograd.gradcheck(lambda *W: monotone_penalty(*W, (4, 4)), kernels, rtol=1e-2)


class Block(nn.Module):
    """A block of free matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 6)]).double()

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.parts
        return x + third(torch.relu(second(torch.relu(first(x)))))

    def monotone_parts(self) -> tuple[Tensor, ...]:
        return tuple(part.weight for part in self.parts)


def test_descent_on_the_penalty_ends_in_a_block_that_is_certified() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(Block(), Block())
    x = torch.randn(5, 6, dtype=torch.float64)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= 4
    assert certify(network[0], x).verdict is not Verdict.INVERTIBLE
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(300):
        loss = penalty_of_network(network, weight=1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(float(monotone_defect(*block.monotone_parts()).detach()) < 0.95 for block in network)
    assert all(certify(block, x).verdict is Verdict.INVERTIBLE for block in network)


def test_the_configured_penalty_takes_the_parts_that_blocks_compute_by() -> None:
    config = configured("train", "network=preactivation", "training=monotone", "unit.family=preactivation")
    network = instantiate(config.network, image_shape=(1, 8, 8), classes=10, channels=4, blocks=2).double()
    network(torch.rand(40, 1, 8, 8, dtype=torch.float64))
    with torch.no_grad():
        network.blocks[1].conv2.weight *= 9
    block = network.eval().blocks[0]
    x = torch.randn(3, 4, 4, 4, dtype=torch.float64)
    f = read(block, x)
    A = f.equation(block(x).detach())[0]
    scale, W2, W3, size = (part.detach() if isinstance(part, Tensor) else part for part in block.monotone_parts())
    W1 = Convolution(scale.diag()[..., None, None], size)
    W3 = Convolution(W3, size)
    torch.testing.assert_close(A[:64, 64:], Product(W1, W3).matrix(LIKE))
    torch.testing.assert_close(-A[64:, :64], Convolution(W2, size).matrix(LIKE))
    module = instantiate(config.training, network=network)
    penalties = [monotone_penalty(*block.monotone_parts()) for block in network.blocks]
    torch.testing.assert_close(module.penalty(network), sum(penalties))
    assert float(module.penalty(network).detach()) > 0


def test_a_configured_training_ends_in_blocks_within_the_target(tmp_path: Path) -> None:
    config = configured(
        "train", "network=preactivation", "training=monotone", "unit.family=preactivation", "data=digits",
        "trainer.max_epochs=2", "trainer.enable_progress_bar=false", "network.channels=4", "network.blocks=2",
        "training.penalty.weight=10",
    )  # fmt: skip
    train(config, tmp_path, tmp_path / "runs")
    network = load_network(config, instantiate(config.data), tmp_path, tmp_path / "runs").double().eval()
    assert all(float(monotone_defect(*block.monotone_parts()).detach()) < 1 for block in network.blocks)
    x = torch.randn(3, 4, 4, 4, dtype=torch.float64)
    assert all(certify(block, x).verdict is Verdict.INVERTIBLE for block in network.blocks)


def test_weights_that_make_no_block_are_refused() -> None:
    W1, W2, W3 = torch.ones(3, 2), torch.ones(4, 3), torch.ones(2, 4)
    K1, K2, K3 = (W[..., None, None].expand(*W.shape, 3, 3) for W in (W1, W2, W3))
    for weights, words in (
        ((W1, W2.mT, W3), "fit each other"),
        ((K1, W2, W3), "all three"),
        ((K1, K2, K3), "give image_size"),
        ((W1, W2, W3, (4, 4)), "for kernels only"),
        ((K1, K2[..., :2, :2], K3, (4, 4)), "odd sizes"),
        ((K1, K2, K3, (4, 4), "top-left"), "padding must be"),
    ):
        with pytest.raises(ValueError, match=words):
            monotone_defect(*weights)
    with pytest.raises(TypeError, match=r"training\.penalty=null"):
        penalty_of_network(nn.Linear(2, 2), 1.0)


@pytest.mark.slow
def test_the_example_folds_as_usual_and_is_inverted_with_the_penalty() -> None:
    usual, penalised = said_by_example("any_network").split("trained with the penalty")
    assert "whose outputs are" in usual
    assert penalised.count(": invertible, 20 of 20 inputs brought back") == 4
