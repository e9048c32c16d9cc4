"""The ledger: registers at boundaries become intervals that add up to the last digit, kept in one file."""

from .ledger import Changes, Ledger, LedgerHealth, Taken
from .period import RESOLUTIONS, Resolution, gather, period_of
from .record import NOTHING, Boundary, Observed, Observer, Restart, boundary_of, restarts_of, swap
from .verify import Verdict
from .virtual import Term, combine

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
