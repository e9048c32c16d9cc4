"""Meter protocols, sans-I/O: bytes ↔ frames ↔ answers, client and server side. No clock, no socket, no log."""
