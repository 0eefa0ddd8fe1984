"""Additions from outside: entry points of installed packages, and files that `--plugin` names.

Either writes to a `Registry`. C3L_PLUGINS names the files for the processes that a command starts
and for `lmms-eval --model c3l`. Only what is registered can enter a stage's key, never the file.
"""

import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from hashlib import sha256
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from c3l.runtime.errors import UserError, printable, short_repr

VARIABLE = "C3L_PLUGINS"
"""Paths of plugin files, separated as in PATH."""

_started: set[Path] = set()

T = TypeVar("T")


class Registry(MutableMapping[str, T]):
    """A dictionary that is completed from outside when it is first read."""

    def __init__(self, group: str, entries: Mapping[str, T]):
        """`group` is that of the entry points. A module that is imported reads `shipped` only."""
        self.group = group
        self.shipped = dict(entries)
        self._entries = dict(entries)
        self._complete = False

    def __getitem__(self, key: str) -> T:
        return self._completed()[key]

    def __setitem__(self, key: str, value: T) -> None:
        self._entries[key] = value

    def __delitem__(self, key: str) -> None:
        del self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._completed())

    def __len__(self) -> int:
        return len(self._completed())

    def _completed(self) -> dict[str, T]:
        if not self._complete:
            self._complete = True  # a plugin may read what it adds to
            try:
                run_files()
                for point in entry_points(group=self.group):
                    self._add(point)
            except BaseException:
                self._complete = False
                raise
        return self._entries

    def _add(self, point: EntryPoint) -> None:
        package = f" of the package {point.dist.name}" if point.dist else ""
        name = f"The plugin {printable(point.name)}{package} ({self.group})"
        if point.name in self._entries:
            raise UserError(f"{name} has the name of another one; rename or uninstall it.")
        try:
            self._entries[point.name] = point.load()
        except Exception as error:
            raise UserError(f"{name} cannot be loaded: {_reason(error)}.") from error


def request_files(arguments: Sequence[str]) -> None:
    """Run each FILE of `--plugin FILE` here, and have it run by the processes started from here.

    Raises UserError for a file that cannot be run.
    """
    files = []
    for option, value in pairwise([*arguments, ""]):
        if option == "--plugin":
            files.append(value)
        elif option.startswith("--plugin="):
            files.append(option.partition("=")[2])
    for file in files:
        if os.pathsep in file:
            raise UserError(f"--plugin {printable(file)}: give a path without {os.pathsep!r}.")
    named = [*filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)), *files]
    if named:
        # Absolute: a worker may run in another folder.
        paths = [str(Path(file).absolute()) for file in named]
        os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys(paths))
        run_files()


def run_files() -> None:
    """Run the files of C3L_PLUGINS that this process has not run yet.

    Raises UserError for a file that cannot be run.
    """
    for file in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        path = Path(file).absolute()
        if path in _started:
            continue
        _started.add(path)
        where, name = printable(str(path)), module_name(path)
        try:
            if path.suffix != ".py" or not path.is_file():
                raise UserError(f"The plugin {where} is no Python file; give FILE.py.")
            spec = spec_from_file_location(name, path)
            assert spec and spec.loader  # of a file with this suffix
            module = module_from_spec(spec)
            sys.modules[name] = module  # for what is pickled by its name
            spec.loader.exec_module(module)
        except BaseException as error:
            _started.discard(path)
            sys.modules.pop(name, None)
            if isinstance(error, KeyboardInterrupt | UserError):
                raise
            raise UserError(f"The plugin {where} cannot be run: {_reason(error)}.") from error


def module_name(path: Path) -> str:
    """Name of the module that a plugin file becomes, the same in every process."""
    return f"c3l_plugin_{path.stem}_{sha256(os.fsencode(path)).hexdigest()[:8]}"


def _reason(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    text = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return text if text.isprintable() else short_repr(text)
