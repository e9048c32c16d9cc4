"""Modbus RTU and TCP, client and server side (Modbus Application Protocol V1.1b3, Modbus over Serial Line V1.02)."""
