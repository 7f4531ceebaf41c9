"""fig4: ten digits recovered from the last hidden layer: python scripts/fig4.py [seed=0] [unit=monotone]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure, trained
from replication.experiments.plots import fig4
from replication.experiments.results import Result
from replication.experiments.studies.recovery import recovery_table, undo


@hydra.main(config_path="../conf", config_name="fig4", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)
    images, labels, indices = data.balanced_test(config.per_class)
    network = trained(config, data)

    def study() -> Result:
        solutions = undo(network, images.double(), instantiate(config.solvers), config.tolerance)
        pixels = {method: solution.value[:, 0].numpy() for method, solution in solutions.items()}
        table = recovery_table(solutions, images.double(), labels, indices)
        return Result(table, {"original": images.double()[:, 0].numpy()} | pixels)

    make_figure(
        "fig4",
        config,
        study,
        draw=fig4.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
