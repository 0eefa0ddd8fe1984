"""Provenance of a result: the code's commit, the versions and the device behind it."""

import os
import platform
import subprocess
import sys
import tomllib
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from c3l.artifacts.files import digest, digests

PACKAGES = ("torch", "torchvision", "transformers", "peft", "accelerate", "lmms-eval", "c3l")
SOURCES = ("c3l", "benchmarks", "repro", "tables")


@cache
def commit() -> str:
    """Return the git commit of this code, with "-dirty" if files differ from it.

    Without a clone of it: "unknown", with the package's version and a digest of the sources. A
    repository that these files merely lie in is another one's.
    """
    file = Path(__file__).resolve()
    # The file is in the commit itself, or the commit is not of this code.
    tracked = _git(file, "rev-parse", "--verify", "--quiet", f"HEAD:./{file.name}")
    describe = ("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    if tracked and (name := _git(file, *describe)):
        return name
    root = file.parents[2]
    return f"unknown (c3l {_version(root)}, sources {_sources(root)})"


def _git(file: Path, *arguments: str) -> str:
    """Return what git says in the folder of a file, or "" where it fails or is not there.

    Its environment variables (GIT_DIR in a hook) are about another repository than the file's.
    """
    git = ["git", "--no-optional-locks"]
    clone = next((folder for folder in file.parents if (folder / ".git").exists()), None)
    try:
        # Git refuses a clone of another user's (in a container). One of whoever owns this code,
        # which is running already, takes no more trust.
        if clone and (clone / ".git").stat().st_uid == clone.stat().st_uid == file.stat().st_uid:
            git += ["-c", f"safe.directory={clone}"]
        run = subprocess.run(
            [*git, *arguments],
            cwd=file.parent,
            env={key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return run.stdout.strip()


def _version(root: Path) -> str:
    """Return the version in the project file beside the packages, or else of what is installed."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    with suppress(PackageNotFoundError):
        return version("c3l")
    return "without a version"


def _sources(root: Path) -> str:
    """Return the first eight digits of a digest of the packages' code and settings."""
    files = [
        str(path.relative_to(root))
        for package in SOURCES
        for path in (root / package).rglob("*")
        if path.suffix in (".py", ".yaml") and path.is_file()
    ]
    return digest(digests(root, sorted(files)))[:8]


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that numbers depend on."""
    numbers = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            numbers[package] = version(package)
    return numbers


def device() -> str:
    """Return the accelerator this process computes on, or the CPU's architecture."""
    torch = sys.modules.get("torch")  # a stage without torch must not import it to ask
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu ({platform.machine()})"
