"""Fixtures and options that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("REPLICATION_DATA", ROOT / "data"))

torch.set_num_threads(1)
settings.register_profile("replication", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("replication")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the tensors of the solver tests live, e.g. cuda")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not (DATA / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file():
        for item in items:
            if "mnist" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="MNIST is not there: set REPLICATION_DATA"))


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    return request.config.getoption("--device")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
