"""A PostgreSQL server of the tests' own: started in an empty folder, on a Unix socket in it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

from ..conftest import need


def program(name: str) -> str | None:
    """Where a program of the server lies: Debian keeps them out of the path."""
    found = shutil.which(name)
    others = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return found or (str(others[-1]) if others else None)


def _as_nobody_special() -> list[str]:
    """The server refuses to run as root."""
    if os.geteuid():
        return []
    pwd.getpwnam("postgres")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


@contextmanager
def server() -> Iterator[str]:
    """Runs one; gives the folder of its socket. Skips where none is installed, fails so in CI."""
    initdb, postgres = program("initdb"), program("postgres")
    need("PostgreSQL", initdb is not None and postgres is not None)
    assert initdb and postgres
    user = _as_nobody_special()
    # Not tmp_path: the server's own user could not enter it.
    with tempfile.TemporaryDirectory(prefix="meter-batch-postgresql-") as name:
        if user:
            shutil.chown(name, "postgres", "postgres")
        data = Path(name) / "data"
        subprocess.run(
            [*user, initdb, "-D", data, "-U", "ha", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions"],
            check=True, stdout=subprocess.DEVNULL, cwd=name,
        )  # fmt: skip
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={name}", "-c", "fsync=off"]
        with (Path(name) / "log").open("wb") as log:
            running = subprocess.Popen([*user, postgres, "-D", data, *options], stdout=log, stderr=log, cwd=name)
        try:
            _wait(name, running)
            yield name
        finally:
            running.terminate()
            running.wait(20)


def _wait(folder: str, running: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        try:
            psycopg2.connect(host=folder, user="ha", dbname="postgres").close()
        except psycopg2.OperationalError:
            if running.poll() is not None:
                break
            try:
                running.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        else:
            return
    pytest.fail(f"PostgreSQL did not come up:\n{(Path(folder) / 'log').read_text()}")


def create_database(folder: str, name: str) -> str:
    """Makes an empty database; gives its URL."""
    connection = psycopg2.connect(host=folder, user="ha", dbname="postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}"')
    connection.close()
    return f"postgresql://ha@/{name}?host={folder}"
