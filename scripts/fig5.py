"""Make fig5: python scripts/fig5.py [seed=0] [per_class=100]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure, trained
from replication.experiments.plots import fig5
from replication.experiments.results import Result
from replication.experiments.studies.recovery import recovery_errors


@hydra.main(config_path="../conf", config_name="fig5", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)
    test, network = data.balanced_test(config.per_class), trained(config, data)
    make_figure(
        "fig5",
        config,
        study=lambda: Result(recovery_errors(network, test, instantiate(config.solvers), config.tolerances)),
        draw=fig5.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
