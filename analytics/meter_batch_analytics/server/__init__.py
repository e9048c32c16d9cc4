"""The analytics server: apps and reports for people, reached through Home Assistant or by its own address."""
