"""Commands run as processes of their own, without the seconds that each would take to load its libraries.

They begin where a new process would be after its imports (`replication.experiments.copies`). What reads its environment
earlier (a locale, an encoding), and what is talked with, subprocess starts.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from conftest import ROOT

from replication.experiments import copies

PATIENCE = 900  # seconds, on a machine that is busy with other work


def python(code: str, *words: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code with arguments to its end, as by `python -c`, in a folder and with more of an environment."""
    with tempfile.TemporaryDirectory() as folder:
        program, said, complained = (Path(folder) / name for name in ("code.py", "said", "complained"))
        program.write_text(code, encoding="utf-8")
        given = os.environ | {"COLUMNS": "200", "PYTHONPATH": str(ROOT)} | environment
        command = (str(program), *words)
        status = copies.run_script(command, said, complained, cwd=cwd, environment=given, patience=PATIENCE)
        printed, errors = (place.read_text(encoding="utf-8") for place in (said, complained))
    return subprocess.CompletedProcess(command, status, printed, errors)


def script(name: str, before: str = "") -> str:
    """The code of a script, with other code before it."""
    path = str(ROOT / "scripts" / f"{name}.py")
    run = "runpy.run_path(sys.argv[0], run_name='__main__')"
    return f"import runpy, sys\nsys.argv[0] = {path!r}\n{before}\n{run}"


def run_script(name: str, *words: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    return python(script(name), *words, cwd=cwd, **environment)
