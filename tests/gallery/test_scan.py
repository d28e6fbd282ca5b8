"""The scan: what int8 leaves out is bounded, and with that bound the best are the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from gallery.galleries import NOW, units
from numpy.typing import NDArray

from turnkey.gallery import scan, search
from turnkey.gallery.kernel import _proved, packed_kernel
from turnkey.gallery.rows import Compared, Row
from turnkey.gallery.scan import BLOCK_ROWS, ScanMatrix
from turnkey.gallery.search import best_candidates


def matrix_of(templates: NDArray[np.float32]) -> ScanMatrix:
    matrix = ScanMatrix()
    matrix.add(range(1, len(templates) + 1), templates)
    return matrix


class Opener:
    """Scores rows exactly, as the store would, and counts them. `persons[i]` is the reference of row i+1."""

    def __init__(self, templates: NDArray[np.float32], probe: NDArray[np.float64], persons: Sequence[int]) -> None:
        self.templates, self.probe, self.persons = templates.astype(np.float64), probe, persons
        self.opened = 0

    def __call__(self, rows: Sequence[int]) -> list[Compared]:
        self.opened += len(rows)
        return [
            Compared(
                Row(row, "cases", f"P-{self.persons[row - 1]}", "m", 50, NOW),
                float(self.templates[row - 1] @ self.probe),
            )
            for row in rows
        ]


def clustered(count: int, seed: int) -> NDArray[np.float32]:
    """Templates crowded around a few directions: many scores within the error of int8."""
    centres = units(5, seed)
    rows = centres[np.arange(count) % 5] + 0.02 * units(count, seed + 1)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("make", [units, clustered])
@pytest.mark.parametrize("limit", [1, 20])
def test_candidates_equal_float64_brute_force(make: object, limit: int) -> None:
    templates = make(BLOCK_ROWS + 5000, 7)  # type: ignore[operator]
    matrix = matrix_of(templates)
    probes = units(8, 8).astype(np.float64)
    probes[::2] += 2 * templates[:4]
    for probe in probes / np.linalg.norm(probes, axis=1, keepdims=True):
        opener = Opener(templates, probe, range(len(templates)))
        found = best_candidates(matrix, opener, probe, limit)
        truth = np.lexsort((np.arange(len(templates)), -(templates.astype(np.float64) @ probe)))[:limit]
        assert [candidate.row.row for candidate in found] == list(truth + 1)
    matrix.wipe()


def test_a_scanned_score_is_within_its_stated_error() -> None:
    spiky = np.zeros((50, 128), np.float32)
    spiky[np.arange(50), np.arange(50)] = 1
    templates = np.concatenate([units(3000, 1), clustered(3000, 2), spiky])
    matrix = matrix_of(templates)
    for probe in np.concatenate([units(20, 3), spiky[:3]]).astype(np.float64):
        shortlist = matrix.shortlist(probe, len(templates))
        exact = templates[shortlist.rows - 1].astype(np.float64) @ probe
        assert len(exact) == len(templates)
        assert shortlist.floor == -np.inf
        assert np.abs(exact - shortlist.scores).max() <= shortlist.error < 0.05


def test_what_is_not_on_the_list_scanned_no_higher_than_its_floor() -> None:
    templates = units(2 * BLOCK_ROWS + 100, 4)
    matrix = matrix_of(templates)
    probe = units(1, 5)[0].astype(np.float64)
    everything = matrix.shortlist(probe, len(templates))
    best = matrix.shortlist(probe, 64)
    assert 64 <= len(best.rows) <= 4 * 64
    outside = ~np.isin(everything.rows, best.rows)
    assert everything.scores[outside].max() <= best.floor <= best.scores.min()


def test_few_rows_are_opened() -> None:
    templates = units(20_000, 6)
    probe = units(1, 9)[0].astype(np.float64)
    opener = Opener(templates, probe, range(len(templates)))
    best_candidates(matrix_of(templates), opener, probe, 5)
    assert opener.opened <= search.FIRST_WANTED


def test_several_templates_of_a_person_take_one_place() -> None:
    """A hundred templates of one person come first; the other candidates are still the right ones."""
    crowd = clustered(3000, 11)[::5]
    templates = np.concatenate([crowd, units(500, 12)])
    persons = [0] * len(crowd) + list(range(1, 501))
    probe = crowd[0].astype(np.float64)
    found = best_candidates(matrix_of(templates), Opener(templates, probe, persons), probe, 4)
    exact = templates.astype(np.float64) @ probe
    others = np.argsort(-exact[len(crowd) :])[:3]
    assert [candidate.row.reference for candidate in found] == ["P-0", *(f"P-{other + 1}" for other in others)]
    assert found[0].row.row == 1


def test_a_bookings_own_reference_is_no_candidate() -> None:
    templates = units(50, 13)
    probe = templates[3].astype(np.float64)
    found = best_candidates(matrix_of(templates), Opener(templates, probe, range(50)), probe, 50, excluding="P-3")
    assert len(found) == 49
    assert "P-3" not in {candidate.row.reference for candidate in found}


def test_a_removed_row_is_overwritten_and_never_listed() -> None:
    templates = units(100, 14)
    matrix = matrix_of(templates)
    assert matrix.remove(7)
    assert not matrix.remove(7)
    assert not matrix.remove(101)
    assert len(matrix) == 99
    assert not matrix.blocks[0].templates[6].any()
    assert 7 not in matrix.shortlist(templates[6].astype(np.float64), 100).rows
    assert list(matrix.numbers()) == [row for row in range(1, 101) if row != 7]
    with pytest.raises(ValueError, match="comes after"):
        matrix.add([100], templates[:1])


def test_only_what_a_graph_lacks_is_scanned_when_asked() -> None:
    matrix = matrix_of(units(100, 15))
    assert sorted(matrix.shortlist(units(1, 16)[0].astype(np.float64), 100, newer_than=90).rows) == list(range(91, 101))


def test_a_full_block_scans_alike_packed_and_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packed kernel and the one that does without give the same scores for the same rows, removed ones and all."""
    templates = units(BLOCK_ROWS + 500, 17)
    probe = units(1, 18)[0].astype(np.float64)
    lists = []
    for kernel in (packed_kernel(), None):
        monkeypatch.setattr(scan, "packed_kernel", lambda kernel=kernel: kernel)
        matrix = matrix_of(templates)
        assert matrix.blocks[0].templates.strides[0] == (kernel.apart if kernel else 128)
        matrix.remove(100)
        assert not matrix.blocks[0].templates[99].any()
        assert (
            matrix.blocks[0].memory.find(np.rint(templates[99] / np.float32(0.5 / 127)).astype(np.int8).tobytes()) < 0
        )
        lists.append(matrix.shortlist(probe, 1000))
        with matrix.blocks[0].plain() as plain:
            assert bytes(plain[: 128 * 5]) == np.ascontiguousarray(matrix.blocks[0].templates[:5]).tobytes()
        matrix.wipe()
    assert np.array_equal(lists[0].rows, lists[1].rows)
    assert np.array_equal(lists[0].scores, lists[1].scores)


def test_this_machine_has_the_packed_kernel_or_does_without() -> None:
    """What is used was proved; a library that multiplies wrongly, or packs in an order of its own, is not used."""
    kernel = packed_kernel()
    if kernel is not None:
        assert kernel.apart >= 128
    assert _proved(Unlike()) is None


class Unlike:
    """A library that packs nothing."""

    def nk_dots_packed_size_i8(self, rows: int, dimensions: int) -> int:
        return rows * dimensions

    def nk_dots_pack_i8(self, *_: int) -> None:
        return

    def nk_dots_packed_i8(self, *_: int) -> None:
        return
