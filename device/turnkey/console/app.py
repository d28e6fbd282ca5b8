"""The console's routes. Thin: each reads a form, asks the session, the table of a booking's way and the device, and
sends the browser to the page that holds now.

Rules kept here, in the order in which they are enforced:
1. What `guard` refuses never comes here.
2. A form without the session's own token changes nothing.
3. A locked session can be unlocked or ended, nothing else; while recognition is stopped only a note can be made.
4. What a booking's table does not permit now is not done: the page that holds is shown.
5. One picture is taken at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, get_args

from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from turnkey.console import pages
from turnkey.console.flow import Event, Page, after, page, permits
from turnkey.console.forms import FormError, read_form
from turnkey.console.guard import Guard
from turnkey.console.live import Live
from turnkey.console.room import Room, is_running
from turnkey.console.session import Desk, Session
from turnkey.console.sign_in import SignIn
from turnkey.console.words import DEFAULT_LANGUAGE, LANGUAGES, Words, words
from turnkey.interlock.status import InterlockStatus
from turnkey.leads.records import NotCaptured, NotCapturedReason, Reference

COOKIE: Final = "turnkey-console"
REASONS: Final[tuple[str, ...]] = get_args(NotCapturedReason)
STOPPED_REASON: Final = "recognition-stopped"
ERRORS: Final = {400: "bad-request", 403: "forbidden", 404: "not-found", 413: "too-large"}

_REFERENCE: Final[TypeAdapter[str]] = TypeAdapter(Reference)
Handler = Callable[[Session, Mapping[str, str]], Awaitable[Response]]


class Console:
    """The console over one device.

    Args:
        room: the device.
        desk: holds the session.
        sign_in: says who may.
    """

    def __init__(self, room: Room, desk: Desk, sign_in: SignIn) -> None:
        self._room = room
        self._desk = desk
        self._sign_in = sign_in
        self._shooting = asyncio.Lock()

    def app(self) -> Starlette:
        """The ASGI application."""
        forms: dict[str, Handler] = {
            "/number": self._number,
            "/shoot": self._shoot,
            "/note": self._note,
            "/event": self._event,
            "/look": self._appearance,
            "/lock": self._lock,
        }
        return Starlette(
            routes=[
                Route("/", self._shown),
                Route("/state", self._state),
                Route("/status", self._status),
                Route("/sign-in", self._sign_in_form, methods=["POST"]),
                Route("/unlock", self._unlock, methods=["POST"]),
                Route("/sign-out", self._sign_out, methods=["POST"]),
                *(Route(path, self._form(handler), methods=["POST"]) for path, handler in forms.items()),
                WebSocketRoute("/live", self._live),
                Mount("/static", StaticFiles(directory=pages.STATIC)),
            ],
            middleware=[Middleware(Guard)],
            exception_handlers={HTTPException: self._error, 500: self._error},
        )

    # What is shown

    async def _shown(self, request: Request) -> Response:
        session = self._session(request, touch=True)
        return await self._page(session, self._words(request, session))

    async def _page(self, session: Session | None, say: Words, *, error: str = "", code: int = 200) -> Response:
        """The page that holds now; `error`: what was wrong with the last form, in words."""
        status = await run_in_threadpool(self._room.standing)
        shown = self._page_of(session, status)
        values: dict[str, object] = {"error": error}
        if shown in (Page.STOPPED, Page.SIGN_IN) and not is_running(status):
            values["stop"] = pages.stop_sentences(say, status)
        if shown is Page.REASON:
            values["reasons"] = [reason for reason in REASONS if reason != STOPPED_REASON]
        if shown is Page.NUMBER:
            values["no_policy"] = bool((await run_in_threadpool(self._room.policy)).refusal)
        mark = pages.mark(shown, session, status)
        text = pages.render(shown.value, say, session=session, status=status, mark=mark, **values)
        return HTMLResponse(text, code)

    async def _state(self, request: Request) -> Response:
        """What a page asks for each half second: the mark of the page that holds now."""
        session = self._session(request, touch="touched" in request.query_params)
        status = await run_in_threadpool(self._room.standing)
        return JSONResponse({"mark": pages.mark(self._page_of(session, status), session, status)})

    async def _status(self, request: Request) -> Response:
        session = self._session(request, touch=True)
        say = self._words(request, session)
        status = await run_in_threadpool(self._room.standing)
        policy = await run_in_threadpool(self._room.policy)
        rows = pages.status_rows(say, status, policy, await run_in_threadpool(self._room.health))
        return HTMLResponse(pages.render("status", say, session=session, status=status, rows=rows))

    async def _error(self, request: Request, error: Exception) -> Response:
        code = error.status_code if isinstance(error, HTTPException) else 500
        session = self._session(request)
        say = self._words(request, session)
        text = say.say(f"error.{ERRORS.get(code, 'bad-request')}")
        return HTMLResponse(pages.render("error", say, session=session, status=None, text=text), code)

    # Who is there

    async def _sign_in_form(self, request: Request) -> Response:
        form = await _read(request)
        say = words(form.get("language", DEFAULT_LANGUAGE))
        outcome = await run_in_threadpool(self._sign_in.open, form.get("badge", ""), form.get("pin", ""), say.language)
        if isinstance(outcome, Session):
            answer = _go_home()
            answer.set_cookie(COOKIE, outcome.token, httponly=True, samesite="strict", path="/")
            return answer
        return await self._page(None, say, error=outcome.said(say), code=outcome.status)

    async def _unlock(self, request: Request) -> Response:
        session, form = await self._own_form(request)
        if session.locked:
            refused = await run_in_threadpool(self._sign_in.unlock, session, form.get("pin", ""))
            if refused is not None:
                say = words(session.language)
                return await self._page(session, say, error=refused.said(say), code=refused.status)
        return _go_home()

    async def _sign_out(self, request: Request) -> Response:
        session, _ = await self._own_form(request)
        self._desk.close(session)
        answer = _go_home()
        answer.delete_cookie(COOKIE, path="/")
        return answer

    # A booking's way

    async def _number(self, session: Session, form: Mapping[str, str]) -> Response:
        number, say = form.get("number", ""), words(session.language)
        policy = await run_in_threadpool(self._room.policy)
        if not _is_reference(number) or not policy.permits(number):
            key = "number.policy" if policy.refusal else "number.malformed"
            return await self._page(session, say, error=say.say(key), code=422)
        session.visit = after(session.visit, Event.NUMBER_GIVEN, number=number)
        return _go_home()

    async def _shoot(self, session: Session, _form: Mapping[str, str]) -> Response:
        if self._shooting.locked():
            return _go_home()
        async with self._shooting:
            visit = session.visit
            if permits(visit, Event.PICTURE_RECORDED):
                answer = await run_in_threadpool(self._room.book, visit.number)
                self._desk.find(session.token, touch=True)
                if answer.recorded:
                    session.visit = after(visit, Event.PICTURE_RECORDED)
                elif answer.step != "interlock":  # a stop has its own page, and is nobody's bad picture
                    session.visit = after(visit, Event.PICTURE_REFUSED, reason=answer.reason, step=answer.step)
        return _go_home()

    async def _note(self, session: Session, form: Mapping[str, str]) -> Response:
        say, visit = words(session.language), session.visit
        running = is_running(await run_in_threadpool(self._room.standing))
        if running and not permits(visit, Event.NOTE_KEPT):
            return _go_home()
        number = visit.number or form.get("number", "")
        policy = await run_in_threadpool(self._room.policy)
        if not _is_reference(number) or not (policy.refusal or policy.permits(number)):
            return await self._page(session, say, error=say.say("number.malformed"), code=422)
        reason = form.get("reason", "") if running else STOPPED_REASON
        if reason not in REASONS:
            return await self._page(session, say, error=say.say("reason.none"), code=422)
        note = NotCaptured.model_validate({"booking_number": number, "reason": reason, "refusals": visit.refusals})
        if await run_in_threadpool(self._room.note, note):
            return await self._page(session, say, error=say.say("reason.failed"), code=503)
        session.visit = after(visit, Event.NOTE_KEPT, number=number)
        return _go_home()

    async def _event(self, session: Session, form: Mapping[str, str]) -> Response:
        """The buttons that need nothing but the table."""
        with contextlib.suppress(ValueError):
            event = Event(form.get("event", ""))
            if event in (Event.RETAKE, Event.GIVE_UP, Event.CANCEL, Event.NEXT):
                session.visit = after(session.visit, event)
        return _go_home()

    async def _appearance(self, session: Session, form: Mapping[str, str]) -> Response:
        if form.get("language") in LANGUAGES:
            session.language = form["language"]
        if form.get("theme") in ("day", "night"):
            session.theme = form["theme"]
        return _go_home()

    async def _lock(self, session: Session, _form: Mapping[str, str]) -> Response:
        self._desk.lock(session)
        return _go_home()

    # The live preview

    async def _live(self, socket: WebSocket) -> None:
        session = self._desk.find(socket.cookies.get(COOKIE))
        if session is None:
            await socket.close(1008)
            return
        await socket.accept()

        def wanted() -> bool:
            here = self._desk.find(session.token)
            return here is not None and page(here.visit, locked=here.locked, running=True) is Page.CAMERA

        await Live(socket, self._room, words(session.language), wanted).run()

    # What the handlers share

    def _form(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """A handler that gets a form of an unlocked session's own, and nothing else."""

        async def handle(request: Request) -> Response:
            session, form = await self._own_form(request)
            return _go_home() if session.locked else await handler(session, form)

        return handle

    async def _own_form(self, request: Request) -> tuple[Session, Mapping[str, str]]:
        session = self._session(request, touch=True)
        form = await _read(request)
        if session is None or not hmac.compare_digest(form.get("csrf", "").encode(), session.csrf.encode()):
            raise HTTPException(403)
        return session, form

    def _session(self, request: Request, *, touch: bool = False) -> Session | None:
        return self._desk.find(request.cookies.get(COOKIE), touch=touch)

    def _words(self, request: Request, session: Session | None) -> Words:
        return words(session.language if session else request.query_params.get("language", DEFAULT_LANGUAGE))

    @staticmethod
    def _page_of(session: Session | None, status: InterlockStatus | None) -> Page:
        return page(
            session.visit if session else None,
            locked=session is not None and session.locked,
            running=is_running(status),
        )


async def _read(request: Request) -> Mapping[str, str]:
    try:
        return await read_form(request)
    except FormError as error:
        raise HTTPException(error.status) from error


def _is_reference(number: str) -> bool:
    try:
        return bool(re.fullmatch(r"\S+", _REFERENCE.validate_python(number)))
    except ValidationError:
        return False


def _go_home() -> Response:
    return RedirectResponse("/", 303)
