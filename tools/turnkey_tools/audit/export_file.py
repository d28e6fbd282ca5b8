"""Reads an export line by line, in memory of one line. Believes nothing: what does not fit is said, not raised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from turnkey.notary.export import ExportEnd, ExportHead
from turnkey.notary.ledger import HASH_BYTES, leaf_hash, node_hash

MAX_LINE: Final = 64 * 1024


class NotAnExport(ValueError):
    """The file does not begin as an export does; there is nothing to audit."""


@dataclass
class GrowingTree:
    """`turnkey.notary.ledger.Frontier`, grown in place: an audit adds a million leaves."""

    size: int = 0
    roots: list[bytes] = field(default_factory=list)

    def append(self, entry: bytes) -> None:
        """One more entry."""
        hashed, size = leaf_hash(entry), self.size
        while size & 1:
            hashed = node_hash(self.roots.pop(), hashed)
            size >>= 1
        self.roots.append(hashed)
        self.size += 1

    def root(self) -> bytes:
        """RFC 9162 root hash, 32 bytes; of at least one entry."""
        root = self.roots[-1]
        for left in reversed(self.roots[:-1]):
            root = node_hash(left, root)
        return root


class ExportFile:
    """An export at `path`, opened to be read once.

    Attributes:
        head: the first line.
        end: the last line, once `entries` has come to it; None where the file has none.

    Raises:
        NotAnExport: it does not begin as one.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.end: ExportEnd | None = None
        try:
            self.head = ExportHead.model_validate_json(self._file.readline(MAX_LINE))
            roots = [bytes.fromhex(root) for root in self.head.roots]
            if len(roots) != self.head.first.bit_count() or any(len(root) != HASH_BYTES for root in roots):
                raise NotAnExport(f"{path}: the tree in front of entry {self.head.first} is none")
        except ValidationError as error:
            self._file.close()
            raise NotAnExport(f"{path}: not an export of a ledger; make one with `turnkey ledger export`") from error
        except NotAnExport:
            self._file.close()
            raise
        self.tree = GrowingTree(self.head.first, roots)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._file.close()

    def entries(self) -> Iterator[bytes]:
        """The entries' bytes, as many as the file says or has."""
        with self._file:
            for _ in range(self.head.size - self.head.first):
                line = self._file.readline(MAX_LINE)
                if not line.endswith(b"\n") or line.startswith(b'{"checkpoint"'):
                    return
                yield line[:-1]
            try:
                self.end = ExportEnd.model_validate_json(self._file.readline(MAX_LINE))
            except ValidationError:
                return
            if self._file.read(1):
                self.end = None
