"""The booth of the bench of stops across processes: it says what it saw.

    python -m turnkey_tools.bench.interlock_booth ROOT     takes orders as lines on stdin, answers with JSON

Real models and gallery; its permits are leases, its records go to the notary's socket. All times are CLOCK_MONOTONIC,
one clock for all processes of a machine.

    ready              -> {"done": true}        gallery and ledger agree, and there is a permit
    case NUMBER        -> {"done": ...}         enrolled
    book NUMBER        -> {"permit": true}, and then, in any order:
                          {"died": ns, "seen": ns}                      that permit, and when a waiting thread woke
                          {"done": ..., "returned": ns, "after": n}     the booking, and frames taken after the stop
    templates          -> {"templates": n}      bookings in the gallery
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from turnkey.booth import Booth, CaseEnrolled, Recorded
from turnkey.capture.folder import FolderCamera
from turnkey.device import calibration_groups
from turnkey.gallery.gallery import Gallery
from turnkey.interlock.authority import first_authority
from turnkey.interlock.lease import LeaseClient
from turnkey.interlock.permit import Permit, Stopped
from turnkey.notary.client import NotaryClient
from turnkey.policy_file import PolicyFile
from turnkey.reconciliation import reconcile
from turnkey.recording import system_clocks
from turnkey.settings import read_settings
from turnkey.vision.analyzer import Analyzer
from turnkey.vision.manifest import model_id, read_manifest
from turnkey_tools.bench.interlock_stops import TIMEOUT_S, BenchError, WatchedCamera


def run_booth(root: Path) -> None:
    """Serve standard input until it ends."""
    settings = read_settings(root / "device.toml")
    sockets = settings.interlock.socket
    state = root / "state-booth"
    manifest = read_manifest(settings.models)
    notary = NotaryClient(sockets.notary).start()
    gate = LeaseClient(sockets.path).start()
    model = model_id(manifest.embedder)
    gallery = Gallery(state / "gallery.db", model)
    analyzer = Analyzer.load(settings.models, threads=1)
    authority = first_authority(settings.authority.read_bytes())
    policies = PolicyFile(settings.policy, state / "policy.json", settings.device_id)
    clocks = system_clocks()

    def booth_with(camera: FolderCamera | WatchedCamera) -> Booth:
        return Booth(
            gate=gate,
            camera=camera,
            analyzer=analyzer,
            gallery=gallery,
            notary=notary,
            policy=lambda: policies.in_force(authority, clocks.utc_now()),
            calibration=calibration_groups(manifest.calibration),
            model_id=model,
            clocks=clocks,
            burst=settings.camera.burst,
            halt=sys.exit,
        )

    camera = WatchedCamera(root / "queue", repeat=True)
    booth, cases = booth_with(camera), booth_with(FolderCamera(root / "cases"))
    lock = threading.Lock()

    def say(**facts: object) -> None:
        with lock:
            print(json.dumps(facts), flush=True)

    def mourn(permit: Permit) -> None:
        while not permit.wait(0.5):
            pass
        seen_ns = time.monotonic_ns()
        gallery.lock()
        say(died=permit.died_ns, seen=seen_ns)

    for line in sys.stdin:
        word, _, argument = line.strip().partition(" ")
        if word == "book":
            permit = _permit(gate)
            threading.Thread(target=mourn, args=(permit,), daemon=True).start()
            say(permit=True)
            done = isinstance(booth.book(argument), Recorded)
            say(done=done, returned=time.monotonic_ns(), after=camera.taken_after())
        elif word == "ready":
            _permit(gate)
            say(done=reconcile(gallery, notary) is None)
        elif word == "case":
            say(done=isinstance(cases.enrol_case(argument), CaseEnrolled))
        elif word == "templates":
            gallery.unlock(_permit(gate).gallery_key())
            say(templates=gallery.size("bookings"))


def _permit(gate: LeaseClient) -> Permit:
    until_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until_s:
        try:
            return gate.permit()
        except Stopped:
            time.sleep(0.002)
    raise BenchError("no lease came")


if __name__ == "__main__":
    run_booth(Path(sys.argv[1]))
