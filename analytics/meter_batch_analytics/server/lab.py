"""JupyterLab on the notebooks of the apps, for whoever may read the data folder: copies, which may be changed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from meter_batch_engine.errors import ConfigError

from ..archive import durable
from ..session import OWNER
from .settings import Settings, notebooks_folder


def start(
    data: Path, archive: Path | None, key_file: Path | None, keyring: str | None, port: int, browser: bool
) -> int:
    """Becomes JupyterLab. ConfigError where it is not installed or there is no archive."""
    from importlib.util import find_spec

    settings = Settings("", Path(), data.resolve(), archive=archive, key_file=key_file, keyring=keyring)
    if not (settings.archive_folder / "manifest.json").exists():
        raise ConfigError(f"there is no archive in {settings.archive_folder}")
    if find_spec("jupyterlab") is None:
        raise ConfigError("JupyterLab is not installed: install meter-batch with its analytics dependencies")
    folder = settings.data / "notebooks"
    with durable.failures(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for notebook in notebooks_folder().glob("*.ipynb"):
            if not (folder / notebook.name).exists():
                shutil.copyfile(notebook, folder / notebook.name)
    environment = os.environ | settings.environment | {"METER_BATCH_IDENTITY": OWNER.as_json()}
    arguments = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={folder}", "--ip=127.0.0.1", f"--port={port}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        # It listens on this machine alone, with a token; who is root here may do all it can do anyway.
        arguments.append("--allow-root")
    if not browser:
        arguments.append("--no-browser")
    os.execve(sys.executable, arguments, environment)
