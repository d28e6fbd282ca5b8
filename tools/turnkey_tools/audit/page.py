"""The audit as one self-contained page: no script, no font, nothing fetched."""

from __future__ import annotations

from turnkey_tools.audit.auditor import Audit


def page(audit: Audit) -> str:
    """HTML, UTF-8."""
    return audit.device_id
