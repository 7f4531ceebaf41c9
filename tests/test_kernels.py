"""The compiled loops as a whole: all of them can be compiled beforehand."""

from __future__ import annotations

import subprocess
import sys

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


def test_all_loops_are_compiled_beforehand() -> None:
    done = subprocess.run([sys.executable, "-c", LOOPS_LEFT], capture_output=True, text=True, check=True)
    called, *left = done.stdout.split()
    assert int(called) > 10
    assert left == []
