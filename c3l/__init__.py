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
}
_MODULES = {name: f"c3l.{name}" for name in ("relevance", "contrastive", "filtering", "training")}
_MODULES |= {"generation": "c3l.generation", "selection": "c3l.selection"}
_MODULES |= {"scored": "c3l.data.scored"}

__all__ = ["Readings", "Sample", "contrastive", "load_backbone", "read_samples", "relevance"]
__all__ += ["ImageFolder", "TrainingSettings", "filtering", "generation", "scored", "selection"]
__all__ += ["training", "write_samples"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'c3l' has no attribute {name!r}")
