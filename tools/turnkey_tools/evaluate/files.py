"""Write a report's files: the page, the JSON, the calibration table. Each is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from turnkey.vision.manifest import Calibration
from turnkey_tools.evaluate.page import report_page
from turnkey_tools.evaluate.plots import report_plots
from turnkey_tools.evaluate.report import REPORT_NAME, EvaluationReport
from turnkey_tools.models.manifest_file import calibration_text

PAGE_NAME = "index.html"
CALIBRATION_NAME = "calibration.toml"


def write_report(report: EvaluationReport, folder: Path) -> list[Path]:
    """Write all three; the files' paths.

    Raises:
        PlotsMissing: matplotlib is not installed.
        OSError: the folder cannot be written.
    """
    contents = {
        PAGE_NAME: report_page(report, report_plots(report)),
        REPORT_NAME: report.model_dump_json(indent=1) + "\n",
        CALIBRATION_NAME: _provenance(report) + calibration_text(calibration_of(report)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return [_replace(folder / name, text) for name, text in contents.items()]


def calibration_of(report: EvaluationReport) -> Calibration:
    """The calibration section for models/manifest.toml."""
    labels = "no group labels" if not report.groups else report.labels.rstrip(".")
    return Calibration(
        embedder_sha256=report.subject.embedder_sha256,
        dataset=f"{report.faces.dataset}, {report.faces.persons} persons; {labels}",
        command="turnkeyctl evaluate --faces DIR --report DIR",
        groups=report.calibration,
    )


def _provenance(report: EvaluationReport) -> str:
    return (
        f"# Made {report.made_at} by: {report.command}\n"
        f"# Embedder {report.subject.embedder_id}, mirrored: {str(report.subject.mirrored).lower()}, "
        f"centred by the mean of: {report.subject.cohort}\n"
        f"# Faces: SHA-256 over persons and pictures {report.faces.digest}\n\n"
    )


def _replace(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path
