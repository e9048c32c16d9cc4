"""Starts the process that polls, by this file's path: `python -P start_child.py [FOLDER OF LIBRARIES …]`.

Nothing of the host is imported: the engine is loaded from the folder that this one lies in, under a name of its own.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

NAME = "meter_batch_engine"

if __name__ == "__main__":
    engine = Path(__file__).resolve().parents[1]
    spec = importlib.util.spec_from_file_location(
        NAME, engine / "__init__.py", submodule_search_locations=[str(engine)]
    )
    assert spec is not None and spec.loader is not None
    # Where the libraries are that the host has.
    sys.path += [one for one in sys.argv[1:] if one not in sys.path]
    sys.modules[NAME] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.exit(importlib.import_module(f"{NAME}.fleet.child").main())
