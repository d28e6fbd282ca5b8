"""The same booking done with other people's parts: OpenCV, dlib's face_recognition; faiss flat for the search.

Rules kept here:
1. One thread each. Nobody is made slower than their own documentation would make them; where scaling the picture down
   first is quicker, that is a variant of its own, with its name. OpenCV's documentation advises `INTER_AREA` for
   shrinking, its samples scale linearly (which at a sixth of the size leaves most pixels out): both are measured.
2. Optional: what is not installed, or has no weights here, is said to be absent with the reason.
3. The steps are those of a booking: all frames of the burst, the largest face, aligned, embedded, the mean of the
   burst, every template searched, a threshold, a record signed in an envelope, the template kept in SQLite. Nothing of
   what the device does besides (second looks, mirror image, inspection, sameness) is asked of a peer, but for the
   one named `OpenCV, our steps` (`booking_same_steps`).
"""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from turnkey.envelope import SigningKey, sign
from turnkey.vision.embedder import unit
from turnkey_tools.bench.booking_same_steps import SameSteps
from turnkey_tools.bench.booking_scene import raw_files, raw_frames
from turnkey_tools.bench.synthetic import Population, Spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnkey_tools.bench.booking_protocol import Scene, Spec
    from turnkey_tools.bench.booking_worker import Booking

Embed = Callable[[NDArray[np.uint8], "Watch"], NDArray[np.float32] | None]
"""The template of a frame; None where the frame is passed over."""
_THRESHOLD = 0.3


class Watch:
    """Milliseconds of each stage, added up over the burst."""

    def __init__(self) -> None:
        self.stages_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.stages_ms[name] = self.stages_ms.get(name, 0.0) + 1e3 * (time.perf_counter() - began)


