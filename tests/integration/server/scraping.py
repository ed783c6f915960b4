"""Reads the metrics of a server as Prometheus does."""

import asyncio
from collections.abc import Mapping
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from integration.server.raw_client import GUARD

__all__ = ["Scrape", "scrape"]

OWN = "stepwave_"


class Scrape:
    """The metrics of one moment.

    Attributes:
        families: The names of the samples of each metric of Stepwave.

    Args:
        text: What the endpoint gave.
    """

    def __init__(self, text: str) -> None:
        families = [family for family in text_string_to_metric_families(text) if family.name.startswith(OWN)]
        self.families = {family.name: {sample.name for sample in family.samples} for family in families}
        self._samples = [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a name with these labels; 0: there are none."""
        wanted = {_label(name): value for name, value in labels.items()}
        found = [sample for sample in self._samples if sample.name == f"{OWN}{name}"]
        return sum(sample.value for sample in found if wanted.items() <= sample.labels.items())

    def values(self, name: str, label: str) -> Mapping[str, float]:
        """Return the samples of a name by one of their labels."""
        found = [sample for sample in self._samples if sample.name == f"{OWN}{name}"]
        return {sample.labels[_label(label)]: sample.value for sample in found}


def _label(name: str) -> str:
    return name if name.startswith("rpc_") else f"{OWN}{name}"


async def scrape(address: str) -> Scrape:
    """Read the metrics at an address."""

    def read() -> str:
        with urlopen(f"http://{address}/metrics", timeout=GUARD) as response:  # the endpoint of the test's own server
            data: bytes = response.read()
            return data.decode()

    return Scrape(await asyncio.to_thread(read))
