"""The ways by which an update comes: HTTPS from one server, or a stick. Both are TUF fetchers, and decide nothing.

What comes is believed by nobody until `client.py` has checked it, so that a server, a cache or whoever holds the stick
can at most withhold.

Rules kept here:
1. No file grows beyond the length that is asked for, and none beyond `Limits.most_bytes`.
2. A server that is too slow is given up; one that is fast is held to the share of the line that updates may take.
3. What came before a break is kept, and asked for no second time: the rest is fetched by range (RFC 9110, 14.2). Where
   that does not add up to the signed hash it is thrown away, and the next attempt begins at the beginning.
4. No proxy, no redirect, no other CA than the one that was provisioned, no environment variable.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import ssl
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol
from zipfile import BadZipFile
from zipfile import Path as ZipPath

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError, SlowRetrievalError
from tuf.ngclient import FetcherInterface

from turnkey.update.limits import Limits
from turnkey.update.refusals import UpdateError, UpdateReason

CHUNK_BYTES = 64 * 1024
STICK_URL = "stick:/"
UNREADABLE = (OSError, BadZipFile, EOFError, RuntimeError, zlib.error, lzma.LZMAError)
"""What reading a .zip can raise: damaged, cut off, encrypted, or packed in a way that Python does not know."""


class Clock(Protocol):
    """Time for the rate limits."""

    def monotonic(self) -> float:
        """Seconds."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Wait."""
        ...


