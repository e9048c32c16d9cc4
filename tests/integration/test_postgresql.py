"""Home Assistant's recorder on PostgreSQL: the same statistics as on SQLite, against a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers.recorder import get_instance

from .postgresql import create_database, server
from .test_history import (  # noqa: F401  # the same promises, kept on this database
    site,
    test_after_a_crash_between_rows_and_shift_the_next_run_heals_it,
    test_history_from_before_the_first_reading_makes_no_giant_bar,
    test_late_data_go_to_their_hours_and_the_sum_of_all_stays,
    test_statistics_of_versions_without_a_ledger_go_on_without_a_jump,
    test_the_statistic_serves_the_energy_dashboard,
)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with server() as folder:
        yield folder


@pytest.fixture
def recorder_db_url(postgresql: str, request: pytest.FixtureRequest) -> str:
    """Replaces the fixture of the same name: an empty database for each test."""
    return create_database(postgresql, f"t{abs(hash(request.node.name)) % 10**9}")


@pytest.mark.usefixtures("recorder_mock")
async def test_the_recorder_really_runs_on_postgresql(hass: HomeAssistant) -> None:
    assert get_instance(hass).dialect_name == "postgresql"
