"""The demo: a virtual fleet on loopback and a Home Assistant that is set up through its public flows."""
