"""One case packet, start to end: opened, judged, enrolled, searched once.

    admitted (`turnkey.attempt`) -> opened -> judged -> used up -> face -> quality -> enrolment -> one search -> lead

Rules kept here, in the order in which they are enforced:
1. A packet that is presented is on the ledger before it is opened, and what came of it is on the ledger after it.
2. A packet is used up before its picture is looked at: whatever happens from there on, it is not worked on again.
3. The picture is discarded once its template is computed, and its pixels overwritten. It was never on this device's
   disk.
4. The probe is enrolled in `cases`; where the policy says so, it is searched in `bookings`, once: a lead that names the
   case as its origin, or a search without one, or the search's refusal. All three are on the ledger.
5. Whoever applies a packet is told what was enrolled or refused; a lead goes to the lead desk and nowhere else.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from turnkey.attempt import Attempt, Attempts, Refusal, Refuse
from turnkey.booth import Booth
from turnkey.capture.camera import CameraError, Frame
from turnkey.capture.overwriting import overwrite
from turnkey.capture.picture import decode_picture
from turnkey.database import StorageError
from turnkey.gallery_steps import GallerySteps, Origin
from turnkey.interlock.authority import Authority
from turnkey.leads.packet import MAX_PACKET_BYTES, SEALED_FOR, PacketContents, PacketHolds, PacketReason, judge
from turnkey.leads.records import Lead, PacketAccepted, PacketPresented, reference_digest
from turnkey.notary.notary import Clocks, Recorder
from turnkey.sealed import OpeningKey, SealedFileError
from turnkey.settings import Settings
from turnkey.used_packets import UsedPackets
from turnkey.vision.analyzer import Analysis, Analyzer


@dataclass(frozen=True)
class PacketApplied:
    """A packet was accepted and its probe enrolled.

    Attributes:
        case_number: as the packet states it.
        row: of the template in `cases`.
        search: whether the one search was `done`, the policy wants `none`, or it was `refused`.
        refusal: why, where it was.
        lead: what was signed and handed to the outbox, if anything.
    """

    case_number: str
    row: int
    search: Literal["done", "none", "refused"]
    refusal: Refusal | None = None
    lead: Lead | None = None


class Casework:
    """Applies case packets, on parts that are made elsewhere.

    Args:
        attempts, steps: the booth's.
        key: opens what was sealed for this device; None where it has none.
        used: the packets that were used up.
        authority: who may sign packets; asked anew for each.
        device_id: this device.
    """

    def __init__(
        self,
        attempts: Attempts,
        steps: GallerySteps,
        *,
        analyzer: Analyzer,
        notary: Recorder,
        key: OpeningKey | None,
        used: UsedPackets,
        authority: Callable[[], Authority],
        device_id: str,
        clocks: Clocks,
    ) -> None:
        self._attempts = attempts
        self._steps = steps
        self._analyzer = analyzer
        self._notary = notary
        self._key = key
        self._used = used
        self._authority = authority
        self._device_id = device_id
        self._clocks = clocks

    def apply(self, file: bytes) -> PacketApplied | Refusal:
        """Work on one packet. `file`: as it was sealed; see `read_packet_file`."""

        def steps(attempt: Attempt) -> PacketApplied:
            digest = hashlib.sha256(file).hexdigest()
            self._notary.record(PacketPresented(attempt_id=attempt.id, packet_digest=digest))
            contents = self._opened(file)
            holds = self._judged(attempt, contents)
            case_number = holds.packet.case_number
            analysis = self._analysed(attempt, contents.picture)
            del contents
            row = self._steps.enrol(attempt, "cases", case_number, analysis)
            if not holds.retro_search:
                return PacketApplied(case_number, row, "none")
            try:
                lead = self._steps.search(attempt, "bookings", Origin("case", case_number), analysis)
            except Refuse as refused:
                return PacketApplied(case_number, row, "refused", self._attempts.refused(refused.refusal, attempt.id))
            return PacketApplied(case_number, row, "done", lead=lead)

        return self._attempts.run(steps)

    def _opened(self, file: bytes) -> PacketContents:
        if self._key is None:
            raise Refuse("case-packet", "no-encryption-key", "This device has no key for case packets. Call IT.")
        if len(file) > MAX_PACKET_BYTES:
            raise Refuse("case-packet", PacketReason.TOO_LARGE, f"A packet has at most {MAX_PACKET_BYTES} bytes.")
        try:
            contents = PacketContents.from_bytes(self._key.open(file, SEALED_FOR))
        except SealedFileError as error:
            raise Refuse("case-packet", error.reason, f"The packet cannot be used: {error}.") from error
        if not isinstance(contents, PacketContents):
            raise Refuse("case-packet", contents.reason, f"The packet cannot be used: {contents.message}.")
        return contents

    def _judged(self, attempt: Attempt, contents: PacketContents) -> PacketHolds:
        now = self._clocks.utc_now()
        outcome = judge(contents, attempt.policy.policy, self._authority(), self._device_id, now)
        if not isinstance(outcome, PacketHolds):
            raise Refuse("case-packet", outcome.reason, f"The packet is refused: {outcome.message}.")
        packet = outcome.packet
        attempt.permit.check()
        try:
            first = self._used.take(packet.packet_id, now)
        except StorageError as error:
            raise Refuse("case-packet", error.reason, f"What was used cannot be noted: {error}. Call IT.") from error
        if not first:
            raise Refuse(
                "case-packet", PacketReason.USED_BEFORE, "The packet was used before: each is good for one attempt."
            )
        self._notary.record(
            PacketAccepted(
                attempt_id=attempt.id,
                packet_id=packet.packet_id,
                reference_digest=reference_digest(attempt.id, packet.case_number),
                offence_category=packet.offence_category,
                legal_basis=packet.legal_basis,
                signers=outcome.signers,
                image_digest=packet.picture_sha256,
            ),
            attempt.permit,
        )
        return outcome

    def _analysed(self, attempt: Attempt, picture: bytes) -> Analysis:
        try:
            with attempt.stage("decode"):
                pixels = decode_picture(picture, "the packet's picture")
        except CameraError as error:
            raise Refuse("capture", error.reason, str(error)) from error
        frame = Frame(pixels, self._clocks.monotonic_ns(), "packet")
        try:
            limits = attempt.policy.policy.quality_limits(self._analyzer.limits)
            outcome = self._analyzer.analyze(frame, attempt.permit, limits)
        finally:
            overwrite((frame,))
        if not isinstance(outcome, Analysis):
            raise Refuse("vision", outcome.reason, outcome.message)
        return outcome


def open_casework(
    booth: Booth,
    settings: Settings,
    *,
    parts: ExitStack,
    analyzer: Analyzer,
    notary: Recorder,
    authority: Callable[[], Authority],
    clocks: Clocks,
) -> Casework:
    """Casework beside a booth; what it opens is closed with `parts`.

    Raises:
        StorageError: the list of used packets cannot be used.
        KeyFileError, OSError: the key cannot be used.
    """
    used = UsedPackets(settings.state / "used-packets.db")
    parts.callback(used.close)
    return Casework(
        booth.attempts,
        booth.steps,
        analyzer=analyzer,
        notary=notary,
        key=OpeningKey.from_pem(settings.encryption_key.read_bytes()) if settings.encryption_key else None,
        used=used,
        authority=authority,
        device_id=settings.device_id,
        clocks=clocks,
    )


def read_packet_file(descriptor: int) -> bytes:
    """A packet from an open file, whole; a byte more than is allowed where it is larger, so that it is refused.

    Raises:
        OSError: it cannot be read, or is no regular file (a pipe could keep the booth waiting for ever).
    """
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError("not a file")
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(MAX_PACKET_BYTES + 1)
