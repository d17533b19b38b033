"""The demo: a small captioned image world behind a real, misbehaving HTTP server."""
