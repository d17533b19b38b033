"""Audits of checkpoints: probes, the assessment of their results, and the page."""
