"""Train a small network on the digits of scikit-learn, then recover it from its outputs, and compare the two.

python examples/recover_network.py: 64 inputs, 16 hidden units, 10 classes.
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from replication import recover_network

HIDDEN, STEPS = 16, 300


def digits() -> tuple[Tensor, Tensor]:
    """Images of 8×8 numbers from 0 to 1 (1797, 64), and their classes."""
    data = load_digits()
    return torch.tensor(data.data / 16), torch.tensor(data.target)


def trained(x: Tensor, labels: Tensor) -> nn.Sequential:
    """A network in float64, trained for a few hundred steps."""
    network = nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10)).double()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(network(x), labels).backward()
        optimizer.step()
    return network


def main() -> None:
    torch.manual_seed(0)
    x, labels = digits()
    network = trained(x, labels)
    accuracy = (network(x).argmax(dim=1) == labels).double().mean()
    print(f"trained: {100 * accuracy:.1f} % of the training images right")
    recovery = recover_network(network, inputs=64, centre=x.mean(dim=0), radius=30.0)
    print(f"{recovery.status.value}: {recovery.architecture}, {recovery.queries} queries")
    print(recovery.reason)
    if recovery.network is None:
        return
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{recovery.queries / parameters:.1f} queries for each of {parameters} weights and biases")
    print(f"largest difference of the outputs on the images: {(recovery.network(x) - network(x)).abs().max():.0e}")
    true = F.normalize(network[0].weight, dim=1)
    nearest = (recovery.layers[0].weight @ true.T).max(dim=1)
    print(f"smallest cosine of a recovered unit and the true one nearest to it: 1 - {1 - nearest.values.min():.0e}")


if __name__ == "__main__":
    main()
