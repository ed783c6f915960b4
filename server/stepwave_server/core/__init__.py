"""The scheduler: a state machine for one run, pure and deterministic.

`decide(run, input, now)` returns events, requests and commands. `evolve(run, event)` is the only way a run's state
changes. `resume(run)` returns the requests and commands that are outstanding after a fold of events. Nothing here reads
a clock, draws a random number, or waits. Times are integer nanoseconds since the Unix epoch. Durations are integer
nanoseconds.
"""
