"""The demo: synthetic captioned images, served by an HTTP server that injects known failures."""
