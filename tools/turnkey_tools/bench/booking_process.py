"""A process that books for `turnkeyctl bench booking`, as the bench sees it (`booking_worker` is its other side).

Rules kept here:
1. Answers come by a pipe of their own. What a library prints, on either of the usual ways, is kept aside and shown
   where the process fails; it is never taken for an answer.
2. Whatever a process does wrong is a `BookingBenchError` with its name and its last words.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import IO, TypeVar

from pydantic import BaseModel, ValidationError

from turnkey_tools.bench.booking_protocol import Booked, Ready, Scene, Spec

_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
_LAST_WORDS = 800
Answer = TypeVar("Answer", bound=BaseModel)


class BookingBenchError(Exception):
    """A worker did not do what it was told; the message is its own."""


class Booker:
    """One process that books. Raises BookingBenchError where it does not get ready."""

    def __init__(self, name: str, spec: Spec) -> None:
        self.name = name
        self.booked: dict[Scene, list[Booked]] = {scene: [] for scene in Scene}
        answers, theirs = os.pipe()
        worker = [sys.executable, "-m", "turnkey_tools.bench.booking_worker"]
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        try:
            self._process = subprocess.Popen(  # noqa: S603
                [*worker, name, spec.model_dump_json(), str(theirs)],
                env=dict(os.environ) | _ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=self._words,
                stderr=self._words,
                pass_fds=(theirs,),
                text=True,
            )
        finally:
            os.close(theirs)
        self._answers = os.fdopen(answers, encoding="utf-8")
        try:
            self.ready = self._answer(Ready)
        except BaseException:
            self.end()
            raise

    def book(self, scene: Scene) -> None:
        """Have it book, and remember how long it took. Raises: BookingBenchError."""
        orders: IO[str] = self._process.stdin  # type: ignore[assignment]
        number = 1000 + sum(map(len, self.booked.values()))
        try:
            orders.write(f"{scene} {number}\n")
            orders.flush()
        except BrokenPipeError:
            pass  # it has ended: its last words say why
        booked = self._answer(Booked)
        self.booked[scene].append(booked)

    def end(self) -> None:
        """Stop it. Safe to call twice."""
        self._process.kill()
        self._process.wait()
        for one in (self._process.stdin, self._answers, self._words):
            if one is not None:
                one.close()

    def _answer(self, kind: type[Answer]) -> Answer:
        line = self._answers.readline()
        if not line:
            self._words.seek(0)
            words = self._words.read().decode(errors="replace").strip()[-_LAST_WORDS:]
            raise BookingBenchError(f"{self.name}: {words or 'it ended without a word'}")
        try:
            return kind.model_validate_json(line)
        except ValidationError as error:
            raise BookingBenchError(f"{self.name}: its answer is not a booking's: {line[:200]!r}") from error
