"""Adding, testing and changing a line.

Its options are in options_flow.py, the server's steps in analytics_flow.py, those of discovered gateways in
gateway_steps.py.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, override

import probatio
from homeassistant.config_entries import (
    SOURCE_RECONFIGURE,
    SOURCE_USER,
    ConfigEntry,
    ConfigEntryState,
    ConfigFlowContext,
    ConfigFlowResult,
    FlowType,
    OptionsFlow,
)
from homeassistant.const import CONF_MAC, CONF_NAME
from homeassistant.core import callback
from homeassistant.helpers.selector import (
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    SerialPortSelector,
    TextSelector,
)

from . import link
from .access import Operation
from .analytics import analytics_entry
from .analytics_flow import AnalyticsSteps
from .const import (
    ANALYTICS,
    CONF_BAUD,
    CONF_HOST,
    CONF_LINK,
    CONF_PARITY,
    CONF_PORT,
    CONF_PROTOCOL,
    CONF_SERIAL_PORT,
    CONF_STOP_BITS,
    DOMAIN,
    WIRE_DEFAULTS,
    LineProtocol,
    Link,
)
from .gateway_steps import GatewaySteps
from .line_test import LineTestFailed, async_test_line, is_address
from .options_flow import LineOptionsFlow
from .site import async_get_site, flow_actor, line_as_dict
from .wording import async_in_words, async_message

CONF_TEST_ADDRESS = "test_address"

_PARITIES = {"none": "N", "even": "E", "odd": "O"}
_PARITY_NAMES = {letter: name for name, letter in _PARITIES.items()}
_BAUDS = ["300", "600", "1200", "2400", "4800", "9600", "19200", "38400", "57600", "115200"]


def _choice(
    options: list[str],
    key: str | None = None,
    mode: SelectSelectorMode = SelectSelectorMode.DROPDOWN,
    *,
    custom: bool = False,
) -> SelectSelector:
    config = SelectSelectorConfig(options=options, mode=mode, custom_value=custom)
    if key is not None:
        config["translation_key"] = key
    return SelectSelector(config)


_PROTOCOLS = _choice([one.value for one in LineProtocol], "line_protocol")
_WIRED = _choice([one.value for one in LineProtocol if one.on_a_wire], "line_protocol")
_PORT = probatio.All(
    NumberSelector(NumberSelectorConfig(min=1, max=65535, mode=NumberSelectorMode.BOX)), probatio.Coerce(int)
)

TCP = probatio.Schema(
    {
        probatio.Required(CONF_NAME): TextSelector(),
        probatio.Required(CONF_HOST): TextSelector(),
        probatio.Required(CONF_PORT, default=502): _PORT,
        probatio.Required(CONF_PROTOCOL, default=LineProtocol.MODBUS_TCP.value): _PROTOCOLS,
    }
)
SERIAL = probatio.Schema(
    {
        probatio.Required(CONF_NAME): TextSelector(),
        probatio.Required(CONF_SERIAL_PORT): SerialPortSelector(),
        probatio.Required(CONF_PROTOCOL, default=LineProtocol.MODBUS_RTU.value): _WIRED,
    }
)
WIRE = probatio.Schema(
    {
        probatio.Required(CONF_BAUD): _choice(_BAUDS, custom=True),
        probatio.Required(CONF_PARITY): _choice(list(_PARITIES), "parity"),
        probatio.Required(CONF_STOP_BITS): _choice(["1", "2"]),
    }
)
TEST = probatio.Schema({probatio.Optional(CONF_TEST_ADDRESS): TextSelector()})


def _is_host(text: str) -> bool:
    """False where more than a host was typed: a port has its own field. A colon is in IPv6 addresses only."""
    if ":" not in text:
        return bool(text) and "/" not in text and " " not in text
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


class MeterBatchConfigFlow(AnalyticsSteps, GatewaySteps, domain=DOMAIN):
    """A line is added in three steps: where it is, how fast its wire is, and a real test that leads back to them."""

    VERSION = 1
    MINOR_VERSION = 1

    def __init__(self) -> None:
        super().__init__()
        self._test_address = ""
        self._failed: LineTestFailed | None = None

    @staticmethod
    @callback
    @override
    def async_get_options_flow(config_entry: ConfigEntry) -> OptionsFlow:
        return LineOptionsFlow()

    @classmethod
    @callback
    @override
    def async_supports_options_flow(cls, config_entry: ConfigEntry) -> bool:
        return link.is_line(config_entry)

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Asks how the line is reached; or it is the analytics server, of which there is one."""
        options = [Link.TCP.value, Link.SERIAL.value]
        if analytics_entry(self.hass) is None:
            options.append(ANALYTICS)
        return self.async_show_menu(step_id="user", menu_options=options)

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """The same steps, beginning with what is set now; the line may also move from serial to TCP or back."""
        entry = self._get_reconfigure_entry()
        if not link.is_line(entry):
            return await self.async_step_analytics(user_input)
        self._name, self._data = entry.title, dict(entry.data)
        return self.async_show_menu(step_id="reconfigure", menu_options=[Link.TCP.value, Link.SERIAL.value])

    async def async_step_tcp(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Host, port and what is spoken there."""
        errors: dict[str, str] = {}
        if user_input is not None:
            user_input[CONF_HOST] = host = user_input[CONF_HOST].strip()
            if not _is_host(host):
                errors[CONF_HOST] = "bad_host"
            else:
                return await self._endpoint(Link.TCP, user_input)
        return self._form("tcp", TCP, user_input, errors)

    async def async_step_serial(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """A port of this machine, or of a serial server that speaks RFC 2217."""
        errors: dict[str, str] = {}
        if user_input is not None:
            user_input[CONF_SERIAL_PORT] = port = user_input[CONF_SERIAL_PORT].strip()
            if not port.startswith(("/", "rfc2217://")):
                errors[CONF_SERIAL_PORT] = "bad_serial_port"
            else:
                return await self._endpoint(Link.SERIAL, user_input)
        return self._form("serial", SERIAL, user_input, errors)

    async def _endpoint(self, link_: Link, user_input: dict[str, Any]) -> ConfigFlowResult:
        name = user_input.pop(CONF_NAME).strip()
        wire: dict[str, Any] = {
            key: self._data[key] for key in (CONF_BAUD, CONF_PARITY, CONF_STOP_BITS) if key in self._data
        }
        if self._data.get(CONF_PROTOCOL) != user_input[CONF_PROTOCOL]:
            wire = {}
        if CONF_MAC in self._data and self._data[CONF_HOST] == user_input.get(CONF_HOST):
            wire[CONF_MAC] = self._data[CONF_MAC]
        data: dict[str, Any] = {CONF_LINK: link_.value, **user_input, **wire}
        entry_with_it = await self.async_set_unique_id(link.unique_id(data), raise_on_progress=False)
        if self.source == SOURCE_RECONFIGURE:
            if entry_with_it is not None and entry_with_it.entry_id != self._get_reconfigure_entry().entry_id:
                return self.async_abort(reason="already_configured")
        else:
            self._abort_if_unique_id_configured()
        self._name, self._data = name or link.url(data), data
        if link.protocol(data).on_a_wire:
            return await self.async_step_wire()
        return await self.async_step_test()

    async def async_step_wire(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Baud, parity and stop bits; they begin at what the protocol's meters leave the factory with."""
        errors: dict[str, str] = {}
        if user_input is not None:
            if not user_input[CONF_BAUD].isdecimal() or not 50 <= int(user_input[CONF_BAUD]) <= 4_000_000:
                errors[CONF_BAUD] = "bad_baud"
            else:
                self._data |= {
                    CONF_BAUD: int(user_input[CONF_BAUD]),
                    CONF_PARITY: _PARITIES[user_input[CONF_PARITY]],
                    CONF_STOP_BITS: int(user_input[CONF_STOP_BITS]),
                }
                return await self.async_step_test()
        baud, parity, stop_bits = WIRE_DEFAULTS[link.protocol(self._data)]
        suggested = {
            CONF_BAUD: str(self._data.get(CONF_BAUD, baud)),
            CONF_PARITY: _PARITY_NAMES[self._data.get(CONF_PARITY, parity)],
            CONF_STOP_BITS: str(self._data.get(CONF_STOP_BITS, stop_bits)),
        }
        return self._form("wire", WIRE, user_input or suggested, errors)

    async def async_step_test(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Opens the line and, where an address was given, reads that meter."""
        errors: dict[str, str] = {}
        if user_input is not None:
            self._test_address = address = user_input.get(CONF_TEST_ADDRESS, "").strip()
            if address and not is_address(address, link.protocol(self._data)):
                errors[CONF_TEST_ADDRESS] = "bad_address"
            else:
                try:
                    await self._test(address)
                except LineTestFailed as failed:
                    self._failed = failed
                    return await self.async_step_test_failed()
                return await self.async_step_finish()
        placeholders = {"line": self._name, "where": link.url(self._data)}
        return self._form("test", TEST, {CONF_TEST_ADDRESS: self._test_address}, errors, placeholders)

    async def async_step_test_failed(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Says why and leads back to each step, or on."""
        failed = self._failed
        assert failed is not None
        hint = await async_in_words(self.hass, failed.hint)
        if failed.other is not None:
            hint = await async_message(self.hass, "test_other_edition", protocol=failed.other.label)
        wire = ["wire"] if link.protocol(self._data).on_a_wire else []
        return self.async_show_menu(
            step_id="test_failed",
            menu_options=[self._data[CONF_LINK], *wire, "test", "finish"],
            # The title of a menu takes no placeholders.
            description_placeholders={
                "problem": await async_in_words(self.hass, failed.problem),
                "hint": hint,
            },
        )

    async def _test(self, address: str) -> None:
        if self.source != SOURCE_RECONFIGURE:
            await async_test_line(self._data, {}, address or None)
            return
        # The port can only be opened once: the running line lets go of it for the test.
        entry = self._get_reconfigure_entry()
        loaded = entry.state.recoverable and await self.hass.config_entries.async_unload(entry.entry_id)
        try:
            await async_test_line(self._data, entry.options, address or None, busy=loaded)
        finally:
            if loaded:
                self.hass.config_entries.async_schedule_reload(entry.entry_id)

    async def async_step_finish(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Adds or changes the line, tested or not."""
        actor = flow_actor(Operation.CONFIGURE)
        log = (await async_get_site(self.hass)).log
        after = {"title": self._name, "data": self._data}
        if self.source == SOURCE_RECONFIGURE:
            entry = self._get_reconfigure_entry()
            await log.async_write(actor, "change_line", line=entry.entry_id, before=line_as_dict(entry), after=after)
            return self.async_update_reload_and_abort(
                self._get_reconfigure_entry(), title=self._name, data=self._data, unique_id=self.unique_id
            )
        await log.async_write(actor, "add_line", before=None, after=after)
        return self.async_create_entry(title=self._name, data=self._data)

    @override
    async def async_on_create_entry(self, result: ConfigFlowResult) -> ConfigFlowResult:
        """A new line that runs leads on to what it needs next: searching it for meters, or a list of them."""
        entry = result["result"]
        if link.is_line(entry) and entry.state is ConfigEntryState.LOADED:
            context = ConfigFlowContext(source=SOURCE_USER)
            options = await self.hass.config_entries.options.async_init(entry.entry_id, context=context)
            result["next_flow"] = (FlowType.OPTIONS_FLOW, options["flow_id"])
        return result

    def _form(
        self,
        step: str,
        schema: probatio.Schema,
        user_input: dict[str, Any] | None,
        errors: dict[str, str],
        placeholders: dict[str, str] | None = None,
    ) -> ConfigFlowResult:
        suggested: dict[str, Any] = user_input or {}
        if not suggested and self._data:
            suggested = {CONF_NAME: self._name, **self._data}
        return self.async_show_form(
            step_id=step,
            data_schema=self.add_suggested_values_to_schema(schema, suggested),
            errors=errors,
            description_placeholders=placeholders,
        )
