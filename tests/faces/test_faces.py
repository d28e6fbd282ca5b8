"""The portraits are what CREDITS.md says they are, and enough for the tests that rely on them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path

import pytest

from turnkey.capture.picture import decode_picture

FACES = Path(__file__).parent
PORTRAITS = sorted(path for path in FACES.glob("*/*") if path.suffix in {".jpg", ".png"})
FIELDS = {"who", "taken", "original", "author", "licence", "taken from", "sha256"}


def credited() -> dict[str, dict[str, str]]:
    """File name below this folder, to what CREDITS.md says of it."""
    sections = re.split(r"^## ", (FACES / "CREDITS.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        section.split("`")[1]: dict(re.findall(r"^\* ([a-z0-9 ]+): (.+)$", section, flags=re.MULTILINE))
        for section in sections
        if section.startswith("`")
    }


def test_every_portrait_is_credited_and_every_credit_has_its_portrait() -> None:
    assert set(credited()) == {path.relative_to(FACES).as_posix() for path in PORTRAITS}


@pytest.mark.parametrize("path", PORTRAITS, ids=lambda path: path.name)
def test_the_credit_is_complete_and_the_file_unchanged(path: Path) -> None:
    credit = credited()[path.relative_to(FACES).as_posix()]
    assert set(credit) == FIELDS
    assert credit["sha256"] == f"`{hashlib.sha256(path.read_bytes()).hexdigest()}`"


@pytest.mark.parametrize("path", PORTRAITS, ids=lambda path: path.name)
def test_the_portrait_is_read_by_the_product(path: Path) -> None:
    pixels = decode_picture(path.read_bytes(), path.name)
    assert max(pixels.shape) <= 1200
    assert path.name.startswith(path.parent.name + "-")


def test_three_persons_have_pictures_of_different_days() -> None:
    pictures = Counter(path.parent.name for path in PORTRAITS)
    assert sum(count >= 2 for count in pictures.values()) >= 3
    taken = [(credit["who"], credit["taken"]) for credit in credited().values()]
    assert len(set(taken)) == len(taken)


def test_the_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in PORTRAITS) < 2_500_000
