"""The pocket world: a made world with ground truth, in which every table runs on a laptop."""

from benchmarks.pocket.build import build

__all__ = ["build"]
