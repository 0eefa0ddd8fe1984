"""VLIT samples and their files: JSONL, JSON as others publish it, parquet.

Readers are strict: what cannot be understood is an error that names file, place and field.
Writers are atomic: a file is the old one or the whole new one, never a part.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from c3l import layouts, strict
from c3l.errors import UserError, brief, told
from c3l.images import ImageFolder
from c3l.instructions import CLASSES
from c3l.left_out import LeftOut

__all__ = ["Data", "ImageFolder", "Sample", "read_data", "read_records", "read_samples"]
__all__ += ["write_samples"]


@dataclass(frozen=True)
class Sample:
    """A question about an image and its answer.

    `image` is a path relative to an ImageFolder. `instruction` is one of
    `c3l.instructions.CLASSES`, or "" for data of other origin. `meta` is JSON-like and travels
    with the sample unread.
    """

    id: str
    image: str
    question: str
    answer: str
    instruction: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


_FIELDS = tuple(f.name for f in fields(Sample))
_REQUIRED = ("id", "image", "question", "answer")
EXTRAS = ("caption", "i2c", "tokens", "unscored")
"""What is said of a generated or scored sample, in `meta`. In JSONL and parquet they may be fields
beside the sample's own (`c3l.scored`)."""


@dataclass
class Data:
    """Data as people have it: its samples, and what of it cannot be one."""

    samples: list[Sample]
    left_out: list[LeftOut] = field(default_factory=list)
    images: ImageFolder | None = None
    """What serves the pictures that lie in the data themselves; None where there are none."""


def read_data(source: str | os.PathLike, *, strict: bool = False) -> Data:
    """Return the samples of a file, a `datasets` folder or a Hub id, and what cannot be a sample.

    With `strict` the first record that cannot be a sample is an error. Raises UserError for what
    cannot be read at all.
    """
    return Data(read_samples(source))


def read_samples(path: str | os.PathLike) -> list[Sample]:
    """The samples of a .jsonl, .json (a published layout) or .parquet file, in its order.

    The layouts of JSON, and how a conversation becomes one sample a turn: c3l.layouts. Raises
    UserError naming file, line or record, and field.
    """
    return [sample for record in read_records(path) for sample in record]


def read_records(path: str | os.PathLike) -> list[list[Sample]]:
    """As `read_samples`, the turns of each record together; in JSONL and parquet all are single."""
    path = Path(path)
    reader = _by_suffix(path, _READERS)
    try:
        return reader(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; give a file of samples") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or _line(error)})") from error


def write_samples(path: str | os.PathLike, samples: Iterable[Sample]) -> None:
    """Write samples in the format of the suffix, whole or not at all.

    In LLaVA JSON `meta` becomes further fields of the record, as `read_samples` found them.
    Raises UserError if the file cannot be written.
    """
    path = Path(path)
    writer = _by_suffix(path, _WRITERS)
    samples = list(samples)
    try:
        # In the same folder, because only a rename within one file system is atomic.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error})") from error
    try:
        with open(handle, "wb") as file:
            writer(file, samples)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files for their owner alone; a data set is for whom the umask says.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written ({error.strerror or error})") from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _by_suffix(path: Path, table: dict[str, Callable]) -> Callable:
    if path.suffix not in table:
        raise UserError(f"{path}: unknown format; use a name ending in {', '.join(table)}")
    return table[path.suffix]


def _sample(record: Any, where: str) -> Sample:
    """A checked sample from a mapping of its fields."""
    if not isinstance(record, dict):
        raise UserError(f"{where}: expected an object with the fields {', '.join(_FIELDS)}")
    extras = {name: record[name] for name in EXTRAS if record.get(name) is not None}
    record = {name: value for name, value in record.items() if name not in EXTRAS}
    if extras and isinstance(record.get("meta", {}), dict):
        record["meta"] = record.get("meta", {}) | extras
    for name in record:
        if name not in _FIELDS:
            raise UserError(f"{where}, field {told(name)}: unknown; put other fields into meta")
    for name in _REQUIRED:
        if name not in record:
            raise UserError(f"{where}, field {name}: missing")
    for name, value in record.items():
        expected = dict if name == "meta" else str
        if not isinstance(value, expected):
            got = brief(value)
            raise UserError(f"{where}, field {name}: expected {expected.__name__}, got {got}")
        try:
            strict.check_plain(value)
        except ValueError as error:
            raise UserError(f"{where}, field {name}: {error}") from error
    if record.get("instruction") not in (None, "", *CLASSES):
        raise UserError(f"{where}, field instruction: none of {', '.join(CLASSES)}")
    return Sample(**record)


def _read_jsonl(path: Path) -> list[list[Sample]]:
    records = []
    # As bytes, so that a line that is no text has a number, and because only "\n" ends a line:
    # JSON strings may hold the other separators Python would split at.
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number}"
            if text := _text(line, where, first=number == 1).strip():
                records.append([_sample(_json(text, where), where)])
    return records


def _write_jsonl(file, samples: list[Sample]) -> None:
    for sample in samples:
        file.write(json.dumps(vars(sample), ensure_ascii=False).encode() + b"\n")


def _text(content: bytes, where: str, *, first: bool = True) -> str:
    """Bytes as UTF-8; what a file begins with may be the mark that some editors put there."""
    try:
        return content.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 text; save the file as UTF-8") from error


def _json(text: str, where: str) -> Any:
    try:
        return strict.from_json(text)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def _read_json(path: Path) -> list[list[Sample]]:
    records = _json(_text(path.read_bytes(), str(path)), str(path))
    if not isinstance(records, list):
        raise UserError(f"{path}: expected a list of LLaVA records")
    found = []
    for number, record in enumerate(records, 1):
        where = f"{path}, record {number}"
        made = layouts.turns(record, number, path.stem, where)
        found.append([_sample(fields_, where) for fields_ in made])
    return found


def _write_llava(file, samples: list[Sample]) -> None:
    records = []
    for sample in samples:
        record = {
            "id": sample.id,
            "image": sample.image,
            "conversations": [
                {"from": "human", "value": f"{layouts.PLACEHOLDER}\n{sample.question}"},
                {"from": "gpt", "value": sample.answer},
            ],
        }
        if taken := record.keys() & sample.meta.keys():
            raise UserError(f"sample {sample.id}: meta may not hold {', '.join(sorted(taken))}")
        if sample.instruction:
            record["instruction"] = sample.instruction
        records.append(sample.meta | record)
    file.write(json.dumps(records, ensure_ascii=False, indent=1).encode() + b"\n")


def _read_parquet(path: Path) -> list[list[Sample]]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a whole parquet file ({_line(error)})") from error
    records = []
    for number, row in enumerate(rows, 1):
        where = f"{path}, row {number}"
        if isinstance(row.get("meta"), str):
            row["meta"] = _json(row["meta"], f"{where}, field meta")
        records.append([_sample(row, where)])
    return records


def _line(error: Exception) -> str:
    """The first line of what a library says, which may go on for pages."""
    return brief(str(error).strip().partition("\n")[0])


def _write_parquet(file, samples: list[Sample]) -> None:
    import pyarrow
    import pyarrow.parquet

    # meta as JSON text: parquet wants one type a column, and meta is anything.
    rows = [vars(sample) | {"meta": json.dumps(sample.meta)} for sample in samples]
    schema = pyarrow.schema([(name, pyarrow.string()) for name in _FIELDS])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), file)


_READERS = {".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet}
_WRITERS = {".jsonl": _write_jsonl, ".json": _write_llava, ".parquet": _write_parquet}
