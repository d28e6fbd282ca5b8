"""The faces to measure on: one folder a person, pictures in it, as LFW lays them out.

Rules kept here:
1. Order is by name, so that every run sees the same pictures in the same order.
2. A person is a folder: nothing is read out of file names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PICTURES = frozenset({".jpg", ".jpeg", ".png"})


@dataclass(frozen=True)
class Picture:
    """A picture file and whose it is: `person` counts from 0 in name order."""

    path: Path
    person: int


class NoFacesError(RuntimeError):
    """The folder holds no pictures of persons."""


def list_pictures(faces: Path) -> list[Picture]:
    """Every picture below `faces/<person>/`, by person and name.

    Raises:
        NoFacesError: not two persons with a picture.
    """
    folders = sorted(p for p in faces.iterdir() if p.is_dir()) if faces.is_dir() else []
    found = [sorted(f for f in folder.iterdir() if f.suffix.lower() in PICTURES) for folder in folders]
    people = [files for files in found if files]
    if len(people) < 2:
        raise NoFacesError(f"{faces} does not hold a folder of pictures for each of at least two persons")
    return [Picture(path, person) for person, files in enumerate(people) for path in files]


def person_names(pictures: list[Picture]) -> list[str]:
    """Each person's folder name, by person."""
    return list(dict.fromkeys(picture.path.parent.name for picture in pictures))
