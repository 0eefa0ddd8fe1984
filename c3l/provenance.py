"""Where a result comes from: the code's commit, the versions and the device behind it."""

import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "transformers", "peft", "accelerate", "lmms-eval", "c3l")


@cache
def commit() -> str:
    """The git commit of this code, with "-dirty" if files differ from it; "unknown" if no clone."""
    git = ["git", "-C", str(Path(__file__).parent.parent)]
    try:
        run = subprocess.run(
            [*git, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return run.stdout.strip()


@cache
def versions() -> dict[str, str]:
    """Python and the packages that numbers depend on; a package that is absent is left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def device() -> str:
    """The accelerator this process computes on, or the processor's architecture."""
    torch = sys.modules.get("torch")  # a stage without torch must not import it to ask
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu ({platform.machine()})"
