"""Tests of the shares of namespaces: their proportion, no credit for idle time, and the order in a namespace."""

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwave_server.engine.admission.limits import Bound, Limit
from unit.server.engine.admission.harness import AdmissionHarness


class _Shared(AdmissionHarness):
    """A harness with one place, of the server or of a limit. Each run is in the namespace of its name's first letter.

    Attributes:
        served: Places so far, by namespace.
    """

    def __init__(self, kind: str, weights: dict[str, float]) -> None:
        limits = [Limit(actions="act", total=Bound(concurrency=1))] if kind == "limiter" else []
        super().__init__(*limits, places=50 if limits else 1, plain=kind == "fair", weights=weights)
        self.served: Counter[str] = Counter()

    def put(self, namespace: str, count: int, run: str = "") -> None:
        """Submit attempts, and admit one if the place is free."""
        self.submit(namespace + run, count, namespace=namespace)
        self._count()

    def serve(self, count: int = 1) -> str:
        """Hand the place on so many times. Return the names of the runs that got it, joined."""
        return "".join(name for _ in range(count) for name in self._next())

    def backlogged(self) -> set[str]:
        """Return the namespaces that wait."""
        return {ticket.namespace for ticket in self.waiting.values()}

    def _next(self) -> list[str]:
        self.release(*self.admitted)
        return [name.rstrip("0123456789") for name in self._count()]

    def _count(self) -> list[str]:
        found = self.admit()
        self.served.update(name[0] for name in found)
        return found


@pytest.fixture(params=["fair", "limited", "limiter"])
def kind(request: pytest.FixtureRequest) -> str:
    """Return the admission, and whether its one place is the server's or a limit's."""
    return str(request.param)


def test_namespaces_that_wait_get_places_by_their_weights(kind: str) -> None:
    harness = _Shared(kind, {"a": 3, "b": 1})
    harness.put("a", 100)
    harness.put("b", 100)
    assert Counter(harness.serve(40)) == {"a": 30, "b": 10}


def test_a_namespace_with_many_runs_gets_no_more_than_its_share(kind: str) -> None:
    harness = _Shared(kind, {})
    for run in "pqrstuvw":
        harness.put("a", 10, run)
    harness.put("b", 10)
    places = harness.serve(10)
    assert (places.count("a"), places.count("b")) == (5, 5)


def test_a_namespace_has_no_credit_for_the_time_in_which_it_did_not_wait(kind: str) -> None:
    harness = _Shared(kind, {})
    harness.put("a", 200)
    harness.put("b", 1)
    harness.serve(100)
    harness.put("b", 50)
    assert Counter(harness.serve(20)) == {"a": 10, "b": 10}


def test_a_namespace_that_waits_again_at_once_has_no_advantage(kind: str) -> None:
    harness = _Shared(kind, {"a": 4})
    harness.put("a", 100)
    for _ in range(50):
        if "b" not in harness.backlogged():
            harness.put("b", 1)
        harness.serve()
    assert 9 <= harness.served["b"] <= 11


def test_changed_weights_hold_from_the_next_place(kind: str) -> None:
    weights = {"a": 1.0, "b": 1.0}
    harness = _Shared(kind, weights)
    harness.put("a", 100)
    harness.put("b", 100)
    assert Counter(harness.serve(20)) == {"a": 10, "b": 10}
    weights["b"] = 4
    assert Counter(harness.serve(50))["b"] in {39, 40, 41}


_OPERATIONS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 12)) | st.tuples(st.just("serve"), st.integers(1, 15)), max_size=30
)
_WEIGHTS = st.sampled_from([0.5, 1.0, 1.7, 4.0])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["fair", "limited", "limiter"]),
    st.fixed_dictionaries(dict.fromkeys("abc", _WEIGHTS)),
    _OPERATIONS,
)
def test_shares_of_namespaces_that_wait_differ_by_no_more_than_a_place_of_each(
    kind: str, weights: dict[str, float], operations: list[tuple[str, int]]
) -> None:
    harness = _Shared(kind, weights)
    leads: dict[tuple[str, str], list[float]] = {}
    for what, number in operations:
        if what != "serve":
            harness.put(what, number)
        for _ in range(number if what == "serve" else 1):
            if what == "serve":
                harness.serve()
            for one, other in combinations("abc", 2):
                if not {one, other} <= harness.backlogged():
                    leads.pop((one, other), None)
                    continue
                lead = leads.setdefault((one, other), [])
                lead.append(harness.served[one] / weights[one] - harness.served[other] / weights[other])
                assert max(lead) - min(lead) <= 1 / weights[one] + 1 / weights[other] + 1e-6
