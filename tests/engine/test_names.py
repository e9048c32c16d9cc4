"""The engine is one thing under two names."""

from __future__ import annotations

import importlib.util
import subprocess
import sys


def test_the_engine_is_loaded_once_whatever_name_it_is_called_by() -> None:
    import meter_batch_engine.errors as errors

    hosted = importlib.util.find_spec("homeassistant") is not None
    assert errors.__name__ == ("custom_components.meter_batch.engine.errors" if hosted else "meter_batch_engine.errors")
    assert ("meter_batch_engine.errors" in sys.modules) is True


def test_the_engine_needs_no_home_assistant() -> None:
    """Absence is the proof: the plain environment does not have it."""
    code = "import meter_batch_engine, sys; print('homeassistant' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
