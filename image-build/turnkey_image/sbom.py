"""What is in an image: CycloneDX 1.6, from the image itself (dpkg's list, the Python packages' metadata, the models).

Rules kept here:
1. Exact versions, so that the list is the pin: `--like SBOM` refuses to build from anything else.
2. No clock and no random serial number: the same image has the same list.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from turnkey_image.environment import SITE

SPEC: Final = "1.6"


def debian_components(status: str) -> list[dict[str, Any]]:
    """Components of the installed packages in a dpkg status file."""
    found = []
    for stanza in status.split("\n\n"):
        fields = dict(HeaderParser().parsestr(stanza).items())
        if not fields.get("Status", "").endswith(" installed"):
            continue
        name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
        url = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={architecture}"
        found.append({"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url})
    return found


def python_components(site: Path) -> list[dict[str, Any]]:
    """Components of the distributions under a site-packages folder."""
    found = []
    for metadata in sorted(site.glob("*.dist-info/METADATA")):
        fields = HeaderParser().parsestr(metadata.read_text(errors="replace"))
        name, version = fields["Name"], fields["Version"]
        url = f"pkg:pypi/{quote(name.lower().replace('_', '-'))}@{quote(version)}"
        component: dict[str, Any] = {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}
        licence = fields["License-Expression"]
        if licence:
            component["licenses"] = [{"expression": licence}]
        found.append(component)
    return found


def model_components(models: Path) -> list[dict[str, Any]]:
    """Components of the model files, each with its SHA-256."""
    manifest = tomllib.loads((models / "manifest.toml").read_text()) if (models / "manifest.toml").exists() else {}
    found = []
    for path in sorted(models.glob("*.tflite")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append(
            {
                "type": "machine-learning-model",
                "bom-ref": f"model:{path.stem}@{digest[:12]}",
                "name": path.stem,
                "version": digest[:12],
                "hashes": [{"alg": "SHA-256", "content": digest}],
                "description": "named by the manifest" if path.name in json.dumps(manifest) else "not in the manifest",
            }
        )
    return found


def bill(root: Path, name: str, version: str, status: str, epoch: int) -> dict[str, Any]:
    """The whole list, as a JSON document."""
    components = [*debian_components(status), *python_components(root / SITE),
                  *model_components(root / "usr/share/turnkey/models")]  # fmt: skip
    named = hashlib.sha256(json.dumps([name, version, components], sort_keys=True).encode()).hexdigest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.UUID(named[:32])}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "operating-system", "bom-ref": name, "name": name, "version": version},
        },
        "components": components,
    }


def differences(wanted: dict[str, Any], made: dict[str, Any]) -> list[str]:
    """What differs between two lists, a line each: empty where the same packages are in both."""
    before, after = (_versions(document.get("components", ())) for document in (wanted, made))
    return [
        f"{name}: {before.get(name, 'absent')} wanted, {after.get(name, 'absent')} found"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _versions(components: Iterable[dict[str, Any]]) -> dict[str, str]:
    return {f"{item['purl'].split('@')[0]}": item["version"] for item in components if "purl" in item}
