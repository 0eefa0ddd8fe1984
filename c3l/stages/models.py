"""The backbone that this process has loaded: stages in a row share it."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from c3l.artifacts.stage import Job

if TYPE_CHECKING:
    from c3l.backbones import Backbone

_cached: "tuple[str, Backbone] | None" = None
_options: tuple[str | None, str | None] = (None, None)  # device, precision


@contextmanager
def model_options(device: str | None, dtype: str | None) -> Iterator[None]:
    """Set the device and the precision in which stages of this process load weights.

    The precision is no part of a stage's key: the key of the backbone's Source has to hold it.
    """
    global _cached, _options
    before, _options = _options, (device, dtype)
    try:
        yield
    finally:
        _cached = None
        _options = before


def load_model(job: Job, name: str, *, to_train: bool = False) -> "Backbone":
    """Load the weights that are the input `name`, or return them if they are loaded already.

    On a GPU they are in the precision they were saved in, on a CPU, which gains nothing from half
    precision, in float32, unless `model_options` says otherwise. With `to_train` they do not stay
    loaded for the next stage, since training changes them.
    """
    global _cached
    from c3l.backbones import load_backbone
    from c3l.backbones.loading import usual_dtype

    if _cached is None or _cached[0] != job.keys[name]:
        _cached = None  # free the old one first
        device, dtype = _options
        weights = load_backbone(job.inputs[name], device=device, dtype=dtype or usual_dtype(device))
        _cached = (job.keys[name], weights)
    backbone = _cached[1]
    if to_train:
        _cached = None
    return backbone


def release_model() -> tuple[str | None, str | None]:
    """Free the device for other processes. Return the device and precision of `model_options`."""
    global _cached
    _cached = None
    if "torch" in sys.modules:
        import torch

        gc.collect()
        torch.cuda.empty_cache()  # does nothing where CUDA is not in use
    return _options
