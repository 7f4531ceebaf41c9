"""Make fig10: python scripts/fig10.py [study.per_class=10]."""

from collections.abc import Iterator
from typing import Any, cast

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from replication.experiments.entry import command, make_figure, trained_with_record, variant
from replication.experiments.plots import fig10
from replication.experiments.studies.trained_blocks import trained_blocks


@hydra.main(config_path="../conf", config_name="fig10", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)

    def networks() -> Iterator[tuple[str, nn.Module, dict[str, Any]]]:
        runs = cast(dict[str, Any], OmegaConf.to_container(config.runs, resolve=True))
        alone = variant(config, {"runs": {}})  # each run has a unit of its own, which no other may refer to
        for name, changes in runs.items():
            print(f"fig10: {name}", flush=True)
            yield name, *trained_with_record(variant(alone, changes), data)

    make_figure(
        "fig10",
        config,
        study=lambda: trained_blocks(networks(), data, instantiate(config.solver), **config.study),
        draw=fig10.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
