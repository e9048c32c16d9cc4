"""What Home Assistant asks of the server, with the token the two share: status, jobs, reports."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Mapping
from typing import Any

from tornado.web import HTTPError, RequestHandler

from meter_batch_engine.errors import ConfigError, MeterBatchError

from ..report.store import ReportStore
from ..report.tariff_file import load_tariffs
from ..words import LANGUAGES
from . import screens
from .jobs import Jobs
from .link import Link
from .pages import shown_apps
from .pool import KernelPool
from .scheduler import Scheduler
from .settings import BASE, REPORTS, TARIFFS, Settings, our_version


class Machine(RequestHandler):
    """A handler for whoever holds the token. Errors are JSON: `message`."""

    def initialize(
        self, settings: Settings, token: str, jobs: Jobs, scheduler: Scheduler, link: Link, pool: KernelPool
    ) -> None:
        """All there is to tell about."""
        self.ours, self.token, self.pool = settings, token, pool
        self.jobs, self.scheduler, self.link = jobs, scheduler, link
        self.store = ReportStore(settings.data / REPORTS)

    def prepare(self) -> None:
        """Nothing is told without the token."""
        given = self.request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            raise HTTPError(401, "the token of this server is asked for")

    def write_error(self, status_code: int, **more: Any) -> None:
        """Words, and no trace."""
        error = more["exc_info"][1] if more.get("exc_info") else None
        text = error.log_message if isinstance(error, HTTPError) else None
        self.set_status(status_code)
        self.answer({"message": text or "the analytics server could not answer; its log tells why"})

    def answer(self, data: Any, status: int | None = None) -> None:
        """As JSON."""
        if status is not None:
            self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(data, ensure_ascii=False))

    def body(self) -> dict[str, Any]:
        """The body as an object."""
        try:
            found = json.loads(self.request.body)
        except ValueError as error:
            raise HTTPError(400, "the body is no JSON") from error
        if not isinstance(found, dict):
            raise HTTPError(400, "the body is no JSON object")
        return found


class Status(Machine):
    """How the server is."""

    def tariff_problems(self) -> list[str]:
        """What is wrong with files of tariffs, before a report needs them."""
        return [*load_tariffs(self.ours.data / TARIFFS).broken.values()]

    async def get(self) -> None:
        """Apps, archive, mirror, kernels, Home Assistant as the server sees it, schedules."""
        known = screens.apps()
        self.answer(
            {
                "version": our_version(),
                "apps": [
                    {
                        "key": key, "path": f"apps/{key}", "icon": known[key]["icon"],
                        "name": {language: known[key][language] for language in LANGUAGES},
                    }
                    for key in shown_apps(self.ours)
                ],
                "archive": await asyncio.to_thread(self.link.archive),
                "mirror_at": self.link.mirror_at,
                "kernels": {"used": self.pool.used, "limit": self.pool.limit},
                "home_assistant": self.link.home_assistant,
                "schedules": self.scheduler.as_list(),
                "problems": [
                    *self.link.problems, *self.jobs.problems, *filter(None, [self.scheduler.problem]),
                    *await asyncio.to_thread(self.tariff_problems),
                ],
            }
        )  # fmt: skip


class NewJob(Machine):
    """A report that is wanted now."""

    def post(self) -> None:
        """202 with its id; 400 in words for what cannot be a request."""
        try:
            job = self.jobs.add(asked(self.body()))
        except ConfigError as error:
            raise HTTPError(400, _literal(str(error))) from error
        self.answer({"id": job.id}, 202)


class OneJob(Machine):
    """How far it is."""

    def get(self, id_: str) -> None:
        """404 for one that is not known (any more)."""
        job = self.jobs.find(id_)
        if job is None:
            raise HTTPError(404, "there is no such job")
        self.answer(job.as_dict())


class Reports(Machine):
    """All reports."""

    async def get(self) -> None:
        """Newest first."""
        self.answer([one.as_dict() for one in await asyncio.to_thread(self.store.list)])


class OneReport(Machine):
    """A report, to be removed."""

    async def delete(self, id_: str) -> None:
        """404 where there is none."""
        try:
            done = await asyncio.to_thread(self.store.delete, id_)
        except MeterBatchError as error:
            raise HTTPError(500, _literal(str(error))) from error
        if not done:
            raise HTTPError(404, "there is no such report")
        self.answer({"id": id_})


_FIELDS: Mapping[str, tuple[type, ...]] = {
    "kind": (str,), "report": (str,), "period": (str,), "points": (list, type(None)), "areas": (list, type(None)),
    "lines": (list, type(None)), "formats": (list,), "language": (str,), "tariff": (str, type(None)),
    "scope": (list, type(None)), "by": (str, type(None)), "schedule": (str, type(None)),
}  # fmt: skip
FORMATS = ("pdf", "xlsx", "html")


def asked(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a job, checked: what is misspelt is not left out silently. `scope` has no default."""
    for key, value in body.items():
        if key not in _FIELDS or not isinstance(value, _FIELDS[key]):
            raise ConfigError(f'"{key}" is no field of a job, or has no such value')
        if isinstance(value, list) and not all(isinstance(one, str) for one in value):
            raise ConfigError(f'"{key}" is a list of texts')
    for key in ("report", "period", "scope"):
        if key not in body:
            raise ConfigError(f'"{key}" is missing')
    if body.get("kind", "report") != "report" or body["report"] not in ("daily", "monthly"):
        raise ConfigError('a job is {"kind": "report", "report": "daily" or "monthly", …}')
    formats = body.get("formats") or list(FORMATS)
    if wrong := [one for one in formats if one not in FORMATS]:
        raise ConfigError(f'there is no format "{wrong[0]}"; there are {", ".join(FORMATS)}')
    return {**body, "formats": formats}


def _literal(text: str) -> str:
    """tornado takes a message for a format."""
    return text.replace("%", "%%")


def routes(more: Mapping[str, Any]) -> list[tuple[str, type[Machine], dict[str, Any]]]:
    """All of them."""
    return [
        (f"{BASE}/status", Status, dict(more)),
        (f"{BASE}/jobs", NewJob, dict(more)),
        (BASE + r"/jobs/([\w-]+)", OneJob, dict(more)),
        (f"{BASE}/reports", Reports, dict(more)),
        (BASE + r"/reports/([\w.-]+)", OneReport, dict(more)),
    ]
