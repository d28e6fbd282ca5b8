"""Who belongs to which group: a CSV of attributes, one line a person.

    person,sex,skin
    Ada_Example,female,IV
    Bob_Example,male,

Rules kept here:
1. A person is named as their folder is; nothing is guessed from a name or a face.
2. An empty field, or a person without a line, is "not labelled": counted, and left out of that attribute's groups.
3. A line for somebody who has no folder, or a second line for a person, is an error: a shifted column must not pass.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PERSON_COLUMN = "person"
NOT_LABELLED = -1


class AttributesError(ValueError):
    """The CSV cannot be used; the message names the line and what is wrong with it."""


@dataclass(frozen=True, eq=False)
class Attribute:
    """One attribute of the persons.

    Attributes:
        name: the column's.
        groups: its values, in name order.
        group_of: (persons,) int64, place in `groups`; `NOT_LABELLED` where nothing is said.
    """

    name: str
    groups: tuple[str, ...]
    group_of: NDArray[np.int64]

    @property
    def labelled(self) -> int:
        """Persons with a group."""
        return int((self.group_of != NOT_LABELLED).sum())


def read_attributes(path: Path, persons: Sequence[str]) -> tuple[Attribute, ...]:
    """Read the CSV.

    Args:
        path: UTF-8, with a header.
        persons: folder names, by person.

    Raises:
        AttributesError, OSError.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(path, csv.DictReader(file), persons)
    except (UnicodeDecodeError, csv.Error) as error:
        raise AttributesError(f"{path} is not a CSV in UTF-8: {error}") from error


def _read(path: Path, lines: csv.DictReader[str], persons: Sequence[str]) -> tuple[Attribute, ...]:
    places = {name: place for place, name in enumerate(persons)}
    header = [name.strip() for name in lines.fieldnames or ()]
    columns = [name for name in header if name != PERSON_COLUMN]
    if len(columns) != len(header) - 1 or not all(columns) or len(set(columns)) != len(columns) or not columns:
        raise AttributesError(f"{path}: the first line must name `{PERSON_COLUMN}` and one attribute or more, once")
    lines.fieldnames = header
    values: dict[str, dict[int, str]] = {name: {} for name in columns}
    seen: set[int] = set()
    for line in lines:
        place = places.get((line[PERSON_COLUMN] or "").strip())
        if place is None or place in seen or None in line or None in line.values():
            fault = "too many or too few fields" if None in line or None in line.values() else "no such folder"
            raise AttributesError(
                f"{path}, line {lines.line_num}: {line[PERSON_COLUMN]!r}: "
                f"{'a second line for this person' if place in seen else fault}"
            )
        seen.add(place)
        for name in columns:
            if value := line[name].strip():
                values[name][place] = value
    return tuple(_attribute(name, values[name], len(persons)) for name in columns)


def _attribute(name: str, values: dict[int, str], persons: int) -> Attribute:
    groups = tuple(sorted(set(values.values())))
    group_of = np.full(persons, NOT_LABELLED, np.int64)
    for place, value in values.items():
        group_of[place] = groups.index(value)
    return Attribute(name, groups, group_of)
