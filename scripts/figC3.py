"""figC3: test accuracy against the share of training data: python scripts/figC3.py [trainer.max_steps=400]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from replication.experiments.entry import command, folders, make_figure
from replication.experiments.plots import figC3
from replication.experiments.results import Result
from replication.experiments.studies.data_share import data_share
from replication.experiments.training import trained_record


@hydra.main(config_path="../conf", config_name="figC3", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)
    runs, subset = folders(config).runs / "figC3", config.subsets[data.name]

    def record(network: str, share: float, seed: int) -> dict[str, object]:
        run = config.copy()
        with open_dict(run):
            run.data = config.data.get(data.name, config.data)  # found once for all runs
            run.data.share, run.data.batch_size = share * subset.share, subset.batch_size
            run.seed, run.unit = seed, {"family": network}
            run.network, run.training.penalty = config.networks[network].network, config.networks[network].penalty
        return trained_record(run, runs, runs)

    make_figure(
        "figC3",
        config,
        study=lambda: Result(data_share(record, list(config.networks), config.shares, config.seeds)),
        draw=figC3.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
