"""`script/bench [--list] [--json] [--full] [NAME…]`: runs benches one after the other."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time

from rich.console import Console

from .figure import Figure, show

BENCHES = {
    "turnaround": "how much of a line's time is lost between two exchanges, and whether t3.5 is kept",
    "goodput": "values a second over those of the optimum plan, on all models",
    "dead": "what dead meters cost the living, and when a revival is seen",
    "scan": "how soon all meters of a line are found, and in how few questions",
    "crash": "what the ledger loses by kill -9 and power cuts, and how soon it is open again",
    "outage": "what the meters' memory brings back after two days without half the lines, and its price",
    "stall": "what is lost while the databases of Home Assistant and the ledger are locked",
    "ledger-cpu": "CPU a row of the ledger over a bare batched insert of the same rows",
    "modbus-cpu": "CPU an exchange over Modbus TCP, over the barest client with a time-out",
    "decode": "CPU a value from registers to readings, over one precompiled struct with scale",
    "dlt645-cpu": "CPU an exchange of DL/T 645 over its bare codec, and memory a meter",
    "alarms": "what twenty rules at a thousand points cost, and how late an alarm is",
    "apps": "how soon an app is seen, what a session costs, and what happens when no place is left",
    "reports": "what a month of 100 meters costs in three formats, and what a kernel that is kept saves",
    "noise": "what a disturbed line and a busy host cost, and whether a wrong value gets through",
    "fleet": "a thousand meters in one Home Assistant: its CPU, its event loop, start, import, a line that dies",
    "archive": "how large ten years are, how quickly they are read, and what encryption costs",
}


def main() -> int:
    """0 where all was measured, whether targets are met or not; 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="script/bench", description="Benchmarks; each figure is a ratio in one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which benches; all without")
    parser.add_argument("--list", action="store_true", help="name the benches")
    parser.add_argument("--json", action="store_true", help="one JSON object a figure and line")
    parser.add_argument("--full", action="store_true", help="long runs, up to an hour")
    options = parser.parse_args()
    if options.list:
        for name, about in BENCHES.items():
            print(json.dumps({"bench": name, "about": about}) if options.json else f"{name:<12}{about}")
        return 0
    if unknown := [name for name in options.names if name not in BENCHES]:
        parser.error(f"there is no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    screen = Console(stderr=True)
    figures: list[Figure] = []
    for name in options.names or BENCHES:
        screen.print(f"{name}: {BENCHES[name]} …")
        wall, cpu = time.monotonic(), time.process_time()
        made: list[Figure] = importlib.import_module(f".{name.replace('-', '_')}", __package__).run(full=options.full)
        screen.print(f"  {time.monotonic() - wall:.0f} s, {time.process_time() - cpu:.0f} s of CPU")
        figures += made
        if options.json:
            for one in made:
                print(json.dumps(one.row(), ensure_ascii=False), flush=True)
    if not options.json:
        show(figures, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
