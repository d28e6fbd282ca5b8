"""Encrypted snapshots of a scan matrix, so that a start need not open millions of rows.

    magic, header length, header (JSON), one sealed chunk a block

A snapshot is a cache. Rules kept here:
1. Written whole or not at all: a temporary file, fsync, rename, fsync of the directory.
2. Each chunk is bound to the header and to its place: one from another file, another partition or another model does
   not open. One flipped byte anywhere, or a missing end, and the whole snapshot is set aside.
3. Opened into `SecretMemory`, sealed out of it, and plain nowhere else.
4. A snapshot that may hold an expunged row is deleted before the row is.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from pydantic import BaseModel, ConfigDict, ValidationError

from turnkey.database import StorageError, StorageFull
from turnkey.gallery.scan import BLOCK_ROWS, Block, ScanMatrix
from turnkey.gallery.sealing import OVERHEAD_BYTES, Sealer

_MAGIC = b"TKSNAP1\n"
_LENGTH = struct.Struct(">I")
_MAX_HEADER_BYTES = 1 << 16
_SUFFIX = ".scan"
_UNFINISHED = ".new"


class Header(BaseModel):
    """What a snapshot is of. Readable without the key; believed only once the chunks open.

    Attributes:
        partition, model_id: whose templates.
        key_number: which key sealed it.
        newest: the highest row number in it.
        residual: see `ScanMatrix.residual`.
        block_rows: rows a block has room for.
        used: rows used in each block.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: str
    model_id: str
    key_number: int
    newest: int
    residual: float
    block_rows: int
    used: tuple[int, ...]


class Unusable(Exception):
    """This snapshot cannot be used; the message says why. The rows are the truth: build from them."""


class Snapshots:
    """The snapshots of one partition beside the gallery at `path`."""

    def __init__(self, path: Path, partition: str) -> None:
        self._folder = path.parent
        self._stem = f"{path.name}.{partition}."
        self._partition = partition

    def files(self) -> list[Path]:
        """The snapshots there are, newest first."""
        return sorted(self._folder.glob(f"{self._stem}*{_SUFFIX}"), reverse=True)

    def _unfinished(self) -> list[Path]:
        """What a killed process left."""
        return list(self._folder.glob(f"{self._stem}*{_UNFINISHED}"))

    def write(
        self, matrix: ScanMatrix, sealer: Sealer, key_number: int, model_id: str, check: Callable[[], None]
    ) -> Path:
        """Write a snapshot, then delete those before it.

        Args:
            check: called between blocks; what it raises ends the writing, and the older snapshots stay.

        Raises:
            StorageFull: disk full or failing; the older snapshots stay.
        """
        self._delete(self._unfinished())
        older = self.files()
        number = int(older[0].name[len(self._stem) : -len(_SUFFIX)]) + 1 if older else 1
        path = self._folder / f"{self._stem}{number:012d}{_SUFFIX}"
        header = Header(
            partition=self._partition,
            model_id=model_id,
            key_number=key_number,
            newest=matrix.newest,
            residual=matrix.residual,
            block_rows=BLOCK_ROWS,
            used=tuple(block.used for block in matrix.blocks),
        )
        try:
            write_whole(path, self._pieces(header, matrix, sealer, check))
        except OSError as error:
            raise StorageFull("disk", f"{path}: {error.strerror}") from error
        self._delete(older)
        return path

    @staticmethod
    def _pieces(header: Header, matrix: ScanMatrix, sealer: Sealer, check: Callable[[], None]) -> Iterator[bytes]:
        text = header.model_dump_json().encode()
        yield headed(text)
        for place, block in enumerate(matrix.blocks):
            check()
            with block.plain() as plain:
                sealed = sealer.seal(plain, _bound(text, place))
            yield sealed

    def load(self, path: Path, sealer: Sealer, key_number: int, model_id: str, check: Callable[[], None]) -> ScanMatrix:
        """Open a snapshot.

        Raises:
            Unusable: damaged, cut short, or of something else.
        """
        matrix = ScanMatrix()
        try:
            with path.open("rb", buffering=0) as file:
                text = header_text(file.read)
                header = Header.model_validate_json(text)
                self._check(header, key_number, model_id)
                for place, used in enumerate(header.used):
                    check()
                    sealed = file.read(Block.BYTES + OVERHEAD_BYTES)
                    block = Block()
                    with block.memory.view(0, Block.BYTES) as into:
                        sealer.open_into(sealed, _bound(text, place), into)
                    block.used = used
                    matrix.adopt(block, header.residual)
                if file.read(1):
                    raise Unusable(f"{path.name}: longer than it says")
        except InvalidTag:
            matrix.wipe()
            raise Unusable(f"{path.name}: changed, cut short or sealed with another key") from None
        except (OSError, ValidationError) as error:
            matrix.wipe()
            raise Unusable(f"{path.name}: {type(error).__name__}") from error
        except BaseException:
            matrix.wipe()
            raise
        return matrix

    def _check(self, header: Header, key_number: int, model_id: str) -> None:
        ours = (self._partition, model_id, key_number, BLOCK_ROWS)
        if (header.partition, header.model_id, header.key_number, header.block_rows) != ours:
            raise Unusable("a snapshot of another partition, model or key")
        if not all(0 < used <= BLOCK_ROWS for used in header.used):
            raise Unusable("a snapshot with impossible counts")

    def forget(self, row: int) -> bool:
        """Delete every snapshot that may hold a row, before the row itself is deleted. True where there was one.

        Raises:
            StorageError: one cannot be deleted; expunge nothing.
        """
        holding = [path for path in self.files() if _newest(path) >= row] + self._unfinished()
        self._delete(holding)
        return bool(holding)

    def _delete(self, paths: list[Path]) -> None:
        if not paths:
            return
        try:
            for path in paths:
                path.unlink(missing_ok=True)
            sync_folder(self._folder)
        except OSError as error:
            raise StorageError("unwritable", f"{error.filename}: {error.strerror}") from error


def write_whole(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: disk full or failing; what was at `path` stays.
    """
    temporary = path.with_suffix(_UNFINISHED)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            for piece in pieces:
                _write_all(descriptor, piece)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)  # noqa: PTH105 - the tests inject faults into these calls
        sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def headed(text: bytes) -> bytes:
    """The start of a snapshot with this header."""
    return _MAGIC + _LENGTH.pack(len(text)) + text


def header_text(read: Callable[[int], bytes]) -> bytes:
    """Read the header from a snapshot's start.

    Raises:
        Unusable: it has none.
    """
    start = read(len(_MAGIC) + _LENGTH.size)
    if not start.startswith(_MAGIC) or len(start) != len(_MAGIC) + _LENGTH.size:
        raise Unusable("not a snapshot")
    (length,) = _LENGTH.unpack(start[len(_MAGIC) :])
    if length > _MAX_HEADER_BYTES:
        raise Unusable("a header that is too long")
    return read(length)


def _newest(path: Path) -> float:
    """The highest row a snapshot may hold, by its own word; a file that does not say may hold any."""
    try:
        with path.open("rb", buffering=0) as file:
            return Header.model_validate_json(header_text(file.read)).newest
    except (OSError, Unusable, ValidationError):
        return float("inf")


def _bound(header: bytes, place: int) -> bytes:
    return b"turnkey snapshot 1" + hashlib.sha256(header).digest() + place.to_bytes(4, "big")


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
