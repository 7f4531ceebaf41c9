"""figB3: digits through trained causal networks and back: python scripts/figB3.py [seed=0] [per_class=100]."""

from collections.abc import Iterator

import hydra
import numpy as np
import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure, trained
from replication.experiments.plots import figB3
from replication.experiments.results import Result
from replication.experiments.studies.recovery import in_percent, recovery_table, undo


@hydra.main(config_path="../conf", config_name="figB3", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)
    images, labels, indices = data.balanced_test(config.per_class)
    images = images.double()

    def recoveries() -> Iterator[tuple[pd.DataFrame, dict[str, np.ndarray]]]:
        for run in config.runs:
            own = config.copy()
            own.unit.family, own.unit.make.norm_cap = run.family, run.norm_cap
            solutions = undo(trained(own, data), images, instantiate(config.solvers), config.tolerance)
            table = recovery_table(solutions, images, labels, indices)
            first = {f"{run.family}, {name}": kept.value[:: config.per_class, 0] for name, kept in solutions.items()}
            yield table.assign(network=run.family), {name: value.numpy() for name, value in first.items()}

    def study() -> Result:
        tables, pixels = zip(*recoveries(), strict=True)
        shown = {"original": images[:: config.per_class, 0].numpy()}
        for part in pixels:
            shown |= part
        return Result(in_percent(pd.concat(tables, ignore_index=True)), shown)

    make_figure(
        "figB3",
        config,
        study,
        draw=figB3.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
