"""Backbones: one file a family, loaded by folder or Hub id."""

from c3l.backbones.base import Backbone, Generated
from c3l.backbones.loading import load_backbone

__all__ = ["Backbone", "Generated", "load_backbone"]
