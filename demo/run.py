"""`script/demo`: starts everything, sets it up as a user would, says where to look, and stops everything it started."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import fcntl
import json
import locale
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .certificate import make_certificate
from .home import Home, HomeError, prepare, wait_until
from .site import set_up

ROOT = Path(__file__).resolve().parents[1]
USER, PASSWORD = "demo", "meter-batch"
METERS = 66
MOST_IN_STANDARD_DETAIL = 300
"""More would be more entities than Home Assistant's pages bear; then lines choose their detail by size."""
MADE = (
    "config", "fleet.toml", "points.csv", "truth.json", "ready", "made.json",
    "fleet.log", "home-assistant.log", "analytics.log", "ttyMeters", "data", "token", "certificate.pem",
)  # fmt: skip
"""What a run leaves in its folder; nothing else is ever deleted."""
TARIFF = ROOT / "analytics" / "meter_batch_analytics" / "report" / "tariffs" / "china-industrial.toml"
PANEL = "meter-batch-analytics"
HOME, ANALYTICS = "home-assistant", "analytics"
RESTART = 100
"""The status with which Home Assistant asks to be started again (`homeassistant.const.RESTART_EXIT_CODE`)."""
PR_SET_PDEATHSIG = 1  # linux/prctl.h
MOST_WITH_YEAR = 100
"""With more meters the demo does not wait for their year."""
LONGEST_YEAR_S = 180.0
"""So long the demo waits for its year of history at most; on a quick machine it takes two minutes."""


def say(text: str) -> None:
    """Progress for people, on standard error."""
    print(text, file=sys.stderr, flush=True)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody has now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Children:
    """The processes the demo started, so that none outlives it."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self.environment: dict[str, str] = {}
        self._commands: dict[str, tuple[str, ...]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> None:
        """Starts a program whose output goes to a log file of that name."""
        with (self._logs / f"{name}.log").open("ab" if name in self._commands else "wb") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which then stops its children in order.
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
                env=os.environ | self.environment,
            )
        self._running[name], self._commands[name] = process, command

    def check(self) -> None:
        """HomeError where one of them has ended, with the last lines it said.

        A Home Assistant that ended to be restarted is started again. The site is well without the analytics server,
        so that may be stopped to see what happens.
        """
        for name, process in list(self._running.items()):
            if process.poll() is not None:
                if name == HOME and process.returncode == RESTART:
                    self.start(name, *self._commands[name])
                    continue
                if name == ANALYTICS:
                    say(f"The analytics server has ended. This starts it again:\n  {shlex.join(self._commands[name])}")
                    del self._running[name]
                    continue
                log = self._logs / f"{name}.log"
                tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
                raise HomeError(f"{name} ended with status {process.returncode}. The end of {log}:\n{tail}")

    def signal(self, name: str, number: signal.Signals) -> None:
        """Sends a signal to one of them."""
        self._running[name].send_signal(number)

    def stop(self) -> None:
        """Ends all of them, the youngest first, by force after fifteen seconds."""
        for process in reversed(self._running.values()):
            process.terminate()
        for process in reversed(self._running.values()):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _end_with_parent() -> None:
    """Between fork and exec: should the demo be killed, the system ends the child too (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def prepare_folder(options: argparse.Namespace, folder: Path) -> None:
    """Makes the folder ready: what the last run left is used again where it was complete and the same is asked for.

    Fills in what was not asked for.
    """
    made_by, ready = folder / "made.json", folder / "ready"
    made = json.loads(made_by.read_text(encoding="utf-8")) if made_by.exists() else {}
    options.meters = options.meters or made.get("meters", METERS)
    options.language = options.language or made.get("language") or terminal_language()
    asked = {"meters": options.meters, "language": options.language}
    if ready.exists() and asked.items() <= made.items() and not options.fresh:
        return
    if made and not options.fresh:
        say("Another fleet than last time, or the last run was stopped half-way: setting up again.")
    for name in MADE:
        old = folder / name
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
    made_by.write_text(json.dumps(asked), encoding="utf-8")


def terminal_language() -> str:
    """Chinese where the terminal is."""
    here = (locale.getlocale()[0] or os.environ.get("LANG", "")).lower()
    return "zh-Hans" if here.startswith("zh") else "en"


def fleet_files(folder: Path, meters: int, language: str) -> tuple[Path, Path]:
    """The virtual fleet and the list of its points; made once, so that a second start finds the same meters."""
    from meter_batch_virtual.demo import demo_fleet, line_count

    fleet, points = folder / "fleet.toml", folder / "points.csv"
    if not fleet.exists():
        fleet_text, points_text = demo_fleet(meters, free_ports(line_count(meters)), folder=folder, language=language)
        points.write_text(points_text, encoding="utf-8")
        fleet.write_text(fleet_text, encoding="utf-8")
    return fleet, points


async def run(options: argparse.Namespace) -> None:
    """The demo from start to stop; HomeError where something does not come up."""
    folder = Path(options.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "lock").exists() and any(folder.iterdir()):
        raise HomeError(f"{folder} is not empty and was not made by the demo; choose another --folder.")
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise HomeError(f"Another demo is running in {folder}; stop it, or give this one its own --folder.") from None
    if options.port and _taken(options.port):
        raise HomeError(f"Port {options.port} is taken by another program; choose another one with --port.")
    prepare_folder(options, folder)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    children = Children(folder)
    try:
        work = asyncio.create_task(_bring_up(options, folder, children))
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
            return
        facts = work.result()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, children.signal, "fleet", signal.SIGUSR1)
        _announce(options, facts)
        while not stop.is_set():
            children.check()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1)
    finally:
        say("Stopping …")
        children.stop()


