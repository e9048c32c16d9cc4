"""Steps of a line's options for lists of points: a file, a look at what it would do, and taking changes back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import probatio
from homeassistant.components.file_upload import process_uploaded_file
from homeassistant.config_entries import ConfigFlowResult
from homeassistant.helpers import translation
from homeassistant.helpers.selector import (
    FileSelector,
    FileSelectorConfig,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
)
from homeassistant.util import dt as dt_util

from . import access
from .cells import Known
from .const import DOMAIN
from .flow_steps import LINK_END, LineSteps, link_to
from .import_rows import PROBLEM_HEADERS
from .importer import DryRun, Outcome, dry_run
from .points_view import list_path, marked_path
from .registry import Registry, Step
from .sample import Mark, write_marked
from .site import Site, async_get_site, flow_actor
from .table import BROKEN
from .wording import async_message

SHOWN = 40
"""So many problems or changed rows are listed on the page of a dry run; the rest is counted."""
MOST_STEPS = 20
"""So many changes are offered to be taken back."""
_FILE = FileSelector(FileSelectorConfig(accept=".csv,.txt,.tsv,.xlsx"))


class ImportSteps(LineSteps):
    """A file is read, shown and applied."""

    def __init__(self) -> None:
        super().__init__()
        self._dry: DryRun | None = None
        self._file = (b"", "")  # content and name
        self._known: Known | None = None
        self._marked = ""
        """Where the file can be had with its problems marked."""
        self._steps: list[Step] = []

    async def async_step_import_points(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """A file, of which nothing is applied yet."""
        if user_input is not None:
            return await self._look_at(user_input["file"])
        line = self.config_entry.entry_id
        return self.async_show_form(
            step_id="import_points",
            data_schema=probatio.Schema({probatio.Required("file"): _FILE}),
            description_placeholders={
                "sample": link_to(list_path(self.hass, sample=True)),
                "list": link_to(list_path(self.hass, line)),
                "end": LINK_END,
            },
        )

    async def _look_at(self, upload: str) -> ConfigFlowResult:
        """A dry run of a file that was uploaded."""
        flow_actor(access.Operation.CONFIGURE)
        site = await async_get_site(self.hass)
        self._known = site.known(self.config_entry.entry_id)

        def read() -> tuple[bytes, str]:
            with process_uploaded_file(self.hass, upload) as path:
                return Path(path).read_bytes(), path.name

        self._file = await self.hass.async_add_executor_job(read)
        self._dry = await self._dry_run(self._known)
        self._marked = await self._mark(site, self._dry)
        return await self.async_step_review()

    async def _mark(self, site: Site, dry: DryRun) -> str:
        """Where the user's file can be had with what is wrong written into it; nowhere where nothing is."""
        columns = list(dry.headers)
        marks = [
            Mark(
                one["row"] or dry.header_row,
                columns.index(one["column"]) if one["column"] in columns else None,
                one["text"],
                wrong,
            )
            for wrong, problems in ((True, dry.problems), (False, dry.warnings))
            for one in await site.async_texts(problems)
        ]
        if not columns or not dry.problems:
            return ""
        title = PROBLEM_HEADERS[self.hass.config.language.startswith("zh")]
        data, name = self._file
        try:
            made = await self.hass.async_add_executor_job(write_marked, data, name, marks, dry.header_row, title)
        except BROKEN:
            return ""  # its first sheet could be read, the whole book cannot
        return marked_path(self.hass, name, made)

    async def _dry_run(self, known: Known) -> DryRun:
        data, name = self._file
        return await self.hass.async_add_executor_job(dry_run, data, known, name)

    async def async_step_review(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """What the file would do, row by row; then applies it as a whole."""
        site = await async_get_site(self.hass)
        dry = self._dry
        assert dry is not None
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {"address": "", "name": ""}
        if user_input is not None and user_input.get("file"):
            return await self._look_at(user_input["file"])
        if user_input is not None:
            # Points may have changed while somebody read: what is applied is made from what is there now, and is what
            # was shown. The instant is that of the first run, since it is shown too.
            assert self._known is not None
            known = replace(site.known(self.config_entry.entry_id), now=self._known.now)
            self._dry = again = await self._dry_run(known)
            if not _same(again, dry):
                errors["base"] = "import_changed"
                user_input = None
            dry = again
        usable = bool(dry.changes(skip_bad=True))
        if user_input is not None:
            skip, remove = user_input.get("skip_bad", False), user_input.get("remove_absent", False)
            changes = dry.changes(skip_bad=skip, remove_absent=remove)
            if dry.problems and not (skip and usable):
                errors["base"] = "import_has_problems" if usable else "import_all_bad"
            else:
                problems, more = await self._apply(site, changes, "import_points")
                if not problems:
                    return self._done()
                errors["base"] = next(iter(problems.values()))
                placeholders |= more
        fields: dict[Any, Any] = {}
        if dry.problems:
            fields[probatio.Optional("file")] = _FILE
        if dry.problems and usable:
            fields[probatio.Optional("skip_bad", default=False)] = bool
        if dry.absent and not dry.problems:
            fields[probatio.Optional("remove_absent", default=False)] = bool
        placeholders |= {
            "new": str(dry.count(Outcome.NEW)),
            "changed": str(dry.count(Outcome.CHANGED)),
            "unchanged": str(dry.count(Outcome.UNCHANGED)),
            "bad": str(dry.count(Outcome.BAD)),
            "absent": str(len(dry.absent)),
            "list": await self._listed(site, dry),
            "marked": await self._link_to_marked() if dry.problems else "",
        }
        return self.async_show_form(
            step_id="review", data_schema=probatio.Schema(fields), errors=errors, description_placeholders=placeholders
        )

    async def _link_to_marked(self) -> str:
        if not self._marked:
            return ""
        return "\n\n" + await async_message(self.hass, "import_marked_link", link=link_to(self._marked), end=LINK_END)

    async def async_step_undo(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Takes changes of points back, down to the one that is chosen."""
        registry = (await async_get_site(self.hass)).registry
        errors: dict[str, str] = {}
        if user_input is not None:
            actor = flow_actor(access.Operation.CONFIGURE)
            count = int(user_input["until"]) + 1
            if list(registry.undoable[:count]) != self._steps[:count]:
                errors["base"] = "undo_changed"
            else:
                for _ in range(count):
                    await registry.async_undo(actor)
                return self._done()
        self._steps = list(registry.undoable[:MOST_STEPS])
        texts = await translation.async_get_translations(self.hass, self.hass.config.language, "selector", {DOMAIN})
        words = {
            step.action: texts.get(f"component.{DOMAIN}.selector.change.options.{step.action}", step.action)
            for step in self._steps
        }
        zone = dt_util.get_default_time_zone()
        options = [
            SelectOptionDict(
                value=str(number),
                label=" · ".join(
                    one
                    for one in (
                        datetime.fromisoformat(step.at).astimezone(zone).strftime("%Y-%m-%d %H:%M"),
                        words[step.action],
                        step.who,
                        self._named(registry, step),
                    )
                    if one
                ),
            )
            for number, step in enumerate(self._steps)
        ]
        config = SelectSelectorConfig(options=options, mode=SelectSelectorMode.LIST)
        fields = {probatio.Required("until", default="0"): SelectSelector(config)}
        return self.async_show_form(step_id="undo", data_schema=probatio.Schema(fields), errors=errors)

    @staticmethod
    def _named(registry: Registry, step: Step) -> str:
        names = [
            str(one["name"]) if one is not None else registry.points[id_].name
            for id_, one in step.points.items()
            if one is not None or id_ in registry.points
        ]
        return ", ".join(names[:3]) + (f" … +{len(step.points) - 3}" if len(step.points) > 3 else "")

    async def _listed(self, site: Site, dry: DryRun) -> str:
        """Problems first, then assumptions, then changes, as lines of Markdown."""
        texts = await translation.async_get_translations(self.hass, self.hass.config.language, "options", {DOMAIN})

        def called(column: str) -> str:
            """As the file calls it; a column that it does not have as the form does."""
            label = texts.get(f"component.{DOMAIN}.options.step.add_point.data.{column}", column)
            return dry.headers.get(column, label).strip() or column

        lines = []
        for mark, problems in (("✗", dry.problems), ("⚠", dry.warnings)):
            for one in await site.async_texts(problems):
                where = "" if one["row"] is None else f"**{one['row']}"
                where += f" · {called(one['column'])}** " if where and one["column"] else "** " if where else ""
                lines.append(f"- {mark} {where}{one['text']}")
        for row in dry.rows:
            if row.outcome is Outcome.NEW:
                lines.append(f"- \\+ **{row.row}** {row.name}")  # a bare + would begin a list in the list
            elif row.outcome is Outcome.CHANGED:
                diff = ", ".join(f"{called(one)}: {old or '–'} → {new or '–'}" for one, (old, new) in row.diff.items())
                lines.append(f"- ± **{row.row}** {row.name}: {diff}")
        more = len(lines) - SHOWN
        return "\n".join(lines[:SHOWN]) + (f"\n- … +{more}" if more > 0 else "")


def _same(one: DryRun, other: DryRun) -> bool:
    """True where both look the same to who reviews them; new points have other ids each time."""
    return _seen(one) == _seen(other)


def _seen(dry: DryRun) -> object:
    rows = [(row.row, row.outcome, row.name, row.diff) for row in dry.rows]
    return rows, dry.problems, dry.warnings, dry.absent
