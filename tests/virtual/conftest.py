"""Running fleets for tests: free ports, temporary folders, values that stand still."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest_asyncio

from meter_batch_virtual.config import parse_fleet
from meter_batch_virtual.fleet import VirtualFleet

type StartFleet = Callable[..., Awaitable[VirtualFleet]]


@pytest_asyncio.fixture
async def start_fleet(tmp_path: Path) -> AsyncIterator[StartFleet]:
    """Starts fleets from TOML, held unless told otherwise, and stops them after the test."""
    running: list[VirtualFleet] = []

    async def start(toml: str, *, hold: bool = True) -> VirtualFleet:
        fleet = VirtualFleet(parse_fleet(toml, tmp_path / "fleet.toml"), hold=hold)
        await fleet.start()
        running.append(fleet)
        return fleet

    yield start
    for fleet in running:
        await fleet.stop()


async def run(*command: str) -> tuple[int, str, str]:
    """Runs another program while the fleet goes on; its status, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


PYTHON = sys.executable
