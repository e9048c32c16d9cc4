"""What can go wrong with history, beside what the engine's own errors say."""

from __future__ import annotations

from meter_batch_engine.errors import MeterBatchError


class ArchiveError(MeterBatchError):
    """The archive cannot do what was asked (disk, damage, key, version); the message says why and what to do."""


class SourceError(MeterBatchError):
    """Where history comes from cannot be reached, or refuses; the message says what to do."""


class AwayError(SourceError):
    """Home Assistant does not answer now; asking again later may help."""


class ReportError(MeterBatchError):
    """A report cannot be made, kept or read; the message says why and what to do."""
