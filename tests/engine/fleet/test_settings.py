"""Settings of a poller: what cannot be is named."""

import pytest

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.fleet import PollSettings


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"budget": 1.5}, r"budget is 1.5; it is a share of the line's time from 0 to 1"),
        ({"time_zone": "Asia/Shangai"}, r'time_zone "Asia/Shangai" is not known; one looks like "Asia/Shanghai"'),
        ({"interval_s": 7}, "interval_s is 7"),
    ],
)
def test_a_setting_that_cannot_be_is_named(changes, says):
    with pytest.raises(ConfigError, match=says):
        PollSettings(**changes)
