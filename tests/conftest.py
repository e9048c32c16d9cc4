"""Fixtures for every test, and the one trick of the house: the engine has two import names, a process only one of them.

Without Home Assistant the engine is `meter_batch_engine`. Where Home Assistant is installed, the same tests run against
`custom_components.meter_batch.engine`, and the other name is made to mean the very same modules.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no failure: how long a test takes is what benches are for.
settings.register_profile("promises", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("promises")

ROOT = Path(__file__).resolve().parents[1]
ALONE, HOSTED = "meter_batch_engine", "custom_components.meter_batch.engine"


class OneEngine(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers imports of the engine's stand-alone name with the modules that Home Assistant loads."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == ALONE or fullname.startswith(ALONE + "."):
            return importlib.util.spec_from_loader(fullname, self)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(HOSTED + spec.name.removeprefix(ALONE))
        self._own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own


if importlib.util.find_spec("homeassistant") is not None and not any(
    isinstance(one, OneEngine) for one in sys.meta_path
):
    sys.path.insert(0, str(ROOT))
    # Home Assistant's test plugin has a package of this name too: ours must be the first.
    importlib.import_module("custom_components")
    sys.meta_path.insert(0, OneEngine())


def need(thing: str, present: bool) -> None:
    """Skips the test where a tool or data folder is absent; fails instead on CI, where everything must be there."""
    if present:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{thing} is missing, and on CI nothing may be missing")
    pytest.skip(f"{thing} is not here")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with published frames and foreign peers (METER_BATCH_SHARED, or `shared` beside the checkout)."""
    folder = Path(os.environ.get("METER_BATCH_SHARED", ROOT.parent / "shared"))
    need(f"the folder of published frames ({folder.name})", folder.is_dir())
    return folder
