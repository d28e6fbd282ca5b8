"""Bulk import of pictures: a folder or a manifest, picture by picture through the same steps as a booking.

Rules kept here:
1. No permit, no step: each picture is taken under a permit of its own, and a stop ends the import where it is.
2. Resumable: what became of a picture is in the gallery's own file, in the transaction that enrols it. Called again,
   the import passes over what is done. A picture is known by a hash of its reference and its bytes: names are not kept.
3. A refusal costs its own picture only, is counted by its reason, and is on the ledger.
4. Each picture that is looked at is on the ledger first, as a capture is: what is enrolled has a beginning.
5. References must have the form that the policy asks of booking or case numbers.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from turnkey.capture.camera import CameraError, Frame
from turnkey.capture.overwriting import overwrite
from turnkey.capture.picture import decode_picture
from turnkey.gallery.gallery import Gallery
from turnkey.gallery.rows import Enrolment
from turnkey.gallery.store import TemplateStore
from turnkey.interlock.permit import Permit
from turnkey.leads.policy import Policy
from turnkey.leads.records import Enrolled, Partition, PictureImported, Refused, Step, reference_digest
from turnkey.notary.notary import Clocks, Recorder
from turnkey.vision.analyzer import Analysis, Analyzer

ENROLLED = "enrolled"


class ManifestError(ValueError):
    """The manifest or the folder cannot be used; the message says why. Nothing was imported."""


@dataclass(frozen=True)
class Picture:
    """One picture to import: its file, the reference it belongs to, and when it was taken, where that is known."""

    file: Path
    reference: str
    taken_at: datetime | None = None


@dataclass
class ImportReport:
    """What became of the pictures.

    Attributes:
        outcomes: by file, `enrolled` or the reason of its refusal.
        passed_over: done by an earlier import.
    """

    outcomes: dict[Path, str] = field(default_factory=dict)
    passed_over: int = 0

    def counts(self) -> dict[str, int]:
        """How many of each outcome, the most frequent first."""
        return dict(Counter(self.outcomes.values()).most_common())


def from_folder(folder: Path) -> list[Picture]:
    """`FOLDER/<reference>/<picture>`. Raises ManifestError where it cannot be read."""
    try:
        return [
            Picture(file, person.name)
            for person in sorted(folder.iterdir())
            if person.is_dir()
            for file in sorted(person.iterdir())
            if file.is_file()
        ]
    except OSError as error:
        raise ManifestError(f"{folder}: {error.strerror}") from error


def from_manifest(manifest: Path) -> list[Picture]:
    """A CSV with the columns `file` (relative to the manifest), `reference` and, where known, `date` (ISO 8601).

    Raises:
        ManifestError: unreadable, a column is missing, or a line has no file, no reference or no proper date.
    """
    try:
        with manifest.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            if not {"file", "reference"} <= set(reader.fieldnames or ()):
                raise ManifestError(f"{manifest}: the columns `file` and `reference` are needed")
            return [_line(manifest, number, line) for number, line in enumerate(reader, start=2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{manifest}: {error}") from error


def _line(manifest: Path, number: int, line: dict[str, str]) -> Picture:
    if not line["file"] or not line["reference"]:
        raise ManifestError(f"{manifest}, line {number}: a file and a reference are needed")
    try:
        date = datetime.fromisoformat(line["date"]) if line.get("date") else None
    except ValueError as error:
        raise ManifestError(f"{manifest}, line {number}: {error}") from error
    taken_at = date.replace(tzinfo=date.tzinfo or UTC).astimezone(UTC) if date else None
    return Picture(manifest.parent / line["file"], line["reference"], taken_at)


@dataclass(frozen=True)
class Importer:
    """The rooms that an import needs, as the device has them."""

    gallery: Gallery
    analyzer: Analyzer
    notary: Recorder
    clocks: Clocks
    model_id: str
    permit: Callable[[], Permit]
    policy: Policy

    def run(self, partition: Partition, pictures: list[Picture]) -> Iterator[ImportReport]:
        """Import; yields the report so far after each picture.

        Raises:
            Stopped: recognition is stopped; what was done is kept.
            StorageError: the gallery or the ledger cannot be written; what was done is kept.
        """
        report = ImportReport()
        for picture in pictures:
            outcome = self._one(partition, picture)
            if outcome is None:
                report.passed_over += 1
            else:
                report.outcomes[picture.file] = outcome
            yield report

    def _one(self, partition: Partition, picture: Picture) -> str | None:
        permit = self.permit()
        self.gallery.unlock(permit.gallery_key())
        attempt_id = self.clocks.new_id()
        permitted = self.policy.permits_booking_number if partition == "bookings" else self.policy.permits_case_number
        if not permitted(picture.reference):
            return self._refused(attempt_id, "policy", "reference-malformed")
        if partition == "cases" and not self.policy.cases_without_packets:
            return self._refused(attempt_id, "policy", "case-packet-needed")
        try:
            data = picture.file.read_bytes()
        except OSError:
            return self._refused(attempt_id, "capture", "picture-unreadable")
        digest = hashlib.sha256(picture.reference.encode() + b"\0" + data).hexdigest()
        if self._done(partition, digest):
            return None
        try:
            frame = Frame(decode_picture(data, picture.file.name), self.clocks.monotonic_ns(), picture.file.name)
        except CameraError as error:
            return self._refused(attempt_id, "capture", error.reason, partition, digest)
        begun = PictureImported(
            attempt_id=attempt_id,
            partition=partition,
            reference_digest=reference_digest(attempt_id, picture.reference),
            image_digest=hashlib.sha256(data).hexdigest(),
        )
        try:
            self.notary.record(begun, permit)
            analysis = self.analyzer.analyze(frame, permit, self.policy.quality_limits(self.analyzer.limits))
        finally:
            overwrite((frame,))
        if not isinstance(analysis, Analysis):
            return self._refused(attempt_id, "vision", analysis.reason, partition, digest)
        now = self.clocks.utc_now()
        enrolment = Enrolment(
            partition,
            picture.reference,
            self.model_id,
            analysis.quality.score,
            now,
            analysis.template,
            picture.taken_at,
            self.policy.delete_after(partition, now),
        )
        (row,) = self.gallery.enrol_many(
            (enrolment,), permit, lambda store, rows: _note(store, partition, digest, ENROLLED, rows[0])
        )
        try:
            self.notary.record(Enrolled(attempt_id=attempt_id, partition=partition, row=row), permit)
        except BaseException:
            self.gallery.withdraw(partition, row)
            raise
        return ENROLLED

    def _done(self, partition: Partition, digest: str) -> bool:
        with self.gallery.rows() as store:
            query = "SELECT 1 FROM import_file WHERE source = ? AND name = ?"
            return bool(store.database.rows(query, partition, digest))

    def _refused(
        self, attempt_id: str, step: str, reason: str, partition: Partition | None = None, digest: str = ""
    ) -> str:
        self.notary.record(Refused(attempt_id=attempt_id, step=cast(Step, step), reason=reason))
        if partition is not None:
            with self.gallery.rows() as store, store.database.transaction():
                _note(store, partition, digest, reason, None)
        return reason


def _note(store: TemplateStore, partition: str, digest: str, outcome: str, row: int | None) -> None:
    store.database.execute("INSERT INTO import_file VALUES (?, ?, ?, ?)", partition, digest, outcome, row)
