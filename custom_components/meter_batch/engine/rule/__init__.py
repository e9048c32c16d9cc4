"""Rules and the findings they make: pure, no clock, no I/O; every instant is an argument (clause 5.1.3).

Pick-up and drop-out, delays, acknowledgement apart from the state, shelving: after IEC 62682 and the alarms of better
meters. The limits stand in `rules.toml`, with their sources.
"""

from .alarms import Alarms
from .book import Override, Rule, RuleBook, load_rules, scopes
from .usual import expected_day
from .watch import Subject
from .words import kind_name, sentence

__all__ = [
    "Alarms",
    "Override",
    "Rule",
    "RuleBook",
    "Subject",
    "expected_day",
    "kind_name",
    "load_rules",
    "scopes",
    "sentence",
]
