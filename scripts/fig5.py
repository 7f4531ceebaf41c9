"""fig5: relative errors of recovered test images by class: python scripts/fig5.py [seed=0] [per_class=100]."""

import hydra
import pandas as pd
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure, trained
from replication.experiments.plots import fig5
from replication.experiments.results import Result
from replication.experiments.studies.recovery import in_percent, recovery_table, undo


@hydra.main(config_path="../conf", config_name="fig5", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)
    images, labels, indices = data.balanced_test(config.per_class)
    network = trained(config, data)

    def study() -> Result:
        tables = []
        for name, tolerance in config.tolerances.items():
            dtype = getattr(torch, name)
            own = images.to(dtype)
            solutions = undo(network.to(dtype), own, instantiate(config.solvers), tolerance)
            tables.append(recovery_table(solutions, own, labels, indices))
        return Result(in_percent(pd.concat(tables, ignore_index=True)))

    make_figure(
        "fig5",
        config,
        study,
        draw=fig5.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
