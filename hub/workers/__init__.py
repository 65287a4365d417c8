"""Loops: ingest batcher, sender, spool, janitor, their supervisor."""
