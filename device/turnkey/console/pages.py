"""From what holds now to the page that is shown: templates filled with words and values, nothing decided.

Rules kept here:
1. Values are escaped; a template that names what it was not given fails.
2. Times are the device's local time, by the 24-hour clock.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from turnkey.console.flow import Page
from turnkey.console.room import Health, PolicyState, is_running
from turnkey.console.session import Session
from turnkey.console.words import LANGUAGES, Words, words
from turnkey.interlock.machine import State
from turnkey.interlock.status import InterlockStatus

FOLDER: Final = Path(__file__).parent
STATIC: Final = FOLDER / "static"
LOW_DISK_SHARE: Final = 0.05
MANY_WAITING: Final = 100

_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(
    template: str,
    say: Words,
    *,
    session: Session | None,
    status: InterlockStatus | None,
    mark: str = "",
    **values: object,
) -> str:
    """A whole page.

    Args:
        template: its file, without `.html`.
        say: the words.
        session: who is signed in, if anybody.
        status: of the interlock.
        mark: see `mark`; the page asks for itself anew when it no longer holds. Empty: it never does.
        values: what the template names besides.
    """
    return _ENVIRONMENT.get_template(f"{template}.html").render(
        t=say.say,
        words=say,
        language=say.language,
        languages=[(name, words(name).say("language.name")) for name in LANGUAGES],
        session=session,
        csrf=session.csrf if session else "",
        theme=session.theme if session else "",
        running=is_running(status),
        mark=mark,
        **values,
    )


def mark(page: Page, session: Session | None, status: InterlockStatus | None) -> str:
    """What a page that is shown is held against: where this changes, the page is out of date."""
    visit = session.visit if session and not session.locked else None
    facts = (
        page.value,
        visit.refusals if visit else 0,
        status.state.value if status else "",
        status.epoch if status else 0,
        len(status.standing) if status else 0,
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def stop_sentences(say: Words, status: InterlockStatus | None) -> list[str]:
    """Why recognition is stopped, in words, the most important first."""
    if status is None:
        return [say.say("stopped.silent")]
    if status.state is State.BOOTING:
        return [say.say("stopped.starting")]
    sentences = []
    if status.state is State.FAULT:
        sentences.append(say.say("stopped.fault", fault=status.fault or status.reason, **_when(status.since)))
    elif status.reason in ("key-opened", "channel-opened") or not status.key_closed:
        sentences.append(say.say("stopped.key", **_when(status.since)))
    sentences += [
        say.say("stopped.order", role=order.role, **_when(order.since))
        for order in sorted(status.standing, key=lambda one: one.since)
    ]
    return sentences or [say.say("stopped.unreleased")]


def status_rows(
    say: Words, status: InterlockStatus | None, policy: PolicyState, health: Health
) -> list[tuple[str, str, bool]]:
    """The status page: what, how it stands in words, and whether that is well."""
    return [
        (say.say("status.switch"), *_switch(say, status)),
        (say.say("status.recognition"), *_recognition(say, status)),
        (say.say("status.camera"), *_camera(say, health.camera)),
        (say.say("status.disk"), *_disk(say, health.disk_free_share)),
        (say.say("status.uplink"), *_uplink(say, health.leads_waiting)),
        (say.say("status.policy"), *_policy(say, policy)),
        (say.say("status.software"), say.say("status.software_version", version=health.software), True),
    ]


def _switch(say: Words, status: InterlockStatus | None) -> tuple[str, bool]:
    if status is None or status.channel_a is None or status.channel_b is None:
        return say.say("status.switch_unreadable"), False
    return (say.say("status.switch_closed"), True) if status.key_closed else (say.say("status.switch_open"), True)


def _recognition(say: Words, status: InterlockStatus | None) -> tuple[str, bool]:
    if status is None:
        return say.say("status.recognition_silent"), False
    if status.state is State.FAULT:
        return say.say("status.recognition_fault", fault=status.fault or status.reason), False
    key = "status.recognition_running" if is_running(status) else "status.recognition_stopped"
    return say.say(key, **_when(status.since)), True


def _camera(say: Words, camera: str) -> tuple[str, bool]:
    if camera in ("working", "stopped"):
        return say.say(f"status.camera_{camera}"), True
    return say.say("status.camera_failed", reason=camera), False


def _disk(say: Words, free: float) -> tuple[str, bool]:
    good = free >= LOW_DISK_SHARE
    return say.say("status.disk_good" if good else "status.disk_low", percent=round(100 * free)), good


def _uplink(say: Words, waiting: int | None) -> tuple[str, bool]:
    if waiting is None:
        return say.say("status.uplink_unknown"), True
    if waiting == 0:
        return say.say("status.uplink_none"), True
    good = waiting < MANY_WAITING
    return say.say("status.uplink_some" if good else "status.uplink_many", count=waiting), good


def _policy(say: Words, policy: PolicyState) -> tuple[str, bool]:
    if policy.refusal or policy.until is None:
        return say.say("status.policy_refused", reason=policy.refusal), False
    return say.say("status.policy_in_force", date=_when(policy.until)["date"]), True


def _when(moment: datetime) -> dict[str, str]:
    local = moment.astimezone()
    return {"time": f"{local:%H:%M}", "date": f"{local:%Y-%m-%d}"}


def clock(moment: datetime) -> str:
    """The time of day, local."""
    return _when(moment)["time"]
