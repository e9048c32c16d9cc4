"""RFC 2217 with servers that keep less of it than serialx expects."""

from __future__ import annotations

from typing import override

from serialx.platforms.serial_rfc2217 import RFC2217SerialTransport
from serialx.platforms.serial_rfc2217.types import Rfc2217Command, SetLinestateMaskCmd, SetModemstateMaskCmd


class PatientTransport(RFC2217SerialTransport):
    """Does not wait for the confirmation of notification masks: servers built on pyserial never send it.

    The masks only say which modem and line events we want to hear of, and we use none.
    """

    @override
    async def _send_and_wait(self, cmd: Rfc2217Command) -> Rfc2217Command:
        if isinstance(cmd, SetLinestateMaskCmd | SetModemstateMaskCmd):
            self._send_command(cmd)
            return cmd
        return await super()._send_and_wait(cmd)
