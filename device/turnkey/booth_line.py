"""The line to the booth's process, on which commands and the console ask it for something."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from turnkey.interlock.lease import connect


class BoothUnreachable(Exception):
    """The booth does not answer; the message says what to do."""


@contextmanager
def line_to_booth(path: Path, silence_s: float) -> Iterator[socket.socket]:
    """A connection to the booth's socket at `path`; what is asked, and how the answer is read, is the caller's.

    Raises:
        BoothUnreachable: it is not there, said nothing for so many seconds, or ended before it answered.
    """
    try:
        with connect(path) as connection:
            connection.settimeout(silence_s)
            yield connection
    except (OSError, ValidationError) as error:
        raise BoothUnreachable(
            f"the booth does not answer at {path} ({error or type(error).__name__}): recognition is stopped, "
            "or its process has ended"
        ) from error
