"""The gallery: what is enrolled is found, what is expunged is not, and what is on disk is ciphertext."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gallery.galleries import KEY, NOW, dead, enrol, live, unit, unlocked

from turnkey.database import StorageDamaged
from turnkey.gallery.gallery import Gallery, GalleryLocked, OtherModel
from turnkey.gallery.store import WrongKey
from turnkey.interlock.permit import Permit, Stopped


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery.db"


@pytest.fixture
def gallery(path: Path) -> Iterator[Gallery]:
    opened = unlocked(path)
    yield opened
    opened.lock()


def test_an_empty_partition_has_no_candidates(gallery: Gallery) -> None:
    result = gallery.search("cases", unit(1), 5, live())
    assert (result.gallery_size, result.candidates) == (0, ())


def test_search_finds_the_mate_first_and_equals_brute_force(gallery: Gallery) -> None:
    for seed in range(300):
        enrol(gallery, f"C-{seed}", seed)
    probe = unit(77) + 0.3 * unit(999)
    probe = (probe / np.linalg.norm(probe)).astype(np.float32)
    result = gallery.search("cases", probe, 10, live())
    scores = np.array([unit(seed).astype(np.float64) @ probe for seed in range(300)])
    best = np.argsort(-scores)[:10]
    assert [candidate.reference for candidate in result.candidates] == [f"C-{seed}" for seed in best]
    assert [candidate.score for candidate in result.candidates] == pytest.approx(list(scores[best]), abs=1e-6)
    assert result.gallery_size == 300
    assert result.candidates[0].enrolled_at == NOW


def test_partitions_do_not_see_each_other(gallery: Gallery) -> None:
    enrol(gallery, "B-1", 1, "bookings")
    assert gallery.search("cases", unit(1), 5, live()).candidates == ()
    assert gallery.size("bookings") == 1


def test_rows_survive_reopening(path: Path, gallery: Gallery) -> None:
    enrol(gallery, "C-1", 1)
    gallery.lock()
    again = unlocked(path)
    assert again.search("cases", unit(1), 5, live()).candidates[0].score == pytest.approx(1.0)
    again.lock()


def test_the_expunged_are_gone_and_their_numbers_stay_unused(path: Path, gallery: Gallery) -> None:
    first, second = enrol(gallery, "C-1", 1), enrol(gallery, "C-1", 2)
    enrol(gallery, "C-2", 3)
    assert gallery.expunge("cases", "C-1") == [first, second]
    assert gallery.expunge("cases", "C-1") == []
    assert [c.reference for c in gallery.search("cases", unit(1), 5, live()).candidates] == ["C-2"]
    gallery.expunge("cases", "C-2")
    assert enrol(gallery, "C-3", 4) == 4


def test_a_dead_permit_searches_and_enrols_nothing(gallery: Gallery) -> None:
    enrol(gallery, "C-1", 1)
    with pytest.raises(Stopped):
        gallery.search("cases", unit(1), 5, dead())
    with pytest.raises(Stopped):
        gallery.enrol("cases", "C-2", unit(2), quality=50, enrolled_at=NOW, permit=dead())
    assert gallery.size("cases") == 1


def test_a_stop_during_enrolment_keeps_nothing(path: Path, gallery: Gallery) -> None:
    class DiesInside(Permit):
        checks = 0

        def check(self) -> None:
            self.checks += 1
            if self.checks == 2:
                self.revoke("key-opened")
            super().check()

    with pytest.raises(Stopped):
        gallery.enrol("cases", "C-1", unit(1), quality=50, enrolled_at=NOW, permit=DiesInside(lambda: 0, 10**9))
    assert gallery.size("cases") == 0
    gallery.lock()
    assert unlocked(path).size("cases") == 0


def test_no_template_is_on_disk_in_clear(path: Path, gallery: Gallery) -> None:
    enrol(gallery, "C-1", 1)
    on_disk = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"C-1" in on_disk
    assert unit(1).tobytes()[:16] not in on_disk


def test_a_wrong_key_opens_nothing(path: Path, gallery: Gallery) -> None:
    enrol(gallery, "C-1", 1)
    with pytest.raises(WrongKey):
        unlocked(path, key=bytes(32))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE template SET partition = 'bookings' WHERE row = 1",
        "UPDATE template SET reference = 'C-9' WHERE row = 1",
        "UPDATE template SET sealed = (SELECT sealed FROM template WHERE row = 2) WHERE row = 1",
        "UPDATE template SET sealed = x'00' WHERE row = 1",
        "UPDATE template SET row = 9 WHERE row = 1",
    ],
)
def test_a_changed_or_moved_row_is_refused(path: Path, gallery: Gallery, change: str) -> None:
    enrol(gallery, "C-1", 1)
    enrol(gallery, "C-2", 2)
    gallery.lock()
    raw = sqlite3.connect(path)
    raw.execute(change)
    raw.commit()
    raw.close()
    with pytest.raises(StorageDamaged, match="changed or moved"):
        unlocked(path)


@pytest.mark.parametrize("place", [0, 11, 12, 300, -17, -1])
def test_one_flipped_bit_in_a_row_and_nothing_is_served(path: Path, gallery: Gallery, place: int) -> None:
    """In its nonce, its cipher text and its tag."""
    enrol(gallery, "C-1", 1)
    gallery.lock()
    raw = sqlite3.connect(path)
    sealed = bytearray(raw.execute("SELECT sealed FROM template").fetchone()[0])
    sealed[place] ^= 1
    raw.execute("UPDATE template SET sealed = ?", (bytes(sealed),))
    raw.commit()
    raw.close()
    with pytest.raises(StorageDamaged, match="row 1 of cases was changed or moved"):
        unlocked(path)


def test_templates_of_another_model_are_refused(path: Path, gallery: Gallery) -> None:
    enrol(gallery, "C-1", 1)
    gallery.lock()
    with pytest.raises(OtherModel, match="enrol anew"):
        unlocked(path, model_id="sface-4567")


def test_what_is_not_a_template_is_refused(gallery: Gallery) -> None:
    for wrong in (unit(1)[:64], unit(1) * 2, np.full(128, np.nan, dtype=np.float32)):
        with pytest.raises(ValueError, match="unit norm"):
            gallery.enrol("cases", "C-1", wrong, quality=50, enrolled_at=NOW, permit=live())
    assert gallery.size("cases") == 0


def test_a_locked_gallery_is_ciphertext_until_the_key_comes_back(gallery: Gallery) -> None:
    enrol(gallery, "C-1", 1)
    gallery.lock()
    gallery.lock()
    for use in (
        lambda: gallery.size("cases"),
        lambda: gallery.search("cases", unit(1), 5, live()),
        lambda: enrol(gallery, "C-2", 2),
    ):
        with pytest.raises(GalleryLocked):
            use()
    gallery.unlock(KEY)
    assert gallery.size("cases") == 1


def test_an_expungement_does_not_wait_for_the_key(gallery: Gallery) -> None:
    row = enrol(gallery, "C-1", 1)
    gallery.lock()
    assert gallery.expunge("cases", "C-1") == [row]
    gallery.unlock(KEY)
    assert gallery.size("cases") == 0


def test_an_enrolment_can_be_withdrawn(gallery: Gallery) -> None:
    kept, withdrawn = enrol(gallery, "C-1", 1), enrol(gallery, "C-1", 2)
    gallery.withdraw("cases", withdrawn)
    assert [c.row for c in gallery.search("cases", unit(2), 5, live()).candidates] == [kept]
