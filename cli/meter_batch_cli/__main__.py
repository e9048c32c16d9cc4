"""`python -m meter_batch_cli` is `meter-batch`."""

from .main import main

main()
