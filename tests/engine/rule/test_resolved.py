"""Which rules work at a point, and what is said of those that rest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine import BY_KEY, Override, Point, Subject, load_rules
from meter_batch_engine.model.point import Term
from meter_batch_engine.rule.resolved import Resolved

from .conftest import KEYS


@given(
    keys=st.sets(st.sampled_from(KEYS)),
    unread=st.sets(st.sampled_from(KEYS)),
    attributes=st.dictionaries(
        st.sampled_from(["contract_kw", "rated_kw", "transformer_kva", "generation"]), st.just("100"), max_size=4
    ),
    line=st.sampled_from(["east", None]),
    virtual=st.booleans(),
    overrides=st.lists(
        st.builds(
            Override,
            st.just("site"),
            st.sampled_from([kind for kind, rule in load_rules().rules.items() if rule.subject == "point"]),
            st.booleans(),
        ),
        max_size=4,
    ),
)
def test_a_rule_works_just_where_no_reason_is_told_why_it_rests(
    keys: set[str],
    unread: set[str],
    attributes: dict[str, str],
    line: str | None,
    virtual: bool,
    overrides: list[Override],
) -> None:
    point = Point("p1", "p1", (), (), attributes=attributes, formula=(Term(1, "p2"),) if virtual else ())
    subject = Subject(point, None, line, frozenset(BY_KEY[key].obis for key in keys))
    rules = Resolved(load_rules(), overrides)
    works = {one.kind for one in rules.usable(subject)}
    why = rules.resting(subject, frozenset(BY_KEY[key].obis for key in keys | unread))
    assert {kind for kind, reasons in why.items() if not reasons} == works
    assert why.keys() == {kind for kind, rule in load_rules().rules.items() if rule.subject == "point"}
