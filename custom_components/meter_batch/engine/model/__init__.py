"""Frozen values that everything else speaks in: registers by OBIS, readings, points."""
