"""Fixtures and options that all tests share: no test reaches a server, and data are seen through fixtures alone."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# One thread everywhere, here and in what is started: the workers share the processors, and threads that wait for each
# other on a busy one take ten times as long. Numba's own, which QuantEcon starts, would set torch's number to theirs.
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
# Where the data are; what runs in the tests finds none, unless a test asks for them by a fixture
_DATA = Path(os.environ.setdefault("REPLICATION_TEST_DATA", os.environ.get("REPLICATION_DATA", str(ROOT / "data"))))
os.environ["REPLICATION_DATA"] = str(ROOT / "no data in tests")
DATA_FIXTURES = {"mnist_folder", "cifar10_folder"}

torch.set_num_threads(1)
# A run of the tests tries the same examples each time; the profile "search" tries others (CONTRIBUTING.md)
settings.register_profile("replication", deadline=None, max_examples=60, print_blob=True, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("replication")


class Refusal(BaseHTTPRequestHandler):
    """A proxy that refuses, and remembers what was asked for."""

    asked: list[str] = []  # noqa: RUF012

    def refuse(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        self.send_error(403)

    do_GET = do_HEAD = do_CONNECT = do_POST = refuse  # noqa: N815

    def log_message(self, *words: object) -> None:
        """Say nothing."""


def refuse_all_servers() -> None:
    """Send every request of this process, and of those that it starts, to a proxy here that refuses it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for protocol in ("http", "https", "ftp", "all"):
        for name in (f"{protocol}_proxy", f"{protocol}_proxy".upper()):
            os.environ[name] = f"http://127.0.0.1:{server.server_port}"
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.1,::1"

    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            Refusal.asked.append(f"socket to {address[0]}")
            raise OSError(f"tests do not reach {address[0]}")
        connect(self, address)

    socket.socket.connect = connect_here  # type: ignore[method-assign]


refuse_all_servers()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the tensors of the solver tests live, e.g. cuda")


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Parameters of tests are drawn while their module is read: from one seed, like what tests draw themselves."""
    if isinstance(collector, pytest.Module):
        torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if DATA_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("data")


@pytest.fixture(autouse=True)
def no_server() -> Iterator[None]:
    """Fail the test that tries to reach a server, with or without a network."""
    yield
    asked = list(Refusal.asked)
    Refusal.asked.clear()
    assert not asked, f"the test tried to reach a server: {', '.join(asked)}"


@pytest.fixture
def mnist_folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the real MNIST, which is also that of the processes that the test starts."""
    return folder_with("MNIST/raw/train-images-idx3-ubyte", monkeypatch)


@pytest.fixture
def cifar10_folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the real CIFAR-10, likewise."""
    return folder_with("cifar-10-batches-py/data_batch_1", monkeypatch)


def folder_with(file: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not (_DATA / file).is_file():
        pytest.skip(f"{file} is not there: set REPLICATION_DATA")
    monkeypatch.setenv("REPLICATION_DATA", str(_DATA.resolve()))
    return _DATA.resolve()


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    return request.config.getoption("--device")


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    assert torch.get_num_threads() == 1, "the test leaves all that follow it with more threads"
