"""Published weight files as named tensors, read where they lie: nothing is copied into memory."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from c3l.backbones.configuration import first_line, json_object
from c3l.runtime.errors import UserError
from c3l.runtime.hub import indexed_files


@dataclass(frozen=True)
class Source:
    """The tensors of a file, or of a folder's shards, and what else lies beside them."""

    name: str
    files: list[Path]
    tensors: dict[str, Tensor]
    other_keys: list[str] = field(default_factory=list)
    """Keys that hold no weights: an optimizer's state, settings."""


def read_file(path: Path) -> Source:
    """A .safetensors file, or a pickle of tensors, on its own or under "model".

    Raises UserError for a file that is missing, damaged, or a pickle of anything but plain data.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}; give the published file")
    if path.suffix == ".safetensors":
        try:
            return Source(path.name, [path], load_file(path))
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} is damaged ({error}); get it again") from error
    content = _unpickled(path)
    other_keys = []
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        other_keys = sorted(str(key) for key in content if key != "model")
        content = content["model"]
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no named tensors; give the published file")
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    other_keys += sorted({*map(str, content)} - {*tensors})
    if not tensors:
        raise UserError(f"{path} holds no tensors; give the published file")
    return Source(path.name, [path], tensors, other_keys)


def read_folder(folder: Path, *also: str) -> Source:
    """The weights of a folder in transformers' layout: safetensors if there are any, else .bin.

    `also` are names of files that are read besides, where there are any. Raises UserError if there
    are no weights, if one of the index's files is missing, or if two hold the same tensor.
    """
    files = _shards(folder, "model", "safetensors") or _shards(folder, "pytorch_model", "bin")
    if not files:
        raise UserError(
            f"{folder} holds neither model.safetensors nor pytorch_model.bin (nor shards of them); "
            "give the folder of a published model"
        )
    shards = [read_file(file) for file in files]
    count = Counter(key for shard in shards for key in shard.tensors)
    if twice := [key for key, times in count.items() if times > 1]:
        raise UserError(f"several files in {folder} hold {twice[0]}; keep one model in a folder")
    tensors = {key: tensor for shard in shards for key, tensor in shard.tensors.items()}
    files += [folder / name for name in also if (folder / name).is_file()]
    other_keys = [key for shard in shards for key in shard.other_keys]
    return Source(folder.name, files, tensors, other_keys)


def read_config(folder: Path, name: str = "config.json") -> dict:
    """A folder's settings. Raises UserError if they are missing or damaged."""
    return json_object(folder / name, "a published model", "it")


def _shards(folder: Path, stem: str, ending: str) -> list[Path]:
    if indexed := indexed_files(folder / f"{stem}.{ending}.index.json"):
        return indexed
    single = folder / f"{stem}.{ending}"
    return [single] if single.is_file() else sorted(folder.glob(f"{stem}-*.{ending}"))


def _unpickled(path: Path):
    options = {"map_location": "cpu", "weights_only": True}
    try:
        try:
            return torch.load(path, mmap=True, **options)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(path, **options)  # the format before torch 1.6
    except UnpicklingError as error:
        raise UserError(
            f"{path} is a pickle of more than tensors and plain data, which may run code when "
            "read; it is not: get the published file, or its tensors as safetensors"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}); get it again") from error
