"""Files of records as plain values, whatever the records mean: JSONL, JSON, parquet, data sets.

A file that is damaged as a whole is an error here; a record that is odd in itself is not.
"""

import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c3l.runtime import hub, parsing
from c3l.runtime.errors import UserError, printable, short_repr

if TYPE_CHECKING:
    import pyarrow

    from c3l.data.embedded import EmbeddedImages

SUFFIXES = (".jsonl", ".json", ".parquet")
JSON_COLUMNS = frozenset({"meta", "history"})
"""Of our own tables: parquet wants one type a column, and these hold anything."""


@dataclass(frozen=True)
class Raw:
    """The records of a source, each with its place in it."""

    name: str
    """The source, for sentences about it."""
    stem: str
    """What records without a name of their own are named after."""
    records: list[tuple[str, Any]]
    """Each with its place within the source, such as "line 3"."""
    published: bool
    """All records are in a layout of other projects, as in JSON."""
    images: "EmbeddedImages | None" = None


def read_file(source: str | os.PathLike, embedded: bool = False) -> Raw:
    """Return the records of a .jsonl, .json or .parquet file.

    With `embedded`, names take the place of pictures that lie in a parquet file. Raises UserError
    for a file that is missing, damaged or of another format.
    """
    location = printable(str(path := Path(source)))
    if path.suffix not in SUFFIXES:
        raise UserError(f"{location}: unknown format; use a name ending in {', '.join(SUFFIXES)}")
    try:
        if path.suffix == ".parquet":
            return _read_parquet(path, embedded)
        records = _read_jsonl(path) if path.suffix == ".jsonl" else _read_json(path)
    except FileNotFoundError:
        raise UserError(f"{location} does not exist; give a file of samples") from None
    except OSError as error:
        raise UserError(
            f"{location} cannot be read ({error.strerror or first_line(error)})"
        ) from error
    return Raw(str(path), path.stem, records, path.suffix == ".json")


def is_dataset(source: str | os.PathLike) -> bool:
    """Return whether a source is a folder of data or could be a data set of the Hub, not a file."""
    path, _ = _split_named(str(source))
    if path.suffix in SUFFIXES:
        return False
    return path.is_dir() or (hub.is_id(str(path)) and not path.exists())


def read_dataset(source: str) -> Raw:
    """Return the records of a folder that `datasets` reads, or of a Hub id, each with ":split"
    behind it where there are several.

    Raises UserError for what it cannot read, and where the split is not clear.
    """
    name, split = _split_named(source)
    try:
        dataset = _load(name)
    # Whatever the network, the Hub, its cache or a damaged folder raise.
    except Exception as error:
        kind = "no folder of data" if name.is_dir() else "not there, nor a data set of the Hub"
        raise UserError(
            f"{printable(source)} is {kind} that can be read ({type(error).__name__}); check the "
            "name, or download the data and give their file or folder"
        ) from error
    if isinstance(dataset, dict):
        names = list(dataset)
        split = split or ("train" if "train" in names or len(names) != 1 else names[0])
        if split not in names:
            raise UserError(
                f"{printable(source)} has the splits {printable(', '.join(names))}; give one, as "
                f"{printable(str(name))}:SPLIT"
            )
        dataset = dataset[split]
    records, images = _rows(dataset.with_format("arrow")[:], embedded=True)
    return Raw(source, name.name.partition("@")[0], records, False, images)


def read_json(text: str, location: str) -> Any:
    """Return the value of a JSON text. Raises UserError naming its `location`."""
    try:
        value = parsing.from_json(text)
        parsing.check_depth(value)
        return value
    except ValueError as error:
        raise UserError(f"{location}: {error}") from error


def first_line(error: Exception) -> str:
    """Return the first line of a library's message, which may go on for pages."""
    return short_repr(str(error).strip().partition("\n")[0])


def _read_jsonl(path: Path) -> list[tuple[str, Any]]:
    records = []
    # As bytes, so that a line that is no text has a number, and because only "\n" ends a line:
    # JSON strings may hold the other separators Python would split at.
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            location = f"{printable(str(path))}, line {number}"
            if text := _text(line, location, first=number == 1).strip():
                records.append((f"line {number}", read_json(text, location)))
    return records


def _read_json(path: Path) -> list[tuple[str, Any]]:
    location = printable(str(path))
    records = read_json(_text(path.read_bytes(), location), location)
    if not isinstance(records, list):
        names = printable(", ".join(map(str, records))) if isinstance(records, dict) else ""
        kind = f"an object ({names})" if names else short_repr(records)
        raise UserError(
            f"{location}: expected a list of LLaVA records, not {kind} (docs/scores.md)"
        )
    return [(f"record {number}", record) for number, record in enumerate(records, 1)]


def _text(content: bytes, location: str, *, first: bool = True) -> str:
    """Decode UTF-8; a file may begin with the mark that some editors put there."""
    try:
        return content.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{location}: not UTF-8 text; save the file as UTF-8") from error


def _read_parquet(path: Path, embedded: bool) -> Raw:
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path).read()
        records, images = _rows(table, embedded)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise UserError(
            f"{printable(str(path))} is not a whole parquet file ({first_line(error)})"
        ) from error
    if not embedded:
        for place, row in records:
            for name, text in _json_cells(row):
                row[name] = read_json(text, f"{printable(str(path))}, {place}, field {name}")
    return Raw(str(path), path.stem, records, False, images)


def _rows(
    table: "pyarrow.Table", embedded: bool
) -> "tuple[list[tuple[str, Any]], EmbeddedImages | None]":
    """Return the rows of a table as they are; with `embedded`, as JSON has them, names in place of
    the pictures in them, and these pictures."""
    if not embedded:
        return [(f"row {number}", row) for number, row in enumerate(table.to_pylist(), 1)], None
    from c3l.data.embedded import EmbeddedImages

    images = EmbeddedImages(table)
    records = []
    for batch in table.to_batches(max_chunksize=256):  # pictures of few rows at a time
        for row in batch.to_pylist():
            named = images.replace_by_names(row, len(records))
            plain = _to_plain(named)
            for name, text in _json_cells(plain):
                with suppress(UserError):  # other projects may have other texts in such a column
                    plain[name] = read_json(text, name)
            records.append((f"row {len(records) + 1}", plain))
    return records, images if images.names() else None


def _json_cells(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, row[name]) for name in JSON_COLUMNS & row.keys() if isinstance(row[name], str)]


def _to_plain(value: Any) -> Any:
    """Return a value of a table as JSON has it: no picture, no date, no number that is none."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {str(name): _to_plain(part) for name, part in value.items()}
        case list() | tuple():
            return [_to_plain(part) for part in value]
        case bytes():
            return None
    return str(value)


def _split_named(source: str) -> tuple[Path, str]:
    """Return the name and the split of a data set: "owner/name:split"."""
    if Path(source).exists():
        return Path(source), ""
    name, _, split = source.partition(":")
    return Path(name), split


def _load(name: Path) -> Any:
    """Return a `Dataset`, or a dictionary of them by split."""
    import datasets

    if any((name / file).is_file() for file in ("dataset_dict.json", "state.json")):
        return datasets.load_from_disk(str(name))
    if name.is_dir():
        return datasets.load_dataset(str(name))
    path, _, revision = str(name).partition("@")
    return datasets.load_dataset(path, revision=revision or None)
