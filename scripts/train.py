"""Train the network: python scripts/train.py [unit=monotone] [seed=0] [data=auto]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, folders
from replication.experiments.records import in_multirun
from replication.experiments.training import train
from replication.experiments.weights import is_trained, refuse_other_weights, weights_path


@hydra.main(config_path="../conf", config_name="train", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    where, data = folders(config), instantiate(config.data)
    if in_multirun() and is_trained(config, data, where.weights_out):
        print(f"the weights are already there, in {where.weights_out}", flush=True)
        return
    refuse_other_weights(
        weights_path(config, data, where.weights_out), config, ("unit", "network", "training", "steps")
    )
    train(config, where.weights_out, where.runs)


if __name__ == "__main__":
    main()
