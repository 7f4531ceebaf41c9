"""Ask a trained residual network which of its blocks can be undone, and train one whose blocks all can be.

python examples/any_network.py: two epochs on the digits of scikit-learn, once as usual, once with a penalty that keeps
every block certified.
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from replication import Verdict, certify, invert, monotone_penalty

CHANNELS, SIZE, BLOCKS = 8, (4, 4), 4


class Block(nn.Module):
    """y = x + conv₂(relu(norm₂(conv₁(relu(norm₁(x)))))), the pre-activation block of many networks."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(CHANNELS), nn.BatchNorm2d(CHANNELS)
        self.conv1 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.norm2(self.conv1(torch.relu(self.norm1(x))))))

    def penalty(self) -> Tensor:
        scale1, scale2 = (norm.weight / (norm.running_var + norm.eps).sqrt() for norm in (self.norm1, self.norm2))
        return monotone_penalty(scale1, scale2[:, None, None, None] * self.conv1.weight, self.conv2.weight, SIZE)


class Network(nn.Module):
    """A convolution, blocks, and a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, CHANNELS, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.last = nn.Linear(CHANNELS * SIZE[0] * SIZE[1], 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.blocks(self.first(images)).flatten(1))


def train(images: Tensor, labels: Tensor, weight: float, epochs: int = 2) -> Network:
    torch.manual_seed(0)
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    batches = [batch for _ in range(epochs) for batch in torch.randperm(len(images)).split(16)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=len(batches))
    for batch in batches:
        loss = F.cross_entropy(network(images[batch]), labels[batch])
        if weight:
            loss = loss + weight * sum(block.penalty() for block in network.blocks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.double().eval()


def report(network: Network, images: Tensor) -> None:
    x = network.first(images)
    for number, block in enumerate(network.blocks):
        y, certificate = block(x), certify(block, x)
        print(f"  block {number}: {certificate.verdict.value}, ", end="")
        if certificate.verdict is Verdict.INVERTIBLE:
            solution = invert(block, y)
            error = ((solution.value - x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)).max()
            print(f"{int(solution.converged.sum())} of {len(y)} inputs brought back, largest error {error:.0e}")
        elif certificate.witness:
            x1, x2 = (point[None] for point in certificate.witness)
            apart, still = (x1 - x2).norm() / x1.norm(), (block(x1) - block(x2)).norm() / (x1 - x2).norm()
            print(f"two inputs {apart:.0e} of their size apart, whose outputs are {still:.0e} of that apart")
        else:
            print("no condition holds, and no fold was found")
        x = y


def main() -> None:
    torch.set_num_threads(1)
    digits = load_digits()
    images = torch.as_tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.as_tensor(digits.target)
    for name, weight in (("as usual", 0.0), ("with the penalty", 1.0)):
        network = train(images[:1437], labels[:1437], weight)
        with torch.no_grad():
            right = (network(images[1437:].double()).argmax(1) == labels[1437:]).double().mean()
            print(f"trained {name}: {right:.1%} of test digits right")
            report(network, images[1437:1457].double())


if __name__ == "__main__":
    main()