async def _bring_up(options: argparse.Namespace, folder: Path, children: Children) -> dict[str, Any]:
    say(f"1/7  Virtual meters ({options.meters}) …")
    fleet, points = fleet_files(folder, options.meters, options.language)
    truth = folder / "truth.json"
    truth.unlink(missing_ok=True)
    hold = ["--hold"] if options.hold else []
    plain = ROOT / ".venv-plain" / "bin" / "python"
    children.start("fleet", str(plain), "-m", "meter_batch_cli", "simulate", str(fleet), "--truth", str(truth), *hold)

    config = folder / "config"
    config.mkdir(exist_ok=True)
    custom = config / "custom_components"
    custom.mkdir(exist_ok=True)
    link = custom / "meter_batch"
    if not link.is_symlink():
        link.symlink_to(ROOT / "custom_components" / "meter_batch")
    first_time = not (folder / "ready").exists()
    port = options.port or (free_ports(1)[0] if _taken(8123) else 8123)
    certificate = folder / "certificate.pem" if options.https else None
    if certificate is not None:
        if not certificate.exists():
            make_certificate(certificate)
        children.environment["SSL_CERT_FILE"] = str(certificate)
    prepare(config, port, certificate)
    say("2/7  Home Assistant" + (" (the first start takes half a minute) …" if first_time else " …"))
    children.start(HOME, sys.executable, "-m", "homeassistant", "-c", str(config), "--skip-pip")

    url = f"{'https' if options.https else 'http'}://127.0.0.1:{port}"
    async with Home(url, certificate) as home:

        async def up() -> bool:
            children.check()
            return truth.exists() and await home.answers()

        await wait_until(up, 180, "the virtual meters and Home Assistant")
        if first_time:
            await home.onboard(USER, PASSWORD, options.language)
        else:
            await home.sign_in(USER, PASSWORD)
        token = await home.use_long_lived_token("meter-batch demo")

        async def running() -> bool:
            children.check()
            return bool((await home.ask("get_config"))["state"] == "RUNNING")

        await wait_until(running, 180, "Home Assistant to be running")
        lines = tomllib.loads(fleet.read_text(encoding="utf-8"))["line"]
        if first_time:
            say(f"3/7  Lines ({len(lines)}), areas and metering points …")
            await set_up(home, lines, points, options.language, standard=options.meters <= MOST_IN_STANDARD_DETAIL)
            (folder / "ready").touch()
        else:
            say("3/7  Lines, areas and metering points are there.")
        await _wait_until_live(home, children, lines)
        if options.no_wait or options.meters > MOST_WITH_YEAR:
            say("5/7  A year of history comes out of the meters' memory in the background.")
        else:
            await _wait_for_the_year(home, children, lines)
        # After the year: both want Home Assistant's processor.
        say("6/7  Apps and reports …")
        data = folder / "data"
        analytics_url = await _start_analytics(home, children, folder, url, token, options.language)
    return {
        "url": url,
        "user": USER,
        "password": PASSWORD,
        "token": token,
        "token_file": str(folder / "token"),
        "config_dir": str(config),
        "truth": str(truth),
        "data": str(data),
        "archive": str(data / "archive"),
        "analytics_url": analytics_url,
        **({} if certificate is None else {"certificate": str(certificate)}),
    }


