"""Facts travel as JSON and come back as they were."""

from __future__ import annotations

import json

import pytest

from meter_batch_analytics.errors import ReportError
from meter_batch_analytics.report.facts import Facts

from . import example_facts

EXAMPLES = [example_facts.monthly, example_facts.daily, example_facts.bare, example_facts.empty]


@pytest.mark.parametrize("example", EXAMPLES)
def test_facts_come_back_from_json_as_they_were(example) -> None:
    facts = example()
    text = json.dumps(facts.as_dict(), ensure_ascii=False)
    again = Facts.from_dict(json.loads(text))
    assert again == facts
    assert json.dumps(again.as_dict(), ensure_ascii=False) == text


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_is_no_report_or_of_another_version_is_refused_in_words(example) -> None:
    data = example().as_dict()
    with pytest.raises(ReportError, match="make it anew"):
        Facts.from_dict(data | {"version": 0})
    with pytest.raises(ReportError, match="damaged"):
        Facts.from_dict({key: value for key, value in data.items() if key != "total"})
    with pytest.raises(ReportError, match="damaged"):
        Facts.from_dict(data | {"start": "yesterday"})


def test_a_report_that_was_kept_before_a_field_was_thought_of_is_still_read() -> None:
    data = example_facts.monthly().as_dict()
    del data["about"], data["site"], data["total"]["previous"]["comparable_period"]
    assert Facts.from_dict(data) == example_facts.monthly()
