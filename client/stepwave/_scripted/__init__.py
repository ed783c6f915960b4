"""Scripted runs in virtual time, for `stepwave.testing.run_scripted`.

`prepare`, `runner` and `actions` need the server, and are imported only when a run is started.
"""
