"""The ledger: registers at boundaries become intervals that add up to the last digit, kept in one file."""

from ..model.interval import Changes
from ..model.point import Term
from .ledger import Ledger, LedgerHealth, Taken
from .period import RESOLUTIONS, Resolution, gather, period_of
from .record import NOTHING, Boundary, Observed, Observer, Restart, boundary_of, restarts_of, swap
from .verify import Verdict
from .virtual import combine

__all__ = [
    "NOTHING",
    "RESOLUTIONS",
    "Boundary",
    "Changes",
    "Ledger",
    "LedgerHealth",
    "Observed",
    "Observer",
    "Resolution",
    "Restart",
    "Taken",
    "Term",
    "Verdict",
    "boundary_of",
    "combine",
    "gather",
    "period_of",
    "restarts_of",
    "swap",
]
