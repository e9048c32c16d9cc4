"""The pages that are no notebook: messages, and the start page. Both languages, light and dark, narrow and wide."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from ..words import CHINESE, Words

FOLDER = Path(__file__).parent
_STYLE = """
:root{color-scheme:light dark;--fg:#1c1c1e;--soft:#5f6368;--bg:#fafafa;--card:#fff;--line:#e0e0e0;--accent:#0277bd}
.dark{--fg:#e6e6e6;--soft:#a0a4a8;--bg:#111;--card:#1c1c1e;--line:#333;--accent:#4fc3f7}
body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 Roboto,"Noto Sans","Noto Sans CJK SC",
"PingFang SC","Microsoft YaHei",sans-serif}
main{max-width:44rem;margin:0 auto;padding:2rem 1rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1.25rem 1.5rem;margin:0 0 1rem}
h1{font-size:1.5rem;font-weight:500;margin:0 0 1rem}h2{font-size:1.1rem;font-weight:500;margin:0 0 .5rem}
p{margin:.25rem 0 .75rem}a{color:var(--accent);text-decoration:none}a:hover,a:focus-visible{text-decoration:underline}
ul{list-style:none;margin:0;padding:0}li{padding:.5rem 0;border-top:1px solid var(--line)}li:first-child{border:0}
small{color:var(--soft)}.right{float:right}
"""


@lru_cache(maxsize=4)
def words(language: str) -> Words:
    """What the server says, in a language."""
    return Words.load(FOLDER / "words.toml", language)


@lru_cache(maxsize=1)
def apps() -> dict[str, dict[str, str]]:
    """The apps by key: their icon and their name by language."""
    found: dict[str, dict[str, str]] = tomllib.loads((FOLDER / "apps.toml").read_text(encoding="utf-8"))
    return found


def page(language: str, title: str, body: str, *, theme: str | None = None, refresh_s: int | None = None) -> str:
    """A whole page. Without a theme it follows the browser's."""
    lang = "zh-CN" if language == CHINESE else "en"
    refresh = "" if refresh_s is None else f'<meta http-equiv="refresh" content="{refresh_s}">'
    style = _STYLE
    if theme is None:
        style += "@media (prefers-color-scheme:dark){:root" + _STYLE.split(".dark", 1)[1].split("}", 1)[0] + "}}"
    return (
        f'<!doctype html><html lang="{lang}" class="{escape(theme or "")}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">{refresh}'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title>'
        f"<style>{style}</style></head><body><main>{body}</main></body></html>"
    )


def message(
    language: str, key: str, *, theme: str | None = None, refresh_s: int | None = None,
    title_key: str | None = None, link: tuple[str, str] | None = None, **facts: object,
) -> str:  # fmt: skip
    """A page that says one thing; `link` is an address and the key of its words."""
    say = words(language)
    title = say(title_key or f"{key}_title")
    more = "" if link is None else f'<p><a href="{escape(link[0])}">{escape(say(link[1]))}</a></p>'
    body = f'<div class="card" role="status"><h1>{escape(title)}</h1><p>{escape(say(key, **facts))}</p>{more}</div>'
    return page(language, title, body, theme=theme, refresh_s=refresh_s)


def start(language: str, base: str, shown: Iterable[str], reports: Iterable[Mapping[str, Any]], name: str) -> str:
    """The start page of the server's own address: apps, and reports with their files."""
    say, known = words(language), apps()
    tag = f"?lang={language}"
    items = "".join(f'<li><a href="{base}/apps/{key}{tag}">{escape(known[key][language])}</a></li>' for key in shown)
    rows = "".join(
        f"<li>{escape(str(one['title']))}<br><small>"
        + " · ".join(
            f'<a href="{base}/reports/{escape(str(one["id"]))}/{escape(str(file["name"]))}">'
            f"{escape(str(file['format']).upper())}</a>"
            for file in one["files"]
        )
        + "</small></li>"
        for one in reports
    )
    body = (
        f'<p class="right"><small>{escape(name)} · <a href="{base}/logout">{escape(say("sign_out"))}</a></small></p>'
        f"<h1>{escape(say('title'))}</h1>"
        f'<div class="card"><h2>{escape(say("apps"))}</h2><ul>{items}</ul></div>'
        f'<div class="card"><h2>{escape(say("reports"))}</h2>'
        + (f"<ul>{rows}</ul>" if rows else f"<p>{escape(say('no_reports'))}</p>")
        + "</div>"
    )
    return page(language, say("title"), body)
