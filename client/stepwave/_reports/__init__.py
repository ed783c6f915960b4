"""Exported runs: the export file, reports on it, and its replay."""
