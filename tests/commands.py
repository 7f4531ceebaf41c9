"""Commands run as processes of their own, without the seconds that each would take to load its libraries.

A server that has loaded them waits for code, and forks: the process that runs it begins where a new one would be after
its imports. What reads its environment earlier (a locale, an encoding), and what is talked with, subprocess starts.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import ROOT

SERVER = """
import atexit, json, os, sys, traceback
import matplotlib.pyplot, scipy.optimize, scipy.stats, sklearn.datasets
import replication.experiments.entry, replication.experiments.training, replication.experiments.data.colour
threads = "/proc/self/task"
assert not os.path.isdir(threads) or len(os.listdir(threads)) == 1  # which a fork would not have, and might wait for
answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
else:
    sys.exit()
nothing = os.open(os.devnull, os.O_RDONLY)
for place, handle in enumerate((nothing, *(os.open(asked[name], os.O_WRONLY) for name in ("said", "complained")))):
    os.dup2(handle, place)
os.environ.clear()
os.environ.update(asked["environment"])
os.chdir(asked["cwd"])
sys.argv = asked["argv"]
code = 0
try:
    exec(compile(asked["code"], "<string>", "exec"), {"__name__": "__main__"})
except SystemExit as ended:
    code = ended.code or 0
    if not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
except BaseException:
    code = 1
    traceback.print_exc()
atexit._run_exitfuncs()
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)  # to take all that was loaded apart would cost as much as to load it
"""
PATIENCE = 900  # seconds, on a machine that is busy with other work


@functools.cache
def server() -> subprocess.Popen[str]:
    """The server of this process's commands."""
    started = subprocess.Popen(
        [sys.executable, "-c", SERVER], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, start_new_session=True,
    )  # fmt: skip
    atexit.register(started.kill)
    return started


def python(code: str, *words: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code with arguments to its end, as by `python -c`, in a folder and with more of an environment."""
    running = server()
    assert running.stdin is not None
    assert running.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        places = {name: Path(folder) / name for name in ("said", "complained")}
        for place in places.values():
            place.touch()
        given = os.environ | {"COLUMNS": "200"} | environment
        asked = {"code": code, "argv": ["-c", *words], "cwd": str(cwd), "environment": given}
        print(json.dumps(asked | {name: str(place) for name, place in places.items()}), file=running.stdin, flush=True)
        if not select.select([running.stdout], [], [], PATIENCE)[0]:
            running.kill()
            server.cache_clear()
            raise TimeoutError(f"{words} did not end in {PATIENCE} seconds")
        code_of_exit = int(running.stdout.readline())
        said, complained = (place.read_text(encoding="utf-8") for place in places.values())
    return subprocess.CompletedProcess(asked["argv"], code_of_exit, said, complained)


def script(name: str, before: str = "") -> str:
    """The code of a script, with other code before it."""
    path = str(ROOT / "scripts" / f"{name}.py")
    run = "runpy.run_path(sys.argv[0], run_name='__main__')"
    return f"import runpy, sys\nsys.argv[0] = {path!r}\n{before}\n{run}"


def run_script(name: str, *words: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    return python(script(name), *words, cwd=cwd, **environment)
