"""Make fig10: python scripts/fig10.py [study.per_class=10]."""

from collections.abc import Iterator
from typing import Any

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from replication.experiments.entry import command, make_figure, trained_with_record, variant
from replication.experiments.plots import fig10
from replication.experiments.studies.trained_blocks import trained_blocks


@hydra.main(config_path="../conf", config_name="fig10", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)

    def networks() -> Iterator[tuple[str, nn.Module, dict[str, Any]]]:
        for name, changes in config.runs.items():
            print(f"fig10: {name}", flush=True)
            yield str(name), *trained_with_record(variant(config, changes), data)

    make_figure(
        "fig10",
        config,
        study=lambda: trained_blocks(networks(), data, instantiate(config.solver), **config.study),
        draw=fig10.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
