"""Home Assistant's recorder on PostgreSQL: the same statistics as on SQLite, against a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers.recorder import get_instance

from .postgresql import create_database, server


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
