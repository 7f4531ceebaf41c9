"""Train a normalizing flow without a norm constraint on digits, and draw some: python examples/flow_digits.py.

The same flow with every unit's norm capped at 0.9 beside it; about two minutes on two cores. `make figB4` does the same
with three seeds, a picture and a record.
"""

import sys
from functools import partial

import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from replication import CausalFlow, MonotoneCausalConvUnit
from replication.experiments.data.images import Digits
from replication.experiments.studies.flows import SCALE, bits_per_dimension, fit, grey_levels


def main(epochs: int = 120) -> None:
    torch.set_num_threads(1)
    train, test = grey_levels(Digits(batch_size=64, epochs=epochs, seed=0))
    for cap in (None, 0.9):
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        flow = CausalFlow((1, 8, 8), partial(MonotoneCausalConvUnit, norm_cap=cap))
        fit(flow, train, partial(AdamW, weight_decay=1.0), partial(OneCycleLR, max_lr=1e-2), epochs, 64, generator)
        with torch.no_grad():
            bits = bits_per_dimension(flow, test, generator).mean()
        print(f"cap on the norms {cap}: {bits:.3f} bits per dimension on {len(test)} held-out digits")

        solution = flow.double().sample(3, generator)
        print(f"{int(solution.converged.sum())} of 3 samples converged, residual at most {solution.residual.max():.1e}")
        for row in torch.cat(list(solution.value[:, 0] / SCALE + 0.5), dim=1).clamp(0, 0.999):
            print("".join(2 * " .:-=+*#%@"[int(10 * grey)] for grey in row))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
