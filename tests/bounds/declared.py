"""What pyproject.toml and constraints.txt declare, and what the code imports."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
OURS = {"c3l", "repro", "benchmarks", "tests"}


def _read(lines: list[str]) -> dict[str, Requirement]:
    """Requirements by their canonical name, without the package's own extras."""
    some = {canonicalize_name((r := Requirement(line)).name): r for line in lines}
    some.pop("c3l", None)
    return some


def requirements() -> dict[str, Requirement]:
    """The direct dependencies."""
    return _read(_project()["dependencies"])


def extras() -> dict[str, dict[str, Requirement]]:
    """The direct dependencies of each extra."""
    return {name: _read(some) for name, some in _project()["optional-dependencies"].items()}


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def constraints() -> dict[str, Requirement]:
    """The pins of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return _read([line for line in lines if line.strip() and not line.startswith("#")])


def lower_bound(requirement: Requirement) -> Version | None:
    """The lowest version that a requirement allows, or None where it allows every old one."""
    bounds = [s for s in requirement.specifier if s.operator in (">=", "==", "~=")]
    return max((Version(s.version) for s in bounds), default=None)


def imports(*folders: str) -> Iterator[tuple[str, Path]]:
    """The distributions that files of these folders import, however deep in a function."""
    distributions = packages_distributions()
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            for module in _modules(ast.parse(file.read_text(encoding="utf-8"))):
                if module in OURS or module in sys.stdlib_module_names:
                    continue
                for name in distributions.get(module, [module]):
                    yield canonicalize_name(name), file.relative_to(ROOT)


def _modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]
