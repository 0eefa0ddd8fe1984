"""Weights in a folder, or of a model on the Hugging Face Hub, fetched once."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from c3l.artifacts.files import SEAL, verify_digests, write_digests
from c3l.runtime.errors import UserError, causes_of, short_repr, write_error_reason

# What a backbone is made of: all that loading may open.
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
    "vocab*",
    "merges*",
    "*.model",
    "*.spm",
    "*.tiktoken",
    "tekken.json",
    "additional_chat_templates/*",
    "qformer_tokenizer/*",
    "qformer_tokenizer/additional_chat_templates/*",
)
ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


def is_id(name: str | os.PathLike) -> bool:
    """Return whether a name could be a Hub id: owner/name, or owner/name@revision."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w.-]+)?", str(name)) is not None


def weights_folder(
    path_or_id: str | os.PathLike,
    *,
    fetch: bool = True,
    check: Callable[[Path], object] = lambda folder: None,
) -> Path:
    """Return the folder of a backbone: the path itself, or that of a Hub id in the Hub's cache.

    With `fetch`, what the cache lacks is fetched: the configuration, and the rest unless `check`
    raises UserError for its folder. Raises UserError for what is not available.
    """
    folder = Path(path_or_id)
    if not folder.is_dir():
        if not is_id(path_or_id):
            raise UserError(f"there is no backbone at {path_or_id}; give a folder or a Hub id")
        folder = _from_hub(str(path_or_id), check if fetch else None)
    refuse_adapter(folder)
    return folder


def _from_hub(hub_id: str, check: Callable[[Path], object] | None) -> Path:
    """Return the folder of a Hub id in the cache, complete; without a check as it is there."""
    from huggingface_hub import hf_hub_download, is_offline_mode, snapshot_download

    name, _, tag = hub_id.partition("@")
    revision = tag or None
    try:
        if check is None:
            return Path(snapshot_download(name, revision=revision, local_files_only=True))
        # Offline, older versions of huggingface_hub ask the Hub for a commit all the same.
        options = {"revision": revision, "local_files_only": is_offline_mode()}
        config = Path(hf_hub_download(name, "config.json", **options))
        try:
            check(config.parent)
        except UserError as error:
            raise UserError(str(error).replace(str(config.parent), hub_id)) from error
        patterns = [*FILES, *ADAPTER[:1]]  # the latter to be refused
        return Path(snapshot_download(name, allow_patterns=patterns, **options))
    except UserError:
        raise
    # Whatever the network, the Hub or its cache raise.
    except Exception as error:
        raise UserError(
            f"{hub_id} is not in the Hub's cache; get it by `hf download {name}`"
            if check is None
            else f"{hub_id} is neither a folder nor a backbone that could be fetched from the Hub: "
            f"{_reason(error, name, revision)}"
        ) from error


def _reason(error: BaseException, name: str, revision: str | None) -> str:
    """Describe why nothing could be fetched, and the remedy."""
    import huggingface_hub.constants as hub
    from huggingface_hub import errors

    causes = causes_of(error)
    page = f"{hub.ENDPOINT}/{name}"
    mirror = f" (HF_ENDPOINT is {hub.ENDPOINT})" if "HF_ENDPOINT" in os.environ else ""
    answer = next((c for c in causes if isinstance(c, errors.HfHubHTTPError)), None)
    status = getattr(getattr(answer, "response", None), "status_code", None)

    def raised(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if raised(errors.OfflineModeIsEnabled) or (hub.HF_HUB_OFFLINE and status is None):
        return (
            "it is not in the Hub's cache and HF_HUB_OFFLINE is set; unset it, or get the model "
            f"by `hf download {name}` where there is a network"
        )
    if reason := write_error_reason(error):
        return f"the Hub's cache {hub.HF_HUB_CACHE} cannot be written ({reason}); set HF_HOME"
    answers = {
        errors.GatedRepoError: f"it is gated; accept its licence at {page} and log in by "
        f"`hf auth login`{mirror}",
        errors.DisabledRepoError: f"the Hub has disabled it; see {page}{mirror}",
        errors.RevisionNotFoundError: f"there is no revision {revision or 'main'} of it; see "
        f"{page}{mirror}",
        errors.RepositoryNotFoundError: "there is no such model, or it is private; check the name, "
        f"and log in by `hf auth login` if it is private{mirror}",
        errors.RemoteEntryNotFoundError: "it has no config.json, so it is no model that "
        f"transformers loads; check the name, or give the folder of a converted copy{mirror}",
    }
    for kind, sentence in answers.items():
        if raised(kind):
            return sentence
    if status in (401, 403):
        return (
            f"access was refused ({status}); log in by `hf auth login` with a token that may "
            f"read {page}{mirror}"
        )
    if status == 404:
        return f"there is no such model or revision; check the name{mirror}"
    if status is not None:
        return f"the Hub answered {status}; try again later{mirror}"
    kinds = [type(cause).__name__ for cause in causes]
    if re.search("Timeout|Connect|Network|Proxy", " ".join(kinds)):
        return (
            f"{hub.ENDPOINT} cannot be reached ({kinds[-1]}); check the network and HF_ENDPOINT, "
            "or give the folder of a downloaded copy"
        )
    return f"{kinds[-1]}; check the name, or give the folder of a downloaded copy{mirror}"


def refuse_adapter(folder: Path) -> None:
    """Raise UserError for a folder with an adapter, which transformers would apply silently."""
    for name in ADAPTER:
        if (folder / name).exists():
            raise UserError(
                f"{folder} holds an adapter ({name}), and C3L scores and trains whole weights; "
                "merge it first: move its adapter_* files to a folder ADAPTER of their own, run "
                'python -c "from transformers import AutoModelForImageTextToText as M; from peft '
                "import PeftModel as P; P.from_pretrained(M.from_pretrained('BASE'), 'ADAPTER')"
                ".merge_and_unload().save_pretrained('OUT')\" with BASE its backbone, and copy "
                "BASE's tokenizer and processor files to OUT"
            )


def weight_files(folder: Path) -> list[Path]:
    """Return the files that make up a backbone, sorted."""
    return sorted({file for pattern in FILES for file in folder.glob(pattern) if file.is_file()})


def weight_names(folder: Path) -> list[str]:
    """Return their names below the folder."""
    return [file.relative_to(folder).as_posix() for file in weight_files(folder)]


def seal_weights(folder: Path) -> None:
    """Write the digests of a backbone's files beside them: damage else passes for another one."""
    write_digests(folder, weight_names(folder))


def check_seal(folder: Path) -> None:
    """Raise UserError for a backbone whose files do not match its seal, if it has one."""
    if (folder / SEAL).exists() and (damage := verify_digests(folder)):
        raise UserError(
            f"The backbone in {folder} is damaged: {damage} ({SEAL} keeps the digests). Get it "
            f"again; or, if it was edited on purpose, remove {folder / SEAL}, and it is a backbone "
            "of its own."
        )


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
            raise UserError(f"{index} names {short_repr(name)}, which is no file beside it")
        if index.name.endswith("safetensors.index.json") and not name.endswith(".safetensors"):
            raise UserError(f"{index} names {short_repr(name)}, which is no safetensors file")
    return [index.with_name(name) for name in sorted(names)]
