"""Digests of values and files, and files that are written whole or not at all."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def digest(value: Any) -> str:
    """sha256 of a JSON value in canonical form (sorted keys, no spaces, no NaN)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def without_infinities(value: Any) -> Any:
    """Return the value with null in place of every number that JSON cannot hold."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {name: without_infinities(part) for name, part in value.items()}
        case list() | tuple():
            return [without_infinities(part) for part in value]
    return value


def json_lines(records: Iterable[Any]) -> bytes:
    """Return JSONL of the records. What UTF-8 cannot hold stays the escape that it was."""
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    return "".join(lines).encode("utf-8", "backslashreplace")


def json_list(records: Iterable[Any]) -> bytes:
    """Return the JSON list of the records. What UTF-8 cannot hold stays the escape that it was."""
    text = json.dumps(list(records), ensure_ascii=False, indent=1)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(folder: Path, names: Iterable[str] | None = None) -> dict[str, str]:
    """The digest of each file below a folder (all, or the named ones), by name."""
    if names is None:
        names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    return {name: digest_file(folder / name) for name in names}


def digest_files(folder: Path, names: Iterable[str] | None = None) -> str:
    """One digest for files below a folder (all, or the named ones): their names and bytes."""
    return digest(digests(folder, names))


def first_difference(folder: Path, expected: dict[str, str]) -> str | None:
    """Describe the first file whose digest does not match, or return None."""
    for name, digest in expected.items():
        try:
            if digest_file(folder / name) != digest:
                return f"{name} does not match its digest"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def write_checked(path: Path, value: dict) -> None:
    """Write JSON together with its own digest, atomically; numbers that are not finite are null."""
    # As it will be read: keys are text.
    value = json.loads(json.dumps(without_infinities(value), allow_nan=False))
    write_atomically(path, json.dumps(value | {"seal": digest(value)}, indent=1))


def read_checked(path: Path) -> dict | None:
    """Return what `write_checked` wrote, or None when the file is absent or damaged."""
    try:
        value = json.loads(path.read_bytes())
        seal = value.pop("seal")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return value if seal == digest(value) else None


SEAL = "seal.json"


def write_digests(folder: Path, names: Iterable[str] | None = None) -> None:
    """Write the digests of a folder's files (all, or the named ones) beside them, durably."""
    (folder / SEAL).unlink(missing_ok=True)
    files = digests(folder, names)
    fsync_tree(folder)
    write_checked(folder / SEAL, {"files": files})


def verify_digests(folder: Path) -> str | None:
    """Describe the first damage in a folder that `write_digests` sealed, or return None."""
    if (sealed := read_checked(folder / SEAL)) is None:
        return f"{SEAL} does not match its digest"
    return first_difference(folder, sealed["files"])


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that after any crash it holds the old content or the new one."""
    with atomic_path(path) as work:
        work.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path to write to in place of `path`, which then holds the old content or the new.

    The temporary name is fixed: the next write replaces what a crash left; two writers need a lock.
    """
    work = path.with_name(f".tmp-{path.name}")
    try:
        yield work
        fsync_tree(work)
        os.replace(work, path)
    except BaseException:
        if work.is_dir():
            shutil.rmtree(work, ignore_errors=True)
        else:
            work.unlink(missing_ok=True)
        raise
    fsync(path.parent)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill in place of `folder`, which is empty or absent until it is done."""
    with atomic_path(folder) as work:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        yield work


def fsync_tree(folder: Path) -> None:
    """Bring a file, or a folder with all that is below it, to the disk."""
    for path in [*folder.rglob("*"), folder]:
        fsync(path)


def fsync(path: Path) -> None:
    """Bring a file's contents, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
