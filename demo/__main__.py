"""`python -m demo`. Until something runs that must be stopped, Ctrl-C just ends the program."""

import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)

from .run import main  # noqa: E402  # it takes a while to load

sys.exit(main())
