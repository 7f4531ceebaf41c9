"""Make fig4: python scripts/fig4.py [seed=0] [unit=monotone]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure, trained
from replication.experiments.plots import fig4
from replication.experiments.studies.recovery import recovered_digits


@hydra.main(config_path="../conf", config_name="fig4", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)
    test, network = data.balanced_test(config.per_class), trained(config, data)
    make_figure(
        "fig4",
        config,
        study=lambda: recovered_digits(network, test, instantiate(config.solvers), config.tolerance),
        draw=fig4.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
