"""C³L: content-correlated vision-language instruction data by contrastive learning (IJCAI 2024).

The names below are loaded on first use: `import c3l` must not cost the seconds torch takes.
"""

import importlib
from typing import Any

_HOME = {
    "Sample": "c3l.samples",
    "read_samples": "c3l.samples",
    "write_samples": "c3l.samples",
    "Readings": "c3l.readings",
    "load_backbone": "c3l.backbones",
    "ImageFolder": "c3l.samples",
    "TrainingSettings": "c3l.settings",
    "examine": "c3l.checks.conformance",
}
_MODULES = ("contrastive", "filtering", "generation", "relevance", "selection", "training")

__all__ = ["ImageFolder", "Readings", "Sample", "TrainingSettings", "contrastive", "examine"]
__all__ += ["filtering", "generation", "load_backbone", "read_samples", "relevance", "scored"]
__all__ += ["selection", "training", "write_samples"]


def __getattr__(name: str) -> Any:
    if name == "scored":
        return importlib.import_module("c3l.data.scored")
    if name in _MODULES:
        return importlib.import_module(f"c3l.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'c3l' has no attribute {name!r}")
