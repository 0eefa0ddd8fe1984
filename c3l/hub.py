"""Where weights lie: a folder, or a model of the Hugging Face Hub, fetched once."""

import json
import os
import re
from pathlib import Path

from c3l.errors import UserError, brief
from c3l.files import seal

# What a backbone is made of; a folder may hold cards, logs and optimizer states besides.
FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "*processor_config.json",
    "chat_template.*",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "qformer_tokenizer/*",
)


def is_id(name: str | os.PathLike) -> bool:
    """Whether a name could be a model's on the Hub: owner/name, or owner/name@revision."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w.-]+)?", str(name)) is not None


def weights_folder(path_or_id: str | os.PathLike, *, fetch: bool = True) -> Path:
    """The folder of a backbone: the one given, or that of a Hub id in the Hub's cache.

    With `fetch`, what the cache lacks is fetched. Raises UserError for what cannot be had.
    """
    folder = Path(path_or_id)
    if folder.is_dir():
        return folder
    if not is_id(path_or_id):
        raise UserError(f"there is no backbone at {path_or_id}; give a folder or a Hub id")
    from huggingface_hub import is_offline_mode, snapshot_download

    name, _, revision = str(path_or_id).partition("@")
    try:
        found = snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=list(FILES),
            # Offline, older versions of huggingface_hub ask the Hub for a commit all the same.
            local_files_only=not fetch or is_offline_mode(),
        )
    # Whatever the network, the Hub or its cache raise: the remedy is the same.
    except Exception as error:
        if not fetch:
            raise UserError(
                f"{path_or_id} is not in the Hub's cache; get it by `hf download {name}`"
            ) from error
        raise UserError(
            f"{path_or_id} is neither a folder nor a backbone that could be fetched from the Hub "
            f"({type(error).__name__}); check the name, or give the folder of a downloaded copy"
        ) from error
    return Path(found)


def weight_files(folder: Path) -> list[Path]:
    """The files of a backbone's folder that it is made of, in sorted order."""
    return sorted({file for pattern in FILES for file in folder.glob(pattern) if file.is_file()})


def weight_names(folder: Path) -> list[str]:
    """Their names below the folder."""
    return [file.relative_to(folder).as_posix() for file in weight_files(folder)]


def seal_weights(folder: Path) -> None:
    """Write the digests of a backbone's files beside them: damage to a backbone without them, such
    as a flipped bit in its weights, cannot be told from another backbone."""
    seal(folder, weight_names(folder))


def indexed_files(index: Path) -> list[Path]:
    """The weight files that an index names, in sorted order; none where there is no index.

    Raises UserError for a damaged index, and for one that names files of another folder.
    """
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{index} is no index of weights; get it again") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or name == "..":
            raise UserError(f"{index} names {brief(name)}, which is no file beside it")
    return [index.with_name(name) for name in sorted(names)]
