"""Check that a processor prepares pictures as its model reads them, before weights are loaded.

Both are run: the processor on two pictures of different shape, the model on the meta device, where
tensors have shapes and no values. So settings without an effect on either may differ.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedConfig

from c3l.backbones.base import Backbone
from c3l.backbones.configuration import first_line
from c3l.runtime.errors import UserError

SHAPES = ((40, 20), (20, 40))
"""Width and height of the pictures, in pixels."""


def check_agreement(
    family: type[Backbone], config: PreTrainedConfig, processor: Any, folder: Path
) -> int:
    """Return the number of parameters of a model whose processor agrees with it.

    Raises UserError for a processor that does not: the setting, its file, and the value to set.
    """
    try:
        with torch.device("meta"):
            model = family.model_class(deepcopy(config))
        backbone = family(model, processor, name=str(folder), files=())
    # Contradictory values make its class raise anything.
    except Exception as error:
        raise UserError(
            f"{folder / 'config.json'} describes no model ({first_line(error)}); get the backbone "
            "again"
        ) from error
    _check_tokens(backbone, folder)
    _check_pictures(backbone, folder)
    return sum(parameter.numel() for parameter in model.parameters())


def _check_tokens(backbone: Backbone, folder: Path) -> None:
    """Raise UserError unless special tokens have embeddings and a picture one token."""
    tokenizer, image = backbone.tokenizer, backbone._format.image_token
    place = backbone.image_token_id
    if place is None or (place == tokenizer.unk_token_id and image != tokenizer.unk_token):
        raise UserError(
            f"the tokenizer in {folder} has no token {image}, which stands for a picture; save "
            "the model's own tokenizer there"
        )
    embeddings = backbone.model.get_input_embeddings()
    rows = embeddings.num_embeddings + getattr(embeddings, "num_additional_embeddings", 0)
    tokens = image, tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token
    for token in filter(None, tokens):
        if (index := tokenizer.convert_tokens_to_ids(str(token))) >= rows:
            raise UserError(
                f"the tokenizer in {folder} has the token {token} at the place {index}, but the "
                f"model embeds {rows} tokens (vocab_size in config.json); save the model's own "
                "tokenizer there"
            )
    for pictured in (False, True):
        ids = tokenizer(backbone.prompt("", pictured), add_special_tokens=False)["input_ids"]
        if ids.count(place) != pictured:
            raise UserError(
                f"the chat template in {folder} writes {image} {ids.count(place)} times for "
                f"{'one picture' if pictured else 'no picture'}; save the model's own template "
                "there"
            )


def _check_pictures(backbone: Backbone, folder: Path) -> None:
    """Raise UserError unless pictures of any shape become the model's pixels and tokens."""
    vision = getattr(backbone.model.config, "vision_config", None)
    side = getattr(vision, "image_size", None)
    if not isinstance(side, int):
        return  # a registered family whose pictures have no fixed size
    expected = (getattr(vision, "num_channels", 3), side, side)
    tokens = _features(backbone, torch.zeros(1, *expected, device="meta"), folder)
    settings = {} if tokens is None else backbone.processor_settings(tokens)
    for shape in SHAPES:
        picture = Image.new("RGB", shape, (90, 60, 30))
        pixels, counts = _prepared(backbone, picture, settings, side, folder)
        images = backbone.processor.image_processor
        if pixels.shape[1:] != expected:
            raise UserError(
                f"{_image_settings(folder)} makes a tensor of {_by(pixels.shape[1:])} of a picture "
                f"of {shape[0]}×{shape[1]} pixels, but the model reads {_by(expected)} "
                f"(vision_config.image_size in config.json); {_sized(images, side, folder)}"
            )
        if not pixels.isfinite().all():
            raise UserError(
                f"{_image_settings(folder)} makes numbers of a picture that are not finite; its "
                "image_std must hold no zero, and its rescale_factor and image_mean be finite"
            )
        if tokens is not None and (counts.is_floating_point() or counts.tolist() != [tokens]):
            raise UserError(
                f"the processor in {folder} makes {counts.item()} image tokens of a picture, but "
                f"the model has {tokens} features for it ({backbone.features_from} in "
                f"config.json); {_remedy(backbone, settings, folder)}"
            )


def _prepared(
    backbone: Backbone, picture: Image.Image, settings: Mapping[str, Any], side: int, folder: Path
) -> tuple[torch.Tensor, torch.Tensor]:
    """The processor's tensors for a picture. Raises UserError for any error of its settings."""
    images = backbone.processor.image_processor
    try:
        images([picture], return_tensors="pt")
    except Exception as error:
        raise UserError(
            f"{_image_settings(folder)} cannot prepare a picture ({first_line(error)}); "
            f"{_sized(images, side, folder)}"
        ) from error
    try:
        return backbone._pictures([picture])
    except Exception as error:
        raise UserError(
            f"the processor in {folder} cannot count a picture's image tokens "
            f"({first_line(error)}); {_remedy(backbone, settings, folder)}"
        ) from error


def _features(backbone: Backbone, pixels: torch.Tensor, folder: Path) -> int | None:
    """The number of features of a picture, or None if only real tensors can tell."""
    try:
        with torch.no_grad():
            return backbone.count_features(pixels)
    except Exception as error:
        if isinstance(error, NotImplementedError) or "meta" in str(error):
            return None
        raise UserError(
            f"{folder / 'config.json'} describes a model that can read no picture "
            f"({first_line(error)}); get the backbone again"
        ) from error


def _remedy(backbone: Backbone, settings: Mapping[str, Any], folder: Path) -> str:
    parts = []
    for name, value in settings.items():
        current = json.dumps(getattr(backbone.processor, name, None), default=str)
        if current != json.dumps(value):
            parts.append(f"{name} to {json.dumps(value)} (it is {current})")
    place = folder / "processor_config.json"
    return f"set {' and '.join(parts)} in {place}" if parts else _another(folder)


def _sized(images: Any, side: int, folder: Path) -> str:
    """The remedy that makes an image processor prepare squares."""
    square = {"height": side, "width": side}
    size, crop = (_plain(getattr(images, name, None)) for name in ("size", "crop_size"))
    cropped = getattr(images, "do_center_crop", None)
    settings = [("do_resize", True, getattr(images, "do_resize", True))]
    if "Idefics" in type(images).__name__:
        settings.append(("image_size", side, images.image_size == side))
    elif "shortest_edge" in size or cropped:
        settings += [
            ("size", {"shortest_edge": side}, min(size.values(), default=0) == side),
            ("do_center_crop", True, cropped),
            ("crop_size", square, crop == square),
        ]
    else:
        settings.append(("size", square, size == square))
    parts = [f"{name} to {json.dumps(value)}" for name, value, right in settings if not right]
    return f"set its {' and '.join(parts)}" if parts else _another(folder)


def _plain(size: Any) -> dict[str, int]:
    """The entries of an image processor's size that are set."""
    return {k: v for k, v in dict(size).items() if v is not None} if size else {}


def _image_settings(folder: Path) -> str:
    """The location of the image processor's settings, for messages."""
    file = folder / "processor_config.json"
    with suppress(OSError, ValueError, TypeError):
        if "image_processor" in json.loads(file.read_text(encoding="utf-8")):
            return f"image_processor in {file}"
    return str(folder / "preprocessor_config.json")


def _another(folder: Path) -> str:
    return f"save the processor that belongs to the model in {folder}"


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
