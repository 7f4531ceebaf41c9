"""The compiled loops as a whole: all of them can be compiled beforehand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOOPS_LEFT = """
import sys
from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher
from replication.kernels.__main__ import main

main()
modules = [module for name, module in sys.modules.items() if name.startswith("replication.")]
loops = {id(loop): loop for module in modules for loop in vars(module).values() if isinstance(loop, Dispatcher)}
called = [loop for loop in loops.values() if not isinstance(loop._cache, NullCache)]
print(len(called), *(loop.__name__ for loop in called if not loop.signatures))
"""


@pytest.mark.slow
def test_all_loops_are_compiled_beforehand(tmp_path: Path) -> None:
    # in an empty cache: what is kept loads without the loops that are compiled into it
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", LOOPS_LEFT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    called, *left = done.stdout.split()
    assert int(called) > 10
    assert left == []
