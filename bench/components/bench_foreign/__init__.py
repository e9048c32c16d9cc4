"""Twenty thousand sensors of somebody else, with statistics, and an action that has them compiled at once."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

import probatio
from homeassistant.components.recorder.tasks import StatisticsTask
from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse
from homeassistant.helpers.discovery import async_load_platform
from homeassistant.helpers.recorder import get_instance
from homeassistant.helpers.typing import ConfigType
from homeassistant.util import dt as dt_util

DOMAIN: Final = "bench_foreign"


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Makes the sensors; `compile` runs the statistics of the five minutes that run now."""
    await async_load_platform(hass, "sensor", DOMAIN, {}, config)

    async def compile_now(_call: ServiceCall) -> ServiceResponse:
        now = dt_util.utcnow()
        start = now.replace(minute=now.minute - now.minute % 5, second=0, microsecond=0)
        begin = time.monotonic()
        recorder = get_instance(hass)
        await recorder.async_block_till_done()
        recorder.queue_task(StatisticsTask(start, False))
        await recorder.async_block_till_done()
        return {"seconds": time.monotonic() - begin, "start": (start + timedelta()).isoformat()}

    hass.services.async_register(
        DOMAIN, "compile", compile_now, probatio.Schema({}), supports_response=SupportsResponse.ONLY
    )
    return True
