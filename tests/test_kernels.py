"""The compiled loops as a whole: all of them can be compiled beforehand."""

from __future__ import annotations

import sys

from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher

from replication.kernels.__main__ import main


def test_all_loops_are_compiled_beforehand() -> None:
    main()
    modules = [module for name, module in sys.modules.items() if name.startswith("replication.")]
    loops = {id(loop): loop for module in modules for loop in vars(module).values() if isinstance(loop, Dispatcher)}
    called = [loop for loop in loops.values() if not isinstance(loop._cache, NullCache)]
    assert len(called) > 10
    assert [loop.__name__ for loop in called if not loop.signatures] == []
