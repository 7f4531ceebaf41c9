"""Train the network: python scripts/train.py [unit=monotone] [seed=0] [data=auto]."""

import hydra
from omegaconf import DictConfig

from replication.entry import command, folders
from replication.training import train


@hydra.main(config_path="../conf", config_name="train", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    where = folders(config)
    train(config, where.weights_out, where.runs)


if __name__ == "__main__":
    main()
