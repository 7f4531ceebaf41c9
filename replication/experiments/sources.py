"""What a figure is made from: the source and configuration files that its script uses, found from the files themselves.

A source file is used if the script, or a file that it uses, imports it, names it as a module to run, or reads it from
beside itself. A name that a package only passes on counts as imported from where it is defined.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

DOTTED = re.compile(r"replication(?:\.\w+)+")


def checksums(root: Path, files: Iterable[str]) -> dict[str, str | None]:
    """Return the checksums of files by their path from `root`, None where there is none."""
    return {file: checksum(root / file) for file in sorted(files)}


def checksum(path: Path) -> str | None:
    """Return the beginning of the SHA-256 of a file, or None."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else None


def files_of(name: str, configuration: Any, overrides: Iterable[str], root: Path) -> list[str]:
    """Return the files that a figure is made from, by their paths from `root`.

    Args:
        name: of the figure, its script and its configuration.
        configuration: of the run, whose entries may name classes and functions.
        overrides: of the run, which may choose other configuration files.
        root: of the checkout.
    """
    modules = modules_of(root)
    begin = {root / "scripts" / f"{name}.py", *modules.named_in(strings_of(configuration))}
    files = {*modules.used(begin), *configuration_files(name, tuple(overrides), root)}
    return sorted(path.relative_to(root).as_posix() for path in files)


def configuration_files(name: str, overrides: tuple[str, ...], root: Path) -> list[Path]:
    """Return the configuration files that a figure's configuration is composed of."""
    folder, hydra = root / "conf", GlobalHydra.instance()
    with nullcontext() if hydra.is_initialized() else initialize_config_dir(str(folder), version_base="1.3"):
        chosen = hydra.config_loader().compute_defaults_list(name, list(overrides), RunMode.RUN).defaults
    paths = [folder / f"{default.config_path}.yaml" for default in chosen if default.config_path]
    return [path for path in paths if path.is_file()]  # Hydra's own lie elsewhere


def strings_of(configuration: Any) -> Iterator[str]:
    """Yield all strings in a configuration of dictionaries and lists."""
    if isinstance(configuration, str):
        yield configuration
    elif isinstance(configuration, Mapping):
        for value in configuration.values():
            yield from strings_of(value)
    elif isinstance(configuration, list | tuple):
        for value in configuration:
            yield from strings_of(value)


class Modules:
    """The modules of the package in a checkout, read and not imported.

    Args:
        root: of the checkout.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.direct: dict[Path, set[Path]] = {}

    def used(self, begin: Iterable[Path]) -> set[Path]:
        """Return these files and all that they use, directly or by others."""
        found: set[Path] = set()
        waiting = list(begin)
        while waiting:
            path = waiting.pop()
            if path not in found:
                found.add(path)
                waiting += self.used_by(path) if path.suffix == ".py" else []
        return found

    def used_by(self, path: Path) -> set[Path]:
        """Return the files that a source file uses directly."""
        if path not in self.direct:
            self.direct[path] = self.read_off(path)
        return self.direct[path]

    def read_off(self, path: Path) -> set[Path]:
        """Read off a source file which files it uses."""
        files = {file for node in nodes_of(path) for file in self.imported(node)}
        texts = [
            node.value for node in nodes_of(path) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        beside = [path.with_name(text) for text in texts if re.fullmatch(r"[\w.-]+\.\w+", text)]
        return (
            files
            | set(self.named_in(text for text in texts if DOTTED.fullmatch(text)))
            | {file for file in beside if file.is_file()}
        )

    def imported(self, node: ast.AST) -> Iterator[Path]:
        """Yield the files that a statement imports."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from self.defining(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            for alias in node.names:
                yield from self.defining(f"{node.module}.{alias.name}")

    def named_in(self, texts: Iterable[str]) -> Iterator[Path]:
        """Yield the files of the modules, classes and functions that are named, dotted, in texts."""
        for text in texts:
            for name in DOTTED.findall(text):
                yield from self.defining(name)

    def defining(self, name: str) -> Iterator[Path]:
        """Yield the file that a dotted name is defined in: a module's own, or one that its package passes on."""
        if name.split(".")[0] != "replication":
            return
        own = self.file(name)
        if own is not None:
            if own.name != "__init__.py":
                yield own
            return
        module, _, attribute = name.rpartition(".")
        path = self.file(module)
        if path is None:  # an attribute of a class, say
            yield from self.defining(module)
            return
        passed_on = exported_from(path).get(attribute) if path.name == "__init__.py" else None
        if passed_on is not None:
            yield from self.defining(passed_on)
        elif attribute in names_of(path):
            yield path

    def file(self, name: str) -> Path | None:
        """Return the file of a module or package."""
        path = self.root.joinpath(*name.split("."))
        module, package = path.with_suffix(".py"), path / "__init__.py"
        return module if module.is_file() else package if package.is_file() else None


@functools.cache
def modules_of(root: Path) -> Modules:
    """Return the modules of a checkout, each read once."""
    return Modules(root)


@functools.cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of the syntax tree of a source file."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@functools.cache
def names_of(path: Path) -> set[str]:
    """Return the names that a source file defines or binds."""
    bound = {node.id for node in nodes_of(path) if isinstance(node, ast.Name)}
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return bound | {node.name for node in nodes_of(path) if isinstance(node, defined)} | set(exported_from(path))


@functools.cache
def exported_from(package: Path) -> dict[str, str]:
    """Return where the names that a package imports come from, by dotted names."""
    found: dict[str, str] = {}
    for node in nodes_of(package):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found
