"""The folder of reports, as the API and the pages give it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def listed(data: Path) -> list[dict[str, Any]]:
    """All reports, newest first."""
    try:
        from ..report.store import ReportStore
    except ImportError:
        return []
    return [one.as_dict() for one in ReportStore(data / "reports").list()]


def remove(data: Path, id_: str) -> bool:
    """Removes a report; whether there was one."""
    try:
        from ..report.store import ReportStore
    except ImportError:
        return False
    return bool(ReportStore(data / "reports").delete(id_))
