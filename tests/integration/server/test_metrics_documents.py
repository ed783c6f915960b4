"""Every metric that a busy server exports stands in the server's README and on the dashboard, and nothing else does."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

import stepwave_server
from integration.server.build import flow, retry, step
from integration.server.fixture_types import Connect
from integration.server.raw_client import GUARD
from integration.server.scraping import Scrape, scrape
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.telemetry.metrics.instruments import INSTRUMENTS

FOLDER = Path(stepwave_server.__file__).parent.parent
README = (FOLDER / "README.md").read_text()
DASHBOARD = json.loads((FOLDER / "deploy/grafana/stepwave.json").read_text())
SHORT_TICKS = 0.02
"""A threshold of the event loop's lag, in seconds. The lag is measured four times in it."""


@pytest.fixture
async def busy(connect: Connect, tmp_path: Path) -> AsyncIterator[Scrape]:
    """The metrics of a server on which everything has happened that is measured."""
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits:\n- {actions: core.echo, adaptive: {initial: 8}}\n")
    settings = Settings(
        listen="127.0.0.1:0",
        metrics_listen="127.0.0.1:0",
        entry_points=False,
        limits=limits,
        journal=f"sqlite:{tmp_path / 'journal.db'}",
        lag_warning=SHORT_TICKS,
    )
    async with Server(settings) as server:
        client = connect(server)
        await client.run(flow(step("a", "core.echo"), step("b", "core.fail", after=["a"], retry=retry(1))))
        with pytest.raises(grpc.aio.AioRpcError):
            await client.get("nowhere")
        async with asyncio.timeout(GUARD):
            while "stepwave_event_loop_lag_seconds" not in (found := await scrape(server.metrics_address)).families:
                pass
        yield found


def _prometheus_name(name: str, unit: str) -> str:
    return name.replace(".", "_") + {"s": "_seconds", "By": "_bytes"}.get(unit, "")


async def test_a_busy_server_exports_every_metric(busy: Scrape) -> None:
    expected = {_prometheus_name(instrument.name, instrument.unit) for instrument in INSTRUMENTS}
    assert busy.families.keys() == expected


def test_the_table_of_the_readme_has_every_metric() -> None:
    row = r"^\| `(stepwave\.[a-z_.]+)` \| ([a-z -]+) \| `(.+?)` \| (.*?) ?\| (.+) \|$"
    rows = [(*cells, names.replace("`", ""), text) for *cells, names, text in re.findall(row, README, re.MULTILINE)]
    assert rows == [(it.name, it.kind.value, it.unit, ", ".join(it.attributes), it.description) for it in INSTRUMENTS]


def _queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


async def test_every_metric_of_the_dashboard_is_exported(busy: Scrape) -> None:
    exported = {name for names in busy.families.values() for name in names}
    named = {name for query in _queries() for name in re.findall(r"\bstepwave_[a-z_]+(?=\{)", query)}
    assert named
    assert named <= exported


async def test_every_exported_metric_has_a_panel(busy: Scrape) -> None:
    queries = " ".join(_queries())
    assert [name for name, samples in busy.families.items() if not any(it in queries for it in samples)] == []


def test_every_label_of_the_dashboard_is_an_attribute() -> None:
    attributes = {name.replace(".", "_") for instrument in INSTRUMENTS for name in instrument.attributes}
    labels = {
        label.strip()
        for query in _queries()
        for labels in re.findall(r"by \((.*?)\)", query)
        for label in labels.split(",")
    }
    assert labels - {"le"} <= attributes


def test_every_panel_has_a_title_of_its_own_and_no_other_in_its_place() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["title"] for panel in panels}) == len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
