"""Everything that `turnkeyctl evaluate quality` measures, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from turnkey.capture.picture import decode_picture
from turnkey.vision.quality import SCORE_LENGTHS
from turnkey_tools.evaluate.faces import Picture, check_enough, list_pictures
from turnkey_tools.evaluate.pairs import score_all_pairs
from turnkey_tools.evaluate.quality import ComponentValue, Curve, Tenth, component_values, curves, tenths
from turnkey_tools.evaluate.quality_faces import Eye, Faces, look_at
from turnkey_tools.evaluate.quality_fusion import Gain, fusion_gain, simulated_bursts
from turnkey_tools.evaluate.quality_pose import PoseError, pose_errors
from turnkey_tools.models.build import DETECTOR_TWIN

FUSED = 3
DRAWS = 5
FUSION_FMR = 1e-5
BURST = 5

Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class QualityReport:
    """The result.

    Attributes:
        persons, pictures: with a face.
        without_face: pictures in which none was found.
        curves: error-versus-discard, by the unified score.
        tenths: FNMR at FMR 1e-5 of each tenth of the mated pairs, by the worse picture's score.
        components: each by itself.
        fusion: three pictures of a person, of different days; grouped `DRAWS` times.
        bursts: simulated ones.
        pose: errors.
        seconds: that it took.
    """

    persons: int
    pictures: int
    without_face: int
    curves: tuple[Curve, ...]
    tenths: tuple[Tenth, ...]
    components: tuple[ComponentValue, ...]
    fusion: Gain | None
    bursts: Gain | None
    pose: tuple[PoseError, ...]
    seconds: float


def evaluate_quality(
    models: Path,
    folder: Path,
    *,
    twins: Path | None,
    cache: Path | None,
    bursts: int,
    poses: int,
    seed: int,
    tick: Tick,
) -> QualityReport:
    """Measure.

    Args:
        folder: `<person>/<picture>`.
        twins: folder with the float twins, or None.
        cache: folder outside the repository, or None.
        bursts, poses: how many pictures bursts are simulated of, and poses looked at; 0 leaves them out.
        seed: of the draws.

    Raises:
        ModelError, NoFacesError, OSError.
    """
    began = time.perf_counter()
    pictures = list_pictures(folder)
    names = sorted({picture.person: picture.path.parent.name for picture in pictures}.items())
    faces = look_at(pictures, models, cache, _counted("faces", len(pictures), tick))
    check_enough(faces.persons)
    scores = score_all_pairs(faces.templates, faces.persons)
    found = curves(faces, [name for _, name in names], scores)
    low, high = SCORE_LENGTHS
    unified = 100 * np.clip((faces.lengths - low) / (high - low), 0, 1)
    eye = Eye(models)
    return QualityReport(
        persons=scores.persons,
        pictures=scores.pictures,
        without_face=len(pictures) - scores.pictures,
        curves=tuple(found),
        tenths=tuple(tenths(faces, unified, scores.threshold_at(FUSION_FMR))),
        components=tuple(component_values(faces, scores.threshold_at(1e-4))),
        fusion=fusion_gain(faces, FUSED, FUSION_FMR, seed, draws=DRAWS),
        bursts=_bursts(pictures, faces, eye, bursts, seed, tick) if bursts else None,
        pose=tuple(
            pose_errors(
                [picture.path for picture in _spread([pictures[row] for row in faces.rows.tolist()], poses)],
                eye,
                None if twins is None else twins / DETECTOR_TWIN,
                _counted("pose", poses, tick),
            )
            if poses
            else ()
        ),
        seconds=time.perf_counter() - began,
    )


def _bursts(pictures: list[Picture], faces: Faces, eye: Eye, count: int, seed: int, tick: Tick) -> Gain | None:
    """Of one picture of each of `count` persons who have several."""
    _, first, held = np.unique(faces.persons, return_index=True, return_counts=True)
    places = [int(place) for place in first[held > 1]]
    chosen = places[:: max(1, len(places) // count)][:count]
    advance = _counted("bursts", len(chosen), tick)
    pixels = []
    for place in chosen:
        path = pictures[int(faces.rows[place])].path
        pixels.append(decode_picture(path.read_bytes(), path.name))
        advance()
    return simulated_bursts(pixels, faces, chosen, eye, BURST, FUSION_FMR, seed)


def _spread(pictures: list[Picture], count: int) -> list[Picture]:
    return pictures[:: max(1, len(pictures) // count)][:count]


def _counted(stage: str, of: int, tick: Tick) -> Callable[[], None]:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        tick(stage, done, of)

    return advance
