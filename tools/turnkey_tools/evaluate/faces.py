"""The faces to measure on: one folder a person, pictures in it, as LFW lays them out.

Rules kept here:
1. Order is by name, so that every run sees the same pictures in the same order.
2. A person is a folder: nothing is read out of file names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PICTURES = frozenset({".jpg", ".jpeg", ".png"})
MIN_PERSONS = 5
"""With a face. Five give ten impostor pairs: the fewest that can show the highest FMR of a calibration, 0.1."""


@dataclass(frozen=True)
class Picture:
    """A picture file and whose it is: `person` counts from 0 in name order."""

    path: Path
    person: int


class NoFacesError(RuntimeError):
    """The folder holds no pictures of persons, or too few with a face to measure anything."""


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


def check_enough(persons: NDArray[np.int64], *, mates: bool = True) -> None:
    """Refuse faces of which no rate can be told.

    Args:
        persons: (n,) whose each template is.
        mates: pairs of pictures of one person are needed too.

    Raises:
        NoFacesError: fewer than `MIN_PERSONS` persons gave a template, or nobody gave two.
    """
    counts = np.unique(persons, return_counts=True)[1]
    if len(counts) < MIN_PERSONS:
        raise NoFacesError(
            f"a face was found in the pictures of {len(counts)} person(s), and at least {MIN_PERSONS} are needed: "
            "add folders, or look at the pictures"
        )
    if mates and counts.max() < 2:
        raise NoFacesError("nobody has two pictures with a face: misses of mates cannot be told; add pictures")
