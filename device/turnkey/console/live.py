"""The live preview: one WebSocket that carries pictures and the one thing to do about each.

What is sent: for each picture a text message (JSON: `advice`, `text`, `good`, `face`) and then a binary one (JPEG).
Where there is no picture, a text message with `dark`. The browser says `next` when it has shown a picture.

Rules kept here:
1. A picture is sent only after the one before it was shown: a slow browser gets fewer, and never old ones.
2. That there is none is said at once, whatever the browser still has to show: a stop must not wait behind a picture.
3. Looking ends with the session, with its lock, with the camera's page, and while a picture is being taken.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from turnkey.console.room import Dark, Room, Seen
from turnkey.console.words import Words

FRAMES_PER_S: Final = 20
DRAWING_S: Final = 0.05
"""How long a browser that still draws the last picture is waited for; then a newer one is looked at."""
DARK_LOOK_S: Final = 0.05
"""How often it is seen whether there is a picture again."""


class Live:
    """One preview.

    Args:
        socket: accepted.
        room: what looks.
        say: the words of the session's language.
        wanted: whether the page that asked is still the one to be shown.
    """

    def __init__(self, socket: WebSocket, room: Room, say: Words, wanted: Callable[[], bool]) -> None:
        self._socket = socket
        self._room = room
        self._say = say
        self._wanted = wanted
        self._shown = asyncio.Event()
        self._shown.set()
        self._dark: str | None = None

    async def run(self) -> None:
        """Send until the browser goes, the page is no longer wanted, or recognition stops."""
        listening = asyncio.create_task(self._listen())
        try:
            while self._wanted() and not listening.done():
                began_s = asyncio.get_running_loop().time()
                outcome = await run_in_threadpool(self._room.look)
                if isinstance(outcome, Dark):
                    await self._send_dark(outcome)
                    if outcome.cause == "stopped":
                        break
                    await asyncio.sleep(DARK_LOOK_S)
                    continue
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._shown.wait(), DRAWING_S)
                if self._shown.is_set() and self._wanted():
                    await self._send(outcome)
                await asyncio.sleep(max(0.0, began_s + 1 / FRAMES_PER_S - asyncio.get_running_loop().time()))
            if not listening.done():
                await self._socket.close(1000)
        except WebSocketDisconnect:
            pass
        finally:
            listening.cancel()

    async def _listen(self) -> None:
        try:
            while True:
                await self._socket.receive_text()
                self._shown.set()
        except (WebSocketDisconnect, KeyError):  # KeyError: a binary message, which no page of ours sends
            return

    async def _send_dark(self, dark: Dark) -> None:
        if self._dark != dark.cause:
            self._dark = dark.cause
            await self._socket.send_text(
                json.dumps({"dark": dark.cause, "text": self._say.say(f"camera.dark_{dark.cause}")})
            )

    async def _send(self, seen: Seen) -> None:
        self._dark = None
        self._shown.clear()
        facts = {
            "advice": seen.advice,
            "text": self._say.advice(seen.advice),
            "good": seen.advice == "good",
            "face": seen.face,
        }
        await self._socket.send_text(json.dumps(facts))
        await self._socket.send_bytes(seen.jpeg)
