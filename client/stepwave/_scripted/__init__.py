"""Runs of workflows by a script, in virtual time: what `stepwave.testing.run_scripted` is made of.

`prepare`, `drive` and `actions` need the server and what comes with it, and are imported only when a run is asked for.
"""
