"""Meter models of a user's own: a folder of templates in the configuration, read at the start and with every line."""

from __future__ import annotations

from pathlib import Path

from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir

from .const import DOMAIN
from .engine import Template, available, load, template_problems, use_folder

FOLDER = ("meter_batch", "templates")
ISSUE = "own_templates_wrong"
SHOWN = 5


def folder(hass: HomeAssistant) -> Path:
    """Where they lie."""
    return Path(hass.config.path(*FOLDER))


async def async_read(hass: HomeAssistant, templates: dict[str, Template]) -> None:
    """Brings `templates` up to date with the files; what is wrong in them becomes a repair issue that says it."""
    own = folder(hass)

    def read() -> tuple[dict[str, Template], list[str]]:
        use_folder(own)
        wrong = [error.text.replace(f"{own}/", "") for error in template_problems()]
        return {id_: load(id_) for id_ in available()}, wrong

    found, wrong = await hass.async_add_executor_job(read)
    # The same dictionary: everybody who looks models up has it.
    for id_ in templates.keys() - found.keys():
        del templates[id_]
    templates.update(found)
    if not wrong:
        ir.async_delete_issue(hass, DOMAIN, ISSUE)
        return
    ir.async_create_issue(
        hass,
        DOMAIN,
        ISSUE,
        is_fixable=False,
        severity=ir.IssueSeverity.WARNING,
        translation_key=ISSUE,
        translation_placeholders={
            "folder": str(own),
            "count": str(len(wrong)),
            "problems": "\n".join(f"- {one}" for one in wrong[:SHOWN]) + ("\n- …" if len(wrong) > SHOWN else ""),
        },
    )
