"""History of a site for analysts: `open(url, token)` gives its points and their history as one tidy frame.

    site = meter_batch_analytics.open("http://homeassistant.local:8123", token)
    frame = site.frame("Chiller 2", since="2026-01-01", until="2026-02-01", resolution="day")

Needs nothing but an address and a long-lived access token; with `archive=` also what the ledger has forgotten.
"""

from __future__ import annotations

from .errors import ArchiveError, AwayError, SourceError
from .site import Site
from .site import open_site as open

__all__ = ["ArchiveError", "AwayError", "Site", "SourceError", "open"]