def tls_context(ca: Path, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer, one CA, and this device's own certificate where the server asks for one.

    Raises:
        UpdateError: a file is missing or is none.
    """
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cafile=str(ca))
        if certificate is not None and key is not None:
            context.load_cert_chain(str(certificate), str(key))
    except (OSError, ssl.SSLError) as error:
        raise UpdateError(UpdateReason.UNREACHABLE, f"the update server's CA or this device's pair: {error}") from error
    return context


class HttpFetcher(FetcherInterface):
    """Fetches over HTTP(S).

    Args:
        partials: where broken downloads wait to be taken up again; None: they do not.
        limits: of length and rate.
        context: how the server is known; None where the address is plain HTTP.
        clock: for the rate limits.
        told: how much of a file is here, and of how much, in bytes.
    """

    def __init__(
        self,
        partials: Path | None,
        limits: Limits,
        context: ssl.SSLContext | None = None,
        clock: Clock = time,
        told: Callable[[int, int], None] = lambda _have, _length: None,
    ) -> None:
        self._partials = partials
        self._limits = limits
        self._clock = clock
        self._told = told
        timeout = urllib3.Timeout(connect=limits.patience_s, read=limits.patience_s)
        headers = {"User-Agent": "turnkey-update", "Accept-Encoding": "identity"}
        self._pool = urllib3.PoolManager(ssl_context=context, timeout=timeout, headers=headers)

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self._read(self._ask(url, 0))

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """A file object of the whole file, from what was kept and what is fetched now. As `FetcherInterface`'s."""
        if self._partials is None:
            with super().download_file(url, max_length) as file:
                yield file
            return
        if max_length > self._limits.most_bytes:
            raise DownloadLengthMismatchError(f"{max_length} bytes are more than this device takes")
        partial = self._partials / f"{hashlib.sha256(url.encode()).hexdigest()}.part"
        with _opened(partial) as file:
            self._complete(url, file, max_length)
            try:
                file.seek(0)
                yield file
            finally:
                # Taken over, or not what was signed: it is of no use any more.
                partial.unlink(missing_ok=True)

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Metadata: small, and never resumed. As `FetcherInterface`'s."""
        with super().download_file(url, min(max_length, self._limits.most_bytes)) as file:
            return bytes(file.read())

    def _complete(self, url: str, file: IO[bytes], length: int) -> None:
        for attempt in range(1, self._limits.attempts + 1):
            try:
                self._append(url, file, length)
                return
            except (DownloadLengthMismatchError, DownloadHTTPError):
                raise
            except (DownloadError, urllib3.exceptions.HTTPError, OSError) as error:
                file.flush()
                if attempt == self._limits.attempts:
                    if isinstance(error, DownloadError):
                        raise
                    raise DownloadError(f"{url}: {error}") from error
                self._clock.sleep(min(2.0**attempt / 10, self._limits.patience_s))

    def _append(self, url: str, file: IO[bytes], length: int) -> None:
        have = file.seek(0, os.SEEK_END)
        if have == length:
            return
        if have > length:
            have = _emptied(file)
        response = self._ask(url, have)
        if have and not _continues(response, have):
            have = _emptied(file)
        if response.status == 416:
            response.close()
            raise DownloadError(f"{url}: the server has less of it than this device")
        for chunk in self._read(response):
            have += len(chunk)
            if have > length:
                _emptied(file)
                raise DownloadLengthMismatchError(f"{url} is longer than the {length} bytes that were signed")
            file.write(chunk)
            self._told(have, length)
        file.flush()
        os.fsync(file.fileno())
        if have < length:
            raise DownloadError(f"{url} ended after {have} of {length} bytes")

    def _ask(self, url: str, start: int) -> urllib3.BaseHTTPResponse:
        try:
            response = self._pool.request(
                "GET",
                url,
                headers={**self._pool.headers, "Range": f"bytes={start}-"} if start else None,
                preload_content=False,
                redirect=False,
                retries=False,
            )
        except urllib3.exceptions.TimeoutError as error:
            raise SlowRetrievalError(f"{url}: {error}") from error
        except urllib3.exceptions.HTTPError as error:
            raise DownloadError(f"{url}: {error}") from error
        if response.status not in (200, 206) and not (start and response.status == 416):
            response.close()
            raise DownloadHTTPError(f"{url}: the server answers {response.status}", response.status)
        return response

    def _read(self, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        pace = _Pace(self._limits, self._clock)
        try:
            # What is there, and no waiting for more: a server that drips would hold a whole chunk back from the rates.
            while chunk := response.read1(CHUNK_BYTES, decode_content=False):
                pace.took(len(chunk))
                yield chunk
        except urllib3.exceptions.TimeoutError as error:
            raise SlowRetrievalError(str(error)) from error
        except urllib3.exceptions.HTTPError as error:
            raise DownloadError(str(error)) from error
        finally:
            response.close()


class StickFetcher(FetcherInterface):
    """Reads a published repository from a directory or a .zip of one; its addresses begin with `STICK_URL`.

    Raises:
        UpdateError: there is no repository.
    """

    def __init__(self, place: Path, limits: Limits) -> None:
        try:
            self._root: Path | ZipPath = place if place.is_dir() else ZipPath(place)
            found = (self._root / "metadata" / "timestamp.json").is_file()
        except UNREADABLE as error:
            raise UpdateError(UpdateReason.STICK_UNREADABLE, f"{place}: {error}") from error
        if not found:
            raise UpdateError(
                UpdateReason.STICK_UNREADABLE, f"{place} is no published repository: metadata/timestamp.json is missing"
            )
        self._most_bytes = limits.most_bytes

    def _fetch(self, url: str) -> Iterator[bytes]:
        place = self._root
        for part in url.removeprefix(f"{STICK_URL}/").split("/"):
            if part in ("", ".", ".."):
                raise DownloadHTTPError(f"{url}: no such file on the stick", 404)
            place = place / part
        if not place.is_file():
            raise DownloadHTTPError(f"{url}: no such file on the stick", 404)
        return self._read(place)

    def _read(self, place: Path | ZipPath) -> Iterator[bytes]:
        read = 0
        try:
            with place.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    read += len(chunk)
                    if read > self._most_bytes:
                        raise DownloadLengthMismatchError(f"{place} is longer than this device takes")
                    yield chunk
        except UNREADABLE as error:
            raise DownloadError(f"{place}: {error}") from error


class _Pace:
    """Holds a stream to both its rates."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._began_s = self._window_s = clock.monotonic()
        self._bytes = self._window_bytes = 0

    def took(self, count: int) -> None:
        """Bytes came. Raises: SlowRetrievalError."""
        self._bytes += count
        self._window_bytes += count
        now_s = self._clock.monotonic()
        window_s = now_s - self._window_s
        if window_s >= self._limits.patience_s:
            if self._window_bytes < self._limits.least_bytes_per_s * window_s:
                raise SlowRetrievalError(f"{self._window_bytes} bytes in {window_s:.0f} s")
            self._window_s, self._window_bytes = now_s, 0
        ahead_s = self._bytes / self._limits.most_bytes_per_s - (now_s - self._began_s)
        if ahead_s > 0:
            self._clock.sleep(ahead_s)


@contextmanager
def _opened(partial: Path) -> Iterator[IO[bytes]]:
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise DownloadError(f"{partial}: {error.strerror}") from error
    with os.fdopen(descriptor, "r+b") as file:
        yield file


def _continues(response: urllib3.BaseHTTPResponse, start: int) -> bool:
    return response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _emptied(file: IO[bytes]) -> int:
    file.seek(0)
    file.truncate()
    return 0
