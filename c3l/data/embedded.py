"""Pictures that lie in the data themselves, as data sets of the Hub have them."""

import hashlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache, cached
from PIL import Image

from c3l.data.images import ImageFolder, picture_bytes
from c3l.runtime.errors import ImageError, printable, short_repr

if TYPE_CHECKING:
    import pyarrow

COLUMNS = ("image", "images")


class EmbeddedImages(ImageFolder):
    """The pictures in a table's rows, by name; behind them the images of a folder, if any.

    A cell is bytes, or a structure of `bytes` and `path` (the Image feature of `datasets`), or a
    list of these. The bytes stay in the table until a picture is asked for.
    """

    def __init__(self, table: "pyarrow.Table"):
        self._table = table
        self._cells: dict[str, tuple[str, int, int]] = {}  # column, row, place in its list
        self._digests: dict[str, str] = {}
        self._elsewhere = _names_without_bytes(table)
        self._folder: ImageFolder | None = None
        self._cached_open = cached(LRUCache(2**28, getsizeof=picture_bytes))(self._open)
        self._animated: set[str] = set()

    def with_folder(self, folder: str | Path | None) -> "EmbeddedImages":
        """Look in this folder, if one is given, for pictures that are not in the data."""
        self._folder = None if folder is None else ImageFolder(folder)
        return self

    def names(self) -> list[str]:
        """Return the names of the pictures in the data, in sorted order."""
        return sorted(self._cells)

    def digest(self, name: str) -> str | None:
        """Return the sha256 of a picture's bytes, or None where there is no such picture."""
        if name in self._digests or self._folder is None:
            return self._digests.get(name)
        return self._folder.digest(name)

    def replace_by_names(self, row: dict[str, Any], number: int) -> dict[str, Any]:
        """Return the `number`th row with a name in place of each picture in it."""
        return row | {
            column: [self._name(part, column, number, k) for k, part in enumerate(row[column])]
            if isinstance(row[column], list)
            else self._name(row[column], column, number, 0)
            for column in COLUMNS
            if column in row
        }

    def _name(self, cell: Any, column: str, row: int, place: int) -> Any:
        content, name = _parts(cell)
        if content is None:
            return cell if name is None else name
        suffix = f"-{place + 1}" if place else ""
        name, digest = name or f"row-{row + 1}{suffix}", hashlib.sha256(content).hexdigest()
        # Another picture has the same name, here or in the folder.
        if name in self._elsewhere or self._digests.get(name, digest) != digest:
            name = f"row-{row + 1}{suffix}-{name}"
        self._cells.setdefault(name, (column, row, place))
        self._digests.setdefault(name, digest)
        return name

    def _open(self, name: str) -> Image.Image:
        if name not in self._cells:
            if self._folder is not None:
                return self._folder[name]
            raise ImageError(
                f"image {printable(name)} is not in the data; give the folder that holds the "
                "images",
                "image_missing",
            )
        column, row, place = self._cells[name]
        cell = self._table[column][row].as_py()
        content, _ = _parts(cell[place] if isinstance(cell, list) else cell)
        try:
            return self._decoded(_Picture(content, name), name)
        except ImageError:
            raise
        # Pillow's decoders raise anything for damaged pictures (`ImageFolder`).
        except Exception as error:
            raise ImageError(
                f"image {printable(name)} in the data cannot be read ({short_repr(str(error))})",
                "image_unreadable",
            ) from error


class _Picture(BytesIO):
    """The bytes of a picture as a file, which sentences call by its name."""

    def __init__(self, content: bytes, name: str):
        super().__init__(content)
        self._name = name

    def __str__(self) -> str:
        return self._name


def _names_without_bytes(table: "pyarrow.Table") -> set[str]:
    """Return the paths of pictures that cells name and do not hold."""
    from pyarrow import compute, types

    names: set[str] = set()
    for column in [table[name] for name in COLUMNS if name in table.column_names]:
        if types.is_list(column.type) or types.is_large_list(column.type):
            column = compute.list_flatten(column)
        if not types.is_struct(column.type):
            continue
        fields = {column.type.field(k).name for k in range(column.type.num_fields)}
        if {"bytes", "path"} <= fields:
            empty = compute.is_null(compute.struct_field(column, "bytes"))
            names.update(compute.struct_field(column, "path").filter(empty).to_pylist())
    return names


def _parts(cell: Any) -> tuple[bytes | None, str | None]:
    """Return a picture's bytes and its name, each None where the cell has none."""
    if isinstance(cell, bytes):
        return cell, None
    if not isinstance(cell, dict):
        return None, None
    content, name = cell.get("bytes"), cell.get("path")
    content = content if isinstance(content, bytes) else None
    return content, name if isinstance(name, str) and name else None
