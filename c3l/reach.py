"""The check that L_c reaches a weight that trains (section 3.3, readings 7, 9 and 21).

L_r always does: its answers stand behind an image. L_c embeds texts, by default without an image,
and may bypass everything that the tuning trains; its value falls all the same, since ξ learns.
"""

import json
from pathlib import Path

from c3l.artifacts.stage import Source, Stage
from c3l.readings import Readings

PROJECTOR_READS_TEXT = frozenset({"idefics"})
"""Model types whose projector is part of the language model's layers, even without an image."""


def contrast_unreached(readings: Readings, model_type: str | None = None) -> str | None:
    """Explain why L_c reaches no weight that the tuning trains, and what to change, or return None.

    `model_type` is that of the model's configuration, if known.
    """
    tuning = readings.tuning
    trains_embeddings = ("language+projector", "full")
    if readings.embedding == "input":
        if tuning in trains_embeddings:
            return None
        images = ", contrastive_image=true" if tuning == "projector" else ""
        return (
            f"L_c would reach no weight of the model: embedding input compares input embeddings, "
            f"which tuning {tuning} does not train; set embedding=last_hidden{images}, or "
            f"tuning={trains_embeddings[0]}"
        )
    if tuning != "projector" or readings.contrastive_image or readings.anchor == "prompt":
        return None
    if model_type in PROJECTOR_READS_TEXT:
        return None
    return (
        "L_c would reach no weight of the model: it embeds texts without their image, and tuning "
        "projector trains nothing that reads them; set contrastive_image=true, or another tuning"
    )


def model_type(weights: Stage | Source) -> str | None:
    """Return the model type of weights, or of those they are trained from, or None."""
    while isinstance(weights, Stage):
        weights = weights.inputs["backbone"]
    try:
        config = json.loads((Path(weights.path) / "config.json").read_text(encoding="utf-8"))
        return config["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
