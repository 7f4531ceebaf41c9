"""Make figE2: python scripts/figE2.py [study.flow.m=400] [study.flow.max_steps=12000]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import figE2
from replication.experiments.studies.gradient_dynamics import gradient_dynamics


@hydra.main(config_path="../conf", config_name="figE2", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    make_figure(
        "figE2",
        config,
        study=lambda: gradient_dynamics(**instantiate(config.study, _convert_="all")),
        draw=figE2.draw,
    )


if __name__ == "__main__":
    main()
