"""What fusing several pictures into one probe gains: on pictures of different days, and on simulated bursts.

Rules kept here:
1. A fused probe is compared with the single picture that would have been the probe otherwise, against the same gallery
   picture. Both are held to the threshold that their own impostor pairs give: fusing must not be paid for with false
   alarms. What the threshold of single pictures would have let through is said as well.
2. Who is grouped with whom follows from a stated seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from turnkey.vision.fusion import fuse
from turnkey.vision.quality import unified_score
from turnkey_tools.evaluate.quality_faces import Eye, Faces


@dataclass(frozen=True)
class Gain:
    """Probes of one kind against probes of another.

    Attributes:
        frames: fused into a probe.
        probes, impostor_pairs: how many there were of each kind.
        fmr: where both are held.
        single_threshold, fused_threshold: that give it, each over its own impostor pairs.
        single_fnmr, fused_fnmr: at these.
        fused_fmr_at_single_threshold: false match rate of fused probes at the threshold of single ones.
    """

    frames: int
    probes: int
    impostor_pairs: int
    fmr: float
    single_threshold: float
    fused_threshold: float
    single_fnmr: float
    fused_fnmr: float
    fused_fmr_at_single_threshold: float

    @property
    def lower_by(self) -> float:
        """How much lower fusing makes FNMR, of what is there."""
        return 1 - self.fused_fnmr / self.single_fnmr if self.single_fnmr else 0.0


@dataclass(frozen=True, eq=False)
class _Probes:
    """(p, d) single and fused, (p, d) the gallery picture of each, (p,) whose they are."""

    single: NDArray[np.float32]
    fused: NDArray[np.float32]
    mates: NDArray[np.float32]
    persons: NDArray[np.int64]


def fusion_gain(
    faces: Faces, frames: int, fmr: float, seed: int, *, draws: int = 1, most_groups: int = 6
) -> Gain | None:
    """Groups of `frames` pictures of a person, each probed at one further picture; None where nobody has so many.

    Args:
        draws: how often everybody's pictures are grouped anew; the probes of all draws are counted together.
        most_groups: of one person in one draw, so that nobody with hundreds of pictures decides.
    """
    draw = np.random.default_rng(seed)
    groups: list[NDArray[np.int64]] = []
    for person in np.tile(np.unique(faces.persons), draws):
        places = draw.permutation(np.flatnonzero(faces.persons == person))
        whole = min(most_groups, len(places) // (frames + 1))
        groups.extend(np.split(places[: whole * (frames + 1)], whole) if whole else [])
    if not groups:
        return None
    fused = [
        fuse([faces.templates[p] for p in group[:-1]], [unified_score(faces.lengths[p]) for p in group[:-1]])
        for group in groups
    ]
    probes = _Probes(
        single=faces.templates[[group[0] for group in groups]],
        fused=np.stack(fused),
        mates=faces.templates[[group[-1] for group in groups]],
        persons=faces.persons[[group[0] for group in groups]],
    )
    return _gain(probes, faces, frames, fmr)


def simulated_bursts(
    pictures: list[NDArray[np.uint8]], mates: Faces, places: list[int], eye: Eye, frames: int, fmr: float, seed: int
) -> Gain | None:
    """Bursts made of single pictures: each frame shaken, moved, lit and grained by itself. See `disturbed`.

    Args:
        pictures: (height, width, 3) uint8 RGB, of persons with at least one other picture.
        mates: every face of the set.
        places: of each picture among them.
    """
    draw = np.random.default_rng(seed)
    single, fused, kept = [], [], []
    for pixels, place in zip(pictures, places, strict=True):
        seen = [eye.look(disturbed(pixels, draw)) for _ in range(frames)]
        rows = [row for row in seen if row is not None]
        if seen[0] is None:
            continue
        templates = [row[:128].astype(np.float32) for row in rows]
        single.append(templates[0])
        fused.append(fuse(templates, [unified_score(float(row[128])) for row in rows]))
        kept.append(place)
    if not kept:
        return None
    other = [_another(mates, place) for place in kept]
    probes = _Probes(np.stack(single), np.stack(fused), mates.templates[other], mates.persons[kept])
    return _gain(probes, mates, frames, fmr)


def disturbed(pixels: NDArray[np.uint8], draw: np.random.Generator) -> NDArray[np.uint8]:
    """One frame as a hand-held press might have given it: turned up to 4 degrees, moved, blurred, darker, grained."""
    picture = Image.fromarray(pixels)
    dx, dy = draw.uniform(-6, 6, 2)
    picture = picture.rotate(float(draw.normal(0, 2)), Image.Resampling.BICUBIC, translate=(round(dx), round(dy)))
    picture = picture.filter(ImageFilter.GaussianBlur(float(abs(draw.normal(0, 1.2)))))
    lit = np.asarray(picture, dtype=np.float32) * draw.uniform(0.6, 1.3)
    grained = lit + draw.normal(0, draw.uniform(2, 12), lit.shape)
    return np.ascontiguousarray(np.clip(np.rint(grained), 0, 255).astype(np.uint8))


def _another(faces: Faces, place: int) -> int:
    """A neighbour of the same person."""
    following = place + 1
    same = following < len(faces.persons) and faces.persons[following] == faces.persons[place]
    return following if same else place - 1


def _gain(probes: _Probes, faces: Faces, frames: int, fmr: float) -> Gain:
    others = probes.persons[:, np.newaxis] != faces.persons[np.newaxis]
    impostors = [np.sort((kind @ faces.templates.T)[others]) for kind in (probes.single, probes.fused)]
    thresholds = [float(scores[len(scores) - int(fmr * len(scores)) - 1]) for scores in impostors]
    mated = [np.einsum("nd,nd->n", kind, probes.mates) for kind in (probes.single, probes.fused)]
    return Gain(
        frames=frames,
        probes=len(probes.persons),
        impostor_pairs=len(impostors[0]),
        fmr=fmr,
        single_threshold=thresholds[0],
        fused_threshold=thresholds[1],
        single_fnmr=float((mated[0] <= thresholds[0]).mean()),
        fused_fnmr=float((mated[1] <= thresholds[1]).mean()),
        fused_fmr_at_single_threshold=float((impostors[1] > thresholds[0]).mean()),
    )
