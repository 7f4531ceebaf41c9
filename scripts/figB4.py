"""Make figB4 from trained flows: python scripts/figB4.py [study.seeds=[0,1,2]] [retrain=true]."""

import time
from pathlib import Path
from typing import Any

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from replication.experiments.configuration import without_places
from replication.experiments.entry import command, folders, make_figure
from replication.experiments.keeping import Trainings
from replication.experiments.plots import figB4
from replication.experiments.records import provenance
from replication.experiments.studies.flows import flow_study, made_flow, trained_flow
from replication.experiments.weights import load_record, load_weights, write_weights
from replication.networks import CausalFlow

MEASURED = ("data", "caps", "seeds", "samples")  # the other settings are the trainings'
FLOW = ("unit", "hidden", "units_per_stage")


@hydra.main(config_path="../conf", config_name="figB4", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    study, where = instantiate(config.study), folders(config)
    measured = {key: study[key] for key in MEASURED}
    training = {key: value for key, value in study.items() if key not in MEASURED}
    trainings = Trainings(where.weights / "figB4", where.runs / "figB4", config.retrain, with_weights=True)

    def train(path: Path, cap: float | None, seed: int, recipe: dict[str, Any]) -> None:
        start = time.perf_counter()
        flow = trained_flow(measured["data"], cap, seed, **training)
        seconds, data = time.perf_counter() - start, measured["data"]
        record = provenance(config, seconds, data.title, data.checksum(), epochs=training["epochs"], recipe=recipe)
        write_weights(flow, path, record)

    def trained(cap: float | None, seed: int) -> tuple[CausalFlow, dict[str, Any]]:
        name = f"digits-flow-{'uncapped' if cap is None else f'cap{cap:g}'}-{seed}"
        settings = without_places(OmegaConf.to_container(config.study, resolve=True))
        recipe = {key: value for key, value in settings.items() if key in ("data", *training)}
        recipe |= {"norm_cap": cap, "seed": seed}
        path = trainings.find(name, recipe, lambda: train(trainings.runs / f"{name}.safetensors", cap, seed, recipe))
        flow = made_flow(cap, seed, **{key: training[key] for key in FLOW})
        load_weights(flow, path)
        record = load_record(path)
        return flow, {key: record[key] for key in ("epochs", "seconds")}

    make_figure(
        "figB4",
        config,
        study=lambda: flow_study(trained, **measured),
        draw=figB4.draw,
        data=measured["data"],
    )


if __name__ == "__main__":
    main()
