"""Where history comes from: the ledger over HTTP, the archive, the recorder over WebSocket. All give `frame.SCHEMA`."""
