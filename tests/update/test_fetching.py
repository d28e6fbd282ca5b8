"""The ways an update comes: breaks that are taken up again, rates, lengths, TLS, sticks."""

from __future__ import annotations

import hashlib
import ssl
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError, SlowRetrievalError
from update.web import Web

from turnkey.update.fetching import CHUNK_BYTES, STICK_URL, HttpFetcher, StickFetcher, tls_context
from turnkey.update.limits import Limits
from turnkey.update.refusals import UpdateError, UpdateReason
from turnkey_tools.certificates import Use, issue, new_ca

CONTENT = bytes(range(256)) * 1600  # 400 KiB
PATIENT = Limits(patience_s=20, attempts=1)


class Clock:
    """Time that passes only where somebody sleeps, or a test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(lambda path: CONTENT if path == "/file" else None) as served:
        yield served


def fetched(fetcher: HttpFetcher, url: str, length: int = len(CONTENT)) -> bytes:
    with fetcher.download_file(url, length) as file:
        return file.read()


def test_a_broken_download_goes_on_where_it_broke(web: Web, tmp_path: Path) -> None:
    web.break_after = 150_000
    for _ in range(2):
        with pytest.raises(DownloadError):
            fetched(HttpFetcher(tmp_path, PATIENT), f"{web.url}/file")
    assert fetched(HttpFetcher(tmp_path, PATIENT), f"{web.url}/file") == CONTENT
    offsets = [asked for _, asked in web.asked]
    assert offsets[0] is None
    assert all(asked is not None and int(asked[6:-1]) > 0 for asked in offsets[1:])
    assert web.sent == len(CONTENT)
    assert list(tmp_path.iterdir()) == [], "what was taken over leaves no part behind"


def test_one_run_takes_a_break_up_again_by_itself(web: Web, tmp_path: Path) -> None:
    web.break_after = 150_000
    clock = Clock()
    assert fetched(HttpFetcher(tmp_path, Limits(attempts=5), clock=clock), f"{web.url}/file") == CONTENT
    assert len(web.asked) == 3


def test_a_server_without_ranges_is_read_from_the_beginning(web: Web, tmp_path: Path) -> None:
    web.break_after = 150_000
    with pytest.raises(DownloadError):
        fetched(HttpFetcher(tmp_path, PATIENT), f"{web.url}/file")
    web.break_after, web.ranges = None, False
    assert fetched(HttpFetcher(tmp_path, PATIENT), f"{web.url}/file") == CONTENT


def test_a_part_that_a_power_cut_tore_is_thrown_away_with_the_hash_and_the_next_attempt_is_clean(
    web: Web, tmp_path: Path
) -> None:
    url = f"{web.url}/file"
    part = tmp_path / f"{hashlib.sha256(url.encode()).hexdigest()}.part"
    part.write_bytes(b"\0" * 150_000)
    assert fetched(HttpFetcher(tmp_path, PATIENT), url) != CONTENT
    assert fetched(HttpFetcher(tmp_path, PATIENT), url) == CONTENT


@pytest.mark.parametrize("kept", [len(CONTENT), len(CONTENT) + 1])
def test_a_part_that_is_whole_is_not_fetched_and_one_too_long_is_not_kept(web: Web, tmp_path: Path, kept: int) -> None:
    url = f"{web.url}/file"
    part = tmp_path / f"{hashlib.sha256(url.encode()).hexdigest()}.part"
    part.write_bytes((CONTENT + b"x")[:kept])
    assert fetched(HttpFetcher(tmp_path, PATIENT), url) == CONTENT
    assert len(web.asked) == (0 if kept == len(CONTENT) else 1)


def test_a_file_longer_than_signed_is_cut_off_and_leaves_nothing(web: Web, tmp_path: Path) -> None:
    with pytest.raises(DownloadLengthMismatchError):
        fetched(HttpFetcher(tmp_path, PATIENT), f"{web.url}/file", 1000)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 0


def test_a_signed_length_beyond_the_devices_limit_is_not_even_asked_for(web: Web, tmp_path: Path) -> None:
    with pytest.raises(DownloadLengthMismatchError):
        fetched(HttpFetcher(tmp_path, Limits(most_bytes=1000)), f"{web.url}/file")
    assert web.asked == []


def test_what_is_not_there_is_said_with_its_status(web: Web, tmp_path: Path) -> None:
    with pytest.raises(DownloadHTTPError) as caught:
        fetched(HttpFetcher(tmp_path, PATIENT), f"{web.url}/other")
    assert caught.value.status_code == 404


def test_a_fast_server_is_held_to_the_share_of_the_line(web: Web, tmp_path: Path) -> None:
    clock = Clock()
    limits = Limits(most_bytes_per_s=100_000, least_bytes_per_s=0)
    assert fetched(HttpFetcher(tmp_path, limits, clock=clock), f"{web.url}/file") == CONTENT
    assert clock.slept == pytest.approx(len(CONTENT) / 100_000, rel=0.05)


def test_a_server_that_drips_is_given_up(web: Web, tmp_path: Path) -> None:
    clock = Clock()
    fetcher = HttpFetcher(tmp_path, Limits(least_bytes_per_s=10**6, attempts=1), clock=clock)
    took = fetcher._read

    def slowly(response: object) -> Iterator[bytes]:
        for chunk in took(response):  # type: ignore[arg-type]
            clock.now += 20
            yield chunk

    fetcher._read = slowly  # type: ignore[method-assign, assignment]
    with pytest.raises(SlowRetrievalError):
        fetched(fetcher, f"{web.url}/file")


def test_a_server_that_drips_is_not_waited_for_until_a_chunk_is_whole(web: Web, tmp_path: Path) -> None:
    web.drip = lambda: time.sleep(0.25)
    with pytest.raises(SlowRetrievalError):
        fetched(HttpFetcher(tmp_path, Limits(patience_s=0.5, least_bytes_per_s=10**6, attempts=1)), f"{web.url}/file")
    assert web.sent < CHUNK_BYTES / 2


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        fetcher = HttpFetcher(tmp_path, Limits(patience_s=0.2, attempts=1))
        with pytest.raises(SlowRetrievalError):
            fetched(fetcher, f"http://127.0.0.1:{silent.getsockname()[1]}/file")


class Certified:
    """A CA, a server of it and a client of it, as files."""

    def __init__(self, folder: Path) -> None:
        ca = new_ca("Update CA")
        server, client = issue(ca, "updates", Use.SERVER, ["127.0.0.1"]), issue(ca, "booth-1", Use.CLIENT, ["booth-1"])
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(ca.certificate)
        self.files = {}
        for name, pair in (("server", server), ("client", client)):
            certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
            certificate.write_bytes(pair.certificate)
            key.write_bytes(pair.key)
            self.files[name] = (certificate, key)

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files["server"])
        context.load_verify_locations(self.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        return context


def test_mutual_tls_with_the_provisioned_ca_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    ours, theirs = Certified(tmp_path / "ours"), Certified(tmp_path / "theirs")
    partials = tmp_path / "partials"
    partials.mkdir()
    with Web(lambda _: CONTENT, context=ours.server_context()) as web:
        url = f"{web.url}/file"
        assert fetched(HttpFetcher(partials, PATIENT, tls_context(ours.ca, *ours.files["client"])), url) == CONTENT
        for context in (
            tls_context(theirs.ca, *ours.files["client"]),
            tls_context(ours.ca, *theirs.files["client"]),
            tls_context(ours.ca, None, None),
        ):
            with pytest.raises(DownloadError):
                fetched(HttpFetcher(partials, PATIENT, context), url)
    with pytest.raises(UpdateError) as caught:
        tls_context(tmp_path / "none.pem", None, None)
    assert caught.value.refusal.reason is UpdateReason.UNREACHABLE


def stick(folder: Path) -> Path:
    (folder / "metadata").mkdir(parents=True)
    (folder / "targets").mkdir()
    (folder / "metadata" / "timestamp.json").write_bytes(b"{}")
    (folder / "targets" / "file").write_bytes(CONTENT)
    (folder.parent / "secret").write_bytes(b"not on the stick")
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_a_stick_and_a_file_of_one_are_read_alike(tmp_path: Path, packed: bool) -> None:
    place = stick(tmp_path / "stick")
    if packed:
        with zipfile.ZipFile(tmp_path / "stick.zip", "w") as archive:
            for path in place.rglob("*"):
                archive.write(path, path.relative_to(place))
        place = tmp_path / "stick.zip"
    fetcher = StickFetcher(place, Limits())
    assert fetcher.download_bytes(f"{STICK_URL}/targets/file", len(CONTENT)) == CONTENT
    for name in ("targets/other", "../secret", "targets/../../secret", "targets//file", ""):
        with pytest.raises(DownloadHTTPError):
            fetcher.download_bytes(f"{STICK_URL}/{name}", 100)
    with pytest.raises(DownloadLengthMismatchError):
        StickFetcher(place, Limits(most_bytes=1000)).download_bytes(f"{STICK_URL}/targets/file", len(CONTENT))


@pytest.mark.parametrize("what", ["damaged", "encrypted", "packed-otherwise"])
def test_a_file_of_a_stick_that_cannot_be_unpacked_is_a_refusal(tmp_path: Path, what: str) -> None:
    place, name = tmp_path / "stick.zip", b"metadata/timestamp.json"
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name.decode(), CONTENT)
    data = bytearray(place.read_bytes())
    body, entry = data.index(name) + len(name), data.index(b"PK\x01\x02")
    match what:
        case "damaged":
            data[body : body + 4] = b"\xff\xff\xff\xff"
        case "encrypted":
            data[6] = data[entry + 8] = 1
        case _:
            data[8] = data[entry + 10] = 97
    place.write_bytes(data)
    with pytest.raises(DownloadError):
        StickFetcher(place, Limits()).download_bytes(f"{STICK_URL}/{name.decode()}", len(CONTENT))


def test_what_is_no_stick_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.zip").write_bytes(b"not a zip")
    for place in (tmp_path, tmp_path / "other.zip", tmp_path / "none"):
        with pytest.raises(UpdateError) as caught:
            StickFetcher(place, Limits())
        assert caught.value.refusal.reason is UpdateReason.STICK_UNREADABLE
