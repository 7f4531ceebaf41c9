"""Make figB3: python scripts/figB3.py [seed=0] [per_class=100]."""

from collections.abc import Iterator

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure, trained, variant
from replication.experiments.plots import figB3
from replication.experiments.studies.recovery import recovery_by_network
from replication.networks import RectifierNetwork


@hydra.main(config_path="../conf", config_name="figB3", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)
    test, solvers = data.balanced_test(config.per_class), instantiate(config.solvers)

    def networks() -> Iterator[tuple[str, RectifierNetwork]]:
        for run in config.runs:
            changes = {"unit.family": run.family, "unit.make.norm_cap": run.norm_cap}
            yield run.family, trained(variant(config, changes), data)

    make_figure(
        "figB3",
        config,
        study=lambda: recovery_by_network(networks(), test, config.per_class, solvers, config.tolerance),
        draw=figB3.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
