"""A backbone's config.json, without keys that ask for code, downloads or other files.

transformers follows some keys of a configuration out of the folder: to kernels and weights on the
Hub, to Python files, to weights of another name. None of these is in the backbone's digest.
"""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from c3l.runtime.errors import UserError, short_repr

IGNORED = frozenset(
    {
        "_attn_implementation",
        "_attn_implementation_internal",
        "_experts_implementation",
        "_experts_implementation_internal",
        "attn_implementation",
        "auto_map",
        "configuration_files",
        "custom_pipelines",
        "distributed_config",
        "experts_implementation",
        "fusion_config",
        "kernel_config",
        "use_kernels",
        "use_pretrained_backbone",
    }
)
"""Keys that select or fetch code and do not describe the weights. They are ignored."""
QUANTISED = ("quantization_config", "compression_config")


def read_config(folder: Path) -> dict[str, Any]:
    """Return the values of a folder's config.json, without the ignored keys.

    Raises UserError for a missing or damaged one, and for weights that are quantised or lie in a
    file of another name.
    """
    file = folder / "config.json"
    return _checked(json_object(file, "a backbone", "the backbone"), file)


def json_object(file: Path, owner: str, source: str) -> dict[str, Any]:
    """Return the object in a file of a folder of `owner`.

    Raises UserError, with `source` to get again, for a file that is missing or damaged.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
        if not isinstance(values, dict):
            raise ValueError("it is no JSON object")
    except FileNotFoundError:
        raise UserError(f"{file.parent} has no {file.name}; give the folder of {owner}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error}); get {source} again") from error
    return values


def model_config(model_class: type[PreTrainedModel], folder: Path) -> PreTrainedConfig:
    """Return the configuration of a folder's model. Raises UserError as `read_config` does."""
    config = read_config(folder)
    try:
        return model_class.config_class.from_dict(config)
    # A damaged file makes its class raise anything.
    except Exception as error:
        raise UserError(
            f"{folder / 'config.json'} is damaged ({first_line(error)}); get the backbone again"
        ) from error


def first_line(error: BaseException) -> str:
    """Return an error's first line, or its class if it has no message."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _checked(value: Any, file: Path) -> Any:
    """A value of a configuration without ignored keys. Raises UserError as `read_config` does."""
    if isinstance(value, list):
        return [_checked(item, file) for item in value]
    if not isinstance(value, dict):
        return value
    for key in QUANTISED:
        if value.get(key):
            raise UserError(
                f"{file} has a {key}: C3L does not load quantised weights; give the backbone as "
                "it was before it was quantised (tuning=qlora rounds it to four bits itself)"
            )
    if value.get("transformers_weights"):
        raise UserError(
            f"{file} names {short_repr(value['transformers_weights'])} as transformers_weights; "
            "remove that key and call the weights model.safetensors"
        )
    if str(value.get("model_type")).startswith("timm"):
        raise UserError(
            f"{file} takes a part of the model from timm, which may fetch weights of its own; use "
            "a backbone whose parts are all in transformers"
        )
    return {key: _checked(item, file) for key, item in value.items() if key not in IGNORED}
