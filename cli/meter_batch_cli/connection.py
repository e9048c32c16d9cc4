"""The options that say where history is: a Home Assistant, an archive, or both. Commands share them word for word."""

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[str | None, typer.Option("--url", help="Home Assistant: http://homeassistant.local:8123")]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", help="File with a long-lived access token. With --url.")
]
Authority = Annotated[
    Path | None, typer.Option("--ca", metavar="FILE", help="Its certificate authority, if that is your own.")
]
ArchiveFolder = Annotated[Path | None, typer.Option("--archive", metavar="DIR", help="Folder of an archive.")]
KeyFile = Annotated[Path | None, typer.Option("--key-file", help="Key of an encrypted archive.")]
KeyRing = Annotated[
    str | None, typer.Option("--keyring", metavar="NAME", help="Key of an encrypted archive, in the keyring.")
]
Recorder = Annotated[
    bool, typer.Option("--recorder/--no-recorder", help="Hourly statistics for what nothing else knows.")
]
