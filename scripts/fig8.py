"""Make fig8: python scripts/fig8.py [repetitions=2]."""

from collections.abc import Iterator
from typing import Any

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure, trained_with_record, variant
from replication.experiments.plots import fig8
from replication.experiments.results import Result
from replication.experiments.studies.caps import cap_table
from replication.networks import RectifierNetwork


@hydra.main(config_path="../conf", config_name="fig8", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)

    def networks() -> Iterator[tuple[RectifierNetwork, dict[str, Any], int | None]]:
        for run in config.runs:
            print(f"fig8: {run.family}, seed {run.seed}", flush=True)
            changes = {"unit.family": run.family, "unit.make.norm_cap": run.norm_cap, "seed": run.seed}
            yield *trained_with_record(variant(config, changes), data), run.get("per_class")

    make_figure(
        "fig8",
        config,
        study=lambda: Result(
            cap_table(networks(), data, config.precisions, instantiate(config.solver), config.repetitions)
        ),
        draw=fig8.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
