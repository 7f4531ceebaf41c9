"""Certify and invert residual blocks of your own: python examples/own_network.py."""

import torch
from torch import Tensor, nn

from replication import as_unit, invert


class Block(nn.Module):
    """y = x + conv₂(relu(conv₁(x))), as it stands in many networks."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.conv1(x)))


def main() -> None:
    torch.manual_seed(0)
    blocks = nn.Sequential(*(Block(channels=8, hidden=16) for _ in range(3))).double()
    images = torch.randn(10, 8, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        y = blocks(images)

    x = y
    for number, block in reversed(list(enumerate(blocks))):
        certificate = as_unit(block, x).certificate()
        solution = invert(block, x, tolerance=1e-12)
        x = solution.value
        print(f"block {number}: {certificate.verdict.value}. {certificate.reason}")
        print(f"  {solution.solver}: {int(solution.converged.sum())} of {len(x)} images converged, ", end="")
        print(f"{solution.evaluations.double().mean():.0f} evaluations, residual at most {solution.residual.max():.1e}")
    print(f"largest error of the images: {(x - images).abs().max():.1e}")


if __name__ == "__main__":
    main()
