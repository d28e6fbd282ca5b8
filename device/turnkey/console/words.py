"""What a person reads on the console: one file per language under languages/, the same keys in each.

Rules kept here:
1. A page, a script and this package hold no text of their own; a test looks for some.
2. A key that a language lacks is an error, not a word of another language.
3. A code that came from another room and has no words of its own is said by its step: in general terms, but in the
   reader's language, and with the code for IT.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).with_name("languages")
DEFAULT_LANGUAGE: Final = "en"
LANGUAGES: Final = tuple(sorted(file.stem for file in _FOLDER.glob("*.toml")))


class Words:
    """One language.

    Args:
        language: one of `LANGUAGES`.
        texts: its words, by `section.key`.
    """

    def __init__(self, language: str, texts: Mapping[str, str]) -> None:
        self.language = language
        self._texts = texts

    def __contains__(self, key: str) -> bool:
        return key in self._texts

    def say(self, key: str, **values: object) -> str:
        """The words for a key, with its blanks filled in. Raises: KeyError."""
        return self._texts[key].format(**values)

    def refusal(self, reason: str, step: str) -> str:
        """A refusal by its reason, or by its step where the reason is none of an officer's business."""
        key = f"refusal.{reason}"
        return self._texts.get(key) or self._texts.get(f"step.{step}") or self._texts["step.other"]

    def advice(self, code: str) -> str:
        """The one thing to do."""
        return self._texts.get(f"advice.{code}", self._texts["advice.other"])


@cache
def words(language: str) -> Words:
    """The words of a language; of the default one where there is no such language."""
    chosen = language if language in LANGUAGES else DEFAULT_LANGUAGE
    return Words(chosen, read_words(_FOLDER / f"{chosen}.toml"))


def read_words(path: Path) -> dict[str, str]:
    """The words of a file, by `section.key`."""
    sections: dict[str, dict[str, str]] = tomllib.loads(path.read_text(encoding="utf-8"))
    return {f"{section}.{key}": text for section, texts in sections.items() for key, text in texts.items()}
