"""Write models/manifest.toml: the same manifest gives the same bytes."""

from __future__ import annotations

import json
from typing import Any

from turnkey.vision.manifest import Calibration, EmbedderEntry, GroupCalibration, Manifest, ModelEntry

_HEAD = """\
# The models this device runs, and what their scores mean. Written by `turnkeyctl models build`; not edited by hand.
# The fields are described in device/turnkey/vision/manifest.py.
"""
_NUMBERS_PER_LINE = 8


def manifest_text(manifest: Manifest) -> str:
    """The manifest as TOML, checked by nothing but the reader (`read_manifest`)."""
    parts = [_HEAD, f"version = {manifest.version}\n"]
    parts.append(_model("detector", manifest.detector))
    parts.append(_model("embedder", manifest.embedder))
    parts.append(_model("mesh", manifest.mesh))
    if manifest.guide is not None:
        parts.append(_model("guide", manifest.guide))
    parts.append(calibration_text(manifest.calibration))
    return "\n".join(parts)


def calibration_text(calibration: Calibration) -> str:
    """The section of the manifest that says what scores mean."""
    head = _table("calibration", calibration.model_dump(exclude={"groups"}))
    return "\n".join([head, *(_group(group) for group in calibration.groups)])


def _model(name: str, entry: ModelEntry) -> str:
    text = _table(name, entry.model_dump(exclude={"cohort_mean"}))
    if isinstance(entry, EmbedderEntry):
        numbers = [f"{value:.6f}" for value in entry.cohort_mean]
        lines = [numbers[i : i + _NUMBERS_PER_LINE] for i in range(0, len(numbers), _NUMBERS_PER_LINE)]
        body = "".join(f"  {', '.join(line)},\n" for line in lines)
        text += f"cohort_mean = [\n{body}]\n"
    return text


def _group(group: GroupCalibration) -> str:
    head = _table("calibration.groups", group.model_dump(exclude={"rows"})).replace(
        "[calibration.groups]", "[[calibration.groups]]"
    )
    rows = "".join(
        f"  {{ threshold = {row.threshold:.4f}, fmr = {row.fmr!r}, fmr_upper95 = {row.fmr_upper95!r} }},\n"
        for row in group.rows
    )
    return f"{head}rows = [\n{rows}]\n"


def _table(name: str, fields: dict[str, Any]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in fields.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # its escapes are TOML's, control characters and all
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return repr(value)
