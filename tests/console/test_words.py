"""Every word that a person reads is in both languages, and in no other place."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter
from typing import get_args

import pytest

from turnkey import console
from turnkey.console.officers import SignInRefusal
from turnkey.console.words import LANGUAGES, read_words, words
from turnkey.leads.records import NotCapturedReason, Step
from turnkey.vision.advice import Advice
from turnkey.vision.refusals import VisionReason

ROOM = Path(console.__file__).parent
TEXTS = {language: read_words(ROOM / "languages" / f"{language}.toml") for language in LANGUAGES}
SHOWN_ATTRIBUTES = {"aria-label", "placeholder", "title", "alt", "value", "content"}
TEMPLATES = sorted((ROOM / "templates").glob("*.html"))


def blanks(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_the_languages_have_the_same_keys_and_blanks() -> None:
    assert set(LANGUAGES) >= {"en", "es"}
    for language in LANGUAGES:
        assert TEXTS[language].keys() == TEXTS["en"].keys()
        for key, text in TEXTS[language].items():
            assert text.strip() == text != ""
            assert blanks(text) == blanks(TEXTS["en"][key]), f"{language}: {key}"


def test_a_translation_is_one() -> None:
    same = {key for key, text in TEXTS["es"].items() if text == TEXTS["en"][key]}
    assert same == {"header.product", "sign_in.pin"}


def test_every_key_is_used_and_every_key_used_is_there() -> None:
    sources = "".join(path.read_text() for path in [*TEMPLATES, *ROOM.glob("*.py")])
    families = ("advice.", "refusal.", "step.", "sign_in.", "reason.", "camera.dark_", "status.camera_", "error.")
    for key in TEXTS["en"]:
        assert f'"{key}"' in sources or f"'{key}'" in sources or key.startswith(families), f"{key} is used nowhere"
    for key in re.findall(r"""(?:\bt|say\.say)\(["']([a-z_]+\.[a-z_-]+)["'][,)]""", sources):
        assert key in TEXTS["en"], key


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_code_has_words(language: str) -> None:
    say = words(language)
    for reason in VisionReason:
        assert f"refusal.{reason}" in say
        assert f"advice.{reason}" in say
    for advice in Advice:
        assert f"advice.{advice}" in say
    for step in get_args(Step):
        assert f"step.{step}" in say
    for refusal in SignInRefusal:
        assert f"sign_in.{refusal}" in say
    for reason in get_args(NotCapturedReason):
        assert f"reason.{reason}" in say


class Literals(HTMLParser):
    """Collects text that a page would show, wherever it stands."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        if re.search(r"[^\W\d_]", data):
            self.found.append(data.strip())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            shown = (name in SHOWN_ATTRIBUTES and tag not in ("meta", "input")) or name == "placeholder"
            if shown and value and re.search(r"[^\W\d_]", value):
                self.found.append(f"{name}={value}")


def literals(template: str) -> list[str]:
    for jinja in (r"{#.*?#}", r"{%.*?%}", r"{{.*?}}"):
        template = re.sub(jinja, "", template, flags=re.S)
    reader = Literals()
    reader.feed(template)
    return reader.found


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_no_text_of_their_own(path: Path) -> None:
    assert literals(path.read_text()) == []


def test_the_search_for_text_finds_some() -> None:
    assert literals('<p title="Hello">{{ t("x.y") }} and <b>goodbye</b></p>') == ["title=Hello", "and", "goodbye"]


@pytest.mark.parametrize("path", sorted((ROOM / "static").glob("*.js")), ids=lambda path: path.name)
def test_scripts_hold_no_text_and_load_nothing_from_elsewhere(path: Path) -> None:
    code = re.sub(r"(?m)^\s*//.*$", "", path.read_text())
    assert not re.search(r"https?://", code)
    assert "innerHTML" not in code
    for text in re.findall(r'"([^"]*)"', code):
        assert not re.search(r"[A-Za-z]+ [A-Za-z]+", text) or re.fullmatch(r"[\[\]a-z-]+", text), text


def test_nobody_is_named_a_candidate_scored_or_recognised_on_any_screen() -> None:
    for language in LANGUAGES:
        for text in TEXTS[language].values():
            assert not re.search(r"candidat|score|puntua|match|coincid|lead\b|suspect|sospech", text, re.I), text
