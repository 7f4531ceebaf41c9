"""Write the installed versions of every dependency in pyproject.toml, and of theirs: python scripts/lock.py."""

import platform
import re
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, distribution

import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from replication.experiments.files import write_atomically
from replication.experiments.places import ROOT

NEVER = {"replication-rectifier", "tensorboard"}  # itself, and what the reference run does not use


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(line for part in project["optional-dependencies"].values() for line in part)]
    versions: dict[str, str] = {}
    for line in wanted:
        add(Requirement(line), versions)
    minor = ".".join(platform.python_version_tuple()[:2])
    where = f'python_version == "{minor}" and sys_platform == "linux"'
    today = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    lines = [
        f"# The reference run: Python {platform.python_version()}, {today}. `make lock` writes this file.",
        "# Other Pythons and systems take what the ranges in pyproject.toml allow.",
        *(f"{name}=={version} ; {where}" for name, version in sorted(versions.items())),
    ]
    write_atomically(ROOT / "constraints.txt", ("\n".join(lines) + "\n").encode())
    print(f"{len(versions)} versions in constraints.txt")


def add(requirement: Requirement, versions: dict[str, str]) -> None:
    """Add the installed version of a package, and those of what it needs here."""
    name = canonicalize_name(requirement.name)
    if name in NEVER | versions.keys():
        return
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        raise SystemExit(f"error: {name} is not installed; run make setup first") from None
    versions[name] = re.sub(r"\+.*", "", installed.version)  # less a local build's name
    for line in installed.requires or []:
        needed = Requirement(line)
        if needed.marker is None or any(
            needed.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
        ):
            add(needed, versions)


if __name__ == "__main__":
    main()