def absent(name: str) -> str | None:
    """Why a peer cannot be measured; None where it can."""
    lacking = [module for module in _NEEDS[name] if importlib.util.find_spec(module) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else None


def needs_weights(name: str) -> bool:
    """Whether it needs the networks as ONNX files (`sface.onnx`, `yunet.onnx`)."""
    return "onnx" in _NEEDS.get(name, ())


def opencv(spec: Spec, longest_px: int | None, *, by_area: bool = False) -> Booking:
    """FaceDetectorYN and FaceRecognizerSF, float ONNX of the same weights.

    Args:
        longest_px: scale the frame to this for the detector; None: the frame as it is.
        by_area: with INTER_AREA; otherwise linearly, which is the default of `cv2.resize`.
    """
    import cv2

    cv2.setNumThreads(1)
    detector: Any = cv2.FaceDetectorYN.create(str(spec.weights / "yunet.onnx"), "", (320, 320))
    recogniser: Any = cv2.FaceRecognizerSF.create(str(spec.weights / "sface.onnx"), "")

    def embed(frame: NDArray[np.uint8], watch: Watch) -> NDArray[np.float32]:
        with watch.stage("detect"):
            scale = 1.0 if longest_px is None else longest_px / max(frame.shape[:2])
            how = cv2.INTER_AREA if by_area else cv2.INTER_LINEAR
            small = frame if scale == 1.0 else cv2.resize(frame, None, fx=scale, fy=scale, interpolation=how)
            detector.setInputSize((small.shape[1], small.shape[0]))
            faces = detector.detect(small)[1]
            if faces is None:
                raise SystemExit("it found no face (YuNet is made for faces of 10 to 300 pixels)")
            face = max(faces, key=lambda row: row[2] * row[3]).copy()
            face[:14] /= scale
        with watch.stage("align"):
            aligned = recogniser.alignCrop(frame, face)
        with watch.stage("embed"):
            return np.asarray(recogniser.feature(aligned)[0], np.float32)

    return _booking(spec, lambda scene, watch: _opencv_frames(spec, scene, watch), embed)


def opencv_our_steps(spec: Spec) -> Booking:
    """FaceDetectorYN and FaceRecognizerSF, used step for step as the device uses its own models."""
    import cv2

    cv2.setNumThreads(1)
    whole, cut = (cv2.FaceDetectorYN.create(str(spec.weights / "yunet.onnx"), "", (320, 320)) for _ in range(2))
    steps = SameSteps(whole, cut, cv2.FaceRecognizerSF.create(str(spec.weights / "sface.onnx"), ""))

    def embed(frame: NDArray[np.uint8], watch: Watch) -> NDArray[np.float32] | None:
        with watch.stage("detect"):
            if steps.passes_over(frame):
                return None
            face = steps.face(frame)
        with watch.stage("align"):
            aligned = steps.recogniser.alignCrop(frame, face)
        with watch.stage("quality"):
            steps.inspect(frame, face, aligned)
        with watch.stage("embed"):
            return steps.template(aligned)

    def frames(scene: Scene, watch: Watch) -> Iterator[NDArray[np.uint8]]:
        steps.remembered.clear()
        yield from _opencv_frames(spec, scene, watch)

    return _booking(spec, frames, embed)


def _opencv_frames(spec: Spec, scene: Scene, watch: Watch) -> Iterator[NDArray[np.uint8]]:
    import cv2

    yield from _frames(spec, scene, watch, lambda path: np.asarray(cv2.imread(str(path)), np.uint8))


def face_recognition(spec: Spec, longest_px: int | None) -> Booking:
    """dlib's HOG detector, 68 landmarks and ResNet through `face_recognition`, its defaults.

    Args:
        longest_px: scale the frame to this first, as its examples do for speed; None: the frame as it is.
    """
    import face_recognition as peer

    def embed(frame: NDArray[np.uint8], watch: Watch) -> NDArray[np.float32]:
        with watch.stage("detect"):
            if longest_px is not None:
                picture = Image.fromarray(frame)
                picture.thumbnail((longest_px, longest_px))
                frame = np.asarray(picture)
            places = peer.face_locations(frame)
            place = max(places, key=lambda box: (box[2] - box[0]) * (box[1] - box[3]))
        with watch.stage("align and embed"):
            return np.asarray(peer.face_encodings(frame, [place])[0], np.float32)

    def frames(scene: Scene, watch: Watch) -> Iterator[NDArray[np.uint8]]:
        yield from _frames(spec, scene, watch, lambda path: np.asarray(peer.load_image_file(str(path)), np.uint8))

    return _booking(spec, frames, embed)


def _booking(spec: Spec, frames: Callable[[Scene, Watch], Iterator[NDArray[np.uint8]]], embed: Embed) -> Booking:
    import faiss

    faiss.omp_set_num_threads(1)
    population = Population(spec.templates, Spread.read(), spec.seed)
    index = faiss.IndexFlatIP(128)
    for number in range(population.chunks()):
        index.add(population.chunk(number))
    rows = sqlite3.connect(spec.root / f"peer-{time.monotonic_ns()}.db", isolation_level=None)
    rows.execute("PRAGMA journal_mode=WAL")
    rows.execute("PRAGMA synchronous=FULL")
    rows.execute("CREATE TABLE templates (reference TEXT, template BLOB)")
    key = SigningKey.generate()

    def book(scene: Scene, number: int) -> dict[str, float]:
        watch = Watch()
        templates = [template for frame in frames(scene, watch) if (template := embed(frame, watch)) is not None]
        probe = unit(np.mean(unit(np.stack(templates)), axis=0, dtype=np.float32))
        with watch.stage("search"):
            scores, places = index.search(probe[np.newaxis], 5)
        with watch.stage("sign"):
            found = [[int(place), float(score)] for place, score in zip(places[0], scores[0], strict=True)]
            record = {"booking": f"B-{number}", "threshold": _THRESHOLD, "candidates": found}
            sign("application/json", json.dumps(record).encode(), key)
        with watch.stage("enrol"):
            rows.execute("INSERT INTO templates VALUES (?, ?)", (f"B-{number}", probe.tobytes()))
        return watch.stages_ms

    return book


def _frames(
    spec: Spec, scene: Scene, watch: Watch, decode: Callable[[Path], NDArray[np.uint8]]
) -> Iterator[NDArray[np.uint8]]:
    """The burst: decoded with the peer's own decoder, or raw as the device's camera hands it over."""
    if spec.source == "jpeg":
        frames = (decode(path) for path in sorted((spec.root / scene / "burst" / "00.burst").glob("*.jpg")))
    else:
        frames = raw_frames(raw_files(spec.root, scene))
    while True:
        with watch.stage("capture"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


OPENCV, OPENCV_AREA = "OpenCV, whole frame", "OpenCV, scaled to 640 by area"
OPENCV_640, OPENCV_320 = "OpenCV, scaled to 640 linearly", "OpenCV, scaled to 320 linearly"
OPENCV_STEPS = "OpenCV, our steps"
DLIB, DLIB_SCALED = "face_recognition, whole frame", "face_recognition, scaled to 800"
PEERS: dict[str, Callable[[Spec], Booking]] = {
    OPENCV: lambda spec: opencv(spec, None),
    OPENCV_AREA: lambda spec: opencv(spec, 640, by_area=True),
    OPENCV_640: lambda spec: opencv(spec, 640),
    OPENCV_320: lambda spec: opencv(spec, 320),
    OPENCV_STEPS: opencv_our_steps,
    DLIB: lambda spec: face_recognition(spec, None),
    DLIB_SCALED: lambda spec: face_recognition(spec, 800),
}
_SFACE_YUNET = "FaceDetectorYN (2023mar) and FaceRecognizerSF (2021dec), float, 1 thread, their default thresholds, "
_DLIB = "face_locations (HOG, upsampled once) and face_encodings, their defaults, 1 thread, "
_WHOLE, _SHRUNK = "the frame as it is", "the frame shrunk to {} px for finding the face, {}"
SETTINGS: dict[str, str] = {
    OPENCV: _SFACE_YUNET + _WHOLE,
    OPENCV_AREA: _SFACE_YUNET + _SHRUNK.format(640, "INTER_AREA"),
    OPENCV_640: _SFACE_YUNET + _SHRUNK.format(640, "INTER_LINEAR"),
    OPENCV_320: _SFACE_YUNET + _SHRUNK.format(320, "INTER_LINEAR"),
    OPENCV_STEPS: _SFACE_YUNET + "the device's looks without its face mesh, ledger and overwriting",
    DLIB: _DLIB + _WHOLE,
    DLIB_SCALED: _DLIB + "the frame shrunk to 800 px for everything",
}
"""How each peer is set, in words that stand in the report."""
_NEEDS = {
    **dict.fromkeys((OPENCV, OPENCV_AREA, OPENCV_640, OPENCV_320, OPENCV_STEPS), ("cv2", "onnx", "faiss")),
    **dict.fromkeys((DLIB, DLIB_SCALED), ("face_recognition", "dlib", "faiss")),
}