async def _wait_until_live(home: Home, children: Children, lines: list[dict[str, Any]]) -> None:
    """Waits until every meter that can answer has been read once, and says how far it is."""
    from .site import live_points

    expected = sum(
        1
        for line in lines
        for meter in line["meter"]
        if not any(f["kind"] == "silent" for f in meter.get("faults", ()))
    )
    said = -1

    async def live() -> bool:
        nonlocal said
        children.check()
        count = await live_points(home)
        if count // 10 != said // 10 or count >= expected:
            said = count
            say(f"4/7  Read {count} of {expected} meters …")
        return count >= expected

    await wait_until(live, 300, "a first reading of every meter")


async def _start_analytics(home: Home, children: Children, folder: Path, url: str, token: str, language: str) -> str:
    """Starts the analytics server, as on another machine: it knows an address and a token, and announces itself."""
    data, file = folder / "data", folder / "token"
    file.touch(0o600)
    file.write_text(token, encoding="utf-8")
    (data / "tariffs").mkdir(parents=True, exist_ok=True)
    for given, kept in (
        (TARIFF, data / "tariffs" / "default.toml"),
        (ROOT / "demo" / f"schedules.{language}.toml", data / "schedules.toml"),
    ):
        if not kept.exists():
            shutil.copyfile(given, kept)
    listen = f"127.0.0.1:{free_ports(1)[0]}"
    plain = str(ROOT / ".venv-plain" / "bin" / "python")
    children.start(
        ANALYTICS, plain, "-m", "meter_batch_analytics", "serve",
        "--url", url, "--token-file", str(file), "--data", str(data), "--listen", listen,
    )  # fmt: skip

    async def known() -> bool:
        children.check()
        return PANEL in await home.ask("get_panels")

    await wait_until(known, 120, "the analytics server")
    return f"http://{listen}"


async def _wait_for_the_year(home: Home, children: Children, lines: list[dict[str, Any]]) -> None:
    """Waits until the meters on lines without wire time have given their year, and says how far it is."""
    from .site import outstanding

    most, said = 0, -1
    deadline = time.monotonic() + LONGEST_YEAR_S
    while time.monotonic() < deadline:
        children.check()
        if (left := await outstanding(home, lines)) is None:
            return
        most = max(most, left)
        share = 100 * (most - left) // most if most else 0
        if share // 10 != said // 10:
            said = share
            say(f"5/7  A year of history out of the meters' memory: {share} % …")
        await asyncio.sleep(2)
    say("5/7  The rest of the year comes in the background; the dashboard says how much is left to read.")


def _taken(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def _announce(options: argparse.Namespace, facts: dict[str, Any]) -> None:
    if options.json:
        print(json.dumps(facts), flush=True)
    say(
        f"7/7  All live.\n\n     Open      {facts['url']}\n     Sign in   {facts['user']} / {facts['password']}\n"
        f"     Apps      {facts['analytics_url']} (the analytics server's own address)\n"
        f"     Token     {facts['token_file']} (of an administrator, for the commands)\n"
        f"     Truth     {facts['truth']}\n\n     Ctrl-C stops everything.\n"
        f"     kill -USR1 {os.getpid()} freezes the meters, and again lets them go on.\n"
    )


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number between two, as the type of an option."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text} is no number from {least} to {most}")
        return int(text)

    return parse


def main() -> int:
    """Parses the arguments and runs the demo; 0 when it was stopped by the user, 1 when it did not come up."""
    parser = argparse.ArgumentParser(prog="script/demo", description="A virtual fleet, read by a real Home Assistant.")
    add = parser.add_argument
    add("--port", type=whole(1, 65535), help="Home Assistant's port (8123, or a free one where that is taken)")
    add("--fresh", action="store_true", help="forget the last run and set everything up again")
    add("--json", action="store_true", help="one JSON line on standard output once all is live")
    add("--meters", type=whole(6, 3000), help=f"how many meters, spread over the lines (the last run's, or {METERS})")
    add("--hold", action="store_true", help="freeze all values, to compare the screen with the truth file")
    add("--https", action="store_true", help="Home Assistant by https, with a certificate signed by itself")
    add("--no-wait", action="store_true", help="do not wait until a year of history has been read")
    languages = "language of Home Assistant and of the names (the last run's, or the terminal's)"
    add("--language", choices=("en", "zh-Hans"), help=languages)
    add("--folder", default=str(ROOT / ".demo"), help="where it keeps its state (.demo)")
    options = parser.parse_args()
    try:
        asyncio.run(run(options))
    except HomeError as error:
        say(f"\nThe demo did not come up. {error}")
        return 1
    return 0
