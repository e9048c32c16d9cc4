"""A running demo, and a browser signed in to it."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from ..conftest import ROOT, need

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KEYS = {
    "1-0:16.7.0": "active_power",
    "1-0:131.7.0": "reactive_power",
    "1-0:32.7.0": "voltage_l1",
    "1-0:31.7.0": "current_l1",
}


@dataclass
class Demo:
    """What `script/demo --json` printed, and the files it left."""

    facts: dict[str, Any]
    folder: Path
    process: subprocess.Popen[str]

    def ask(self, path: str, data: Any = None) -> Any:
        """One REST question to Home Assistant, with the printed token; with data it is posted."""
        headers = {"Authorization": f"Bearer {self.facts['token']}", "Content-Type": "application/json"}
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self.facts["url"] + path, body, headers)
        trusted = ssl.create_default_context(cafile=self.facts.get("certificate"))
        with urllib.request.urlopen(request, timeout=120, context=trusted) as response:
            return json.load(response)

    def act(self, name: str, **data: Any) -> Any:
        """The response of one of our actions."""
        return self.ask(f"/api/services/meter_batch/{name}?return_response", data)["service_response"]

    def truth(self) -> dict[str, dict[str, Any]]:
        """The truth file by meter name."""
        return {one["meter"]: one for one in json.loads(Path(self.facts["truth"]).read_text(encoding="utf-8"))}

    def points(self) -> dict[str, dict[str, str]]:
        """The imported list by name: where the current transformers are written."""
        with (self.folder / "points.csv").open(encoding="utf-8") as file:
            return {row["name"]: row for row in csv.DictReader(file)}

    def ports(self) -> list[int]:
        """Every port the demo listens on."""
        fleet = (self.folder / "fleet.toml").read_text(encoding="utf-8")
        listens = [
            line.rpartition(":")[2].strip('"') for line in fleet.splitlines() if line.startswith('listen = "tcp')
        ]
        return [int(self.facts["url"].rpartition(":")[2]), *map(int, listens)]


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def start_demo(folder: Path, *arguments: str, hold: bool = True) -> Demo:
    """Starts a demo, by default a held one, and waits until it says that all is live."""
    log = (folder.parent / f"{folder.name}.log").open("w+", encoding="utf-8")
    process = subprocess.Popen(
        [
            ROOT / "script" / "demo", "--json", *(["--hold"] if hold else []), "--port", str(free_port()),
            "--folder", folder, *arguments,
        ],
        stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout
    line = process.stdout.readline()
    log.seek(0)
    assert line, f"the demo did not come up:\n{log.read()}"
    return Demo(json.loads(line), folder, process)


@pytest.fixture(scope="module", params=["en", "zh-Hans"])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo with held values, once in each language."""
    folder = tmp_path_factory.mktemp("demo") / request.param
    demo = start_demo(folder, "--no-wait", "--language", request.param)
    yield demo
    demo.process.send_signal(signal.SIGINT)
    demo.process.wait(60)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of this machine."""
    need("Chromium", CHROMIUM is not None)
    with sync_playwright() as playwright:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                 "--ignore-certificate-errors"]  # fmt: skip
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, demo: Demo) -> Iterator[Callable[..., Page]]:
    """Opens a page of the demo at a width, signed in, and holds the console to silence."""
    contexts = []
    complaints: list[str] = []

    def opened(path: str, width: int) -> Page:
        language = "zh-CN" if "zh" in str(demo.folder) else "en-US"
        context = browser.new_context(viewport={"width": width, "height": 900}, locale=language)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(demo.facts["url"])
        page.locator("input[name=username]").fill(demo.facts["user"], timeout=60_000)
        page.locator("input[name=password]").fill(demo.facts["password"])
        page.locator("input[name=password]").press("Enter")
        page.wait_for_selector("home-assistant-main", timeout=60_000)
        page.goto(demo.facts["url"] + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
