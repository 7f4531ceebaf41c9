"""Make figB4: python scripts/figB4.py [study.seeds=[0,1,2]] [study.epochs=120]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import figB4
from replication.experiments.studies.flows import flow_study


@hydra.main(config_path="../conf", config_name="figB4", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    study = instantiate(config.study)
    make_figure(
        "figB4",
        config,
        study=lambda: flow_study(**study),
        draw=figB4.draw,
        data=study["data"],
    )


if __name__ == "__main__":
    main()
