"""The ledger: registers at boundaries become intervals that add up to the last digit, kept in one file."""

from ..model.interval import Changes
from ..model.point import Term
from .ledger import Dropped, Ledger, LedgerHealth, Taken, verify_file
from .period import RESOLUTIONS, Resolution, gather, gathered, period_of
from .record import NOTHING, Boundary, Observed, Observer, Restart, boundary_of, restarts_of, swap
from .sums import Sum
from .verify import Verdict
from .virtual import combine

__all__ = [
    "NOTHING",
    "RESOLUTIONS",
    "Boundary",
    "Changes",
    "Dropped",
    "Ledger",
    "LedgerHealth",
    "Observed",
    "Observer",
    "Resolution",
    "Restart",
    "Sum",
    "Taken",
    "Term",
    "Verdict",
    "boundary_of",
    "combine",
    "gather",
    "gathered",
    "period_of",
    "restarts_of",
    "swap",
    "verify_file",
]
