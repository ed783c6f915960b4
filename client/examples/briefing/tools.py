"""The briefing's actions: two of its sources, and one that combines the answers. The weather comes by `http.request`.

The database is local and would answer in a millisecond. Its pause simulates the network between an agent and its tools.
"""

import re
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, time, timedelta
from functools import cache
from operator import itemgetter
from pydoc_data.topics import topics
from time import sleep
from urllib.request import urlopen

from dateutil.rrule import rruleset, rrulestr  # type: ignore[import-untyped]  # it ships no types
from icalendar import Calendar
from icalendar import Event as CalendarEntry

from stepwave import Answer, action

SEARCH_LATENCY_SECONDS = 0.6

DRY_MM = 0.5  # no umbrella needed up to this


@dataclass(frozen=True)
class Passage:
    """A text found by a search, with an excerpt of the match."""

    topic: str
    title: str
    excerpt: str


@dataclass(frozen=True)
class Event:
    """An entry of the calendar; `start` and `end` are `HH:MM`; empty: all day."""

    summary: str
    location: str
    start: str
    end: str


@dataclass(frozen=True)
class Forecast:
    """A day's weather in a city."""

    city: str
    day: date
    summary: str
    low_c: float
    high_c: float
    rain_mm: float
    wind_kmh: float


@action
def search(query: str, limit: int = 3) -> list[dict[str, str]]:
    """Search the Python language reference, best match first."""
    sleep(SEARCH_LATENCY_SECONDS)
    words = " ".join(f'"{word}"' for word in re.findall(r"\w+", query))  # quoted: FTS5 has operators of its own
    if not words:
        return []
    rows = _reference().execute(
        "SELECT topic, title, snippet(reference, 2, '', '', ' … ', 16) FROM reference WHERE reference MATCH ?"
        " ORDER BY bm25(reference, 4, 4, 1) LIMIT ?",
        (words, limit),
    )
    return [asdict(Passage(topic, title, " ".join(excerpt.split()))) for topic, title, excerpt in rows]


@cache
def _reference() -> sqlite3.Connection:
    """Index the texts of `help("with")` and the like: the language reference that Python ships."""
    database = sqlite3.connect(":memory:", check_same_thread=False)  # only read after it is made
    database.execute("CREATE VIRTUAL TABLE reference USING fts5(topic, title, body, tokenize='porter unicode61')")
    database.executemany(
        "INSERT INTO reference VALUES (?, ?, ?)", (_split(name, text) for name, text in topics.items())
    )
    return database


def _split(name: str, text: str) -> tuple[str, str, str]:
    """Split a topic's text into its name, its title and, below the underline, its body."""
    title, _, rest = text.strip().partition("\n")
    underline, _, body = rest.partition("\n")
    return name, title, body if not underline.strip("*=-") else rest


@action
def calendar(day: date, url: str) -> list[dict[str, str]]:
    """List the events of a calendar that begin on a day, in order, with recurring ones."""
    with urlopen(url, timeout=10) as response:  # noqa: S310 - the address is in the run's input
        entries = Calendar.from_ical(response.read()).events
    return [asdict(_describe(entry, start)) for start, entry in sorted(_beginning_on(day, entries), key=itemgetter(0))]


def _beginning_on(day: date, entries: Iterable[CalendarEntry]) -> Iterator[tuple[datetime, CalendarEntry]]:
    for entry in entries:
        first = _as_datetime(entry.DTSTART)
        midnight = datetime.combine(day, time.min, first.tzinfo)
        for start in _recurrences(entry, first).between(midnight, midnight + timedelta(days=1), inc=True):
            if start.date() == day:  # `between` includes the midnight after
                yield start.replace(tzinfo=None), entry


def _recurrences(entry: CalendarEntry, first: datetime) -> rruleset:
    """Return the starts of an entry: the first, and those of its recurrence rules (RFC 5545, 3.8.5)."""
    starts = rruleset()
    starts.rdate(first)
    for rule in entry.rrules:
        starts.rrule(rrulestr(rule.to_ical().decode(), dtstart=first))
    for exception in entry.exdates:
        starts.exdate(_as_datetime(exception))
    return starts


def _as_datetime(moment: date) -> datetime:
    return moment if isinstance(moment, datetime) else datetime.combine(moment, time.min)


def _describe(entry: CalendarEntry, start: datetime) -> Event:
    """Describe one occurrence of an entry."""
    all_day = not isinstance(entry.DTSTART, datetime)
    begin, end = ("", "") if all_day else (f"{start:%H:%M}", f"{start + entry.duration:%H:%M}")
    return Event(str(entry.summary), str(entry.location or ""), begin, end)


@action
async def combine(
    day: date, topic: str, events: list[Event], weather: Forecast, reading: list[Passage]
) -> AsyncIterator[str | Answer]:
    """Write the briefing line by line. The answer has the whole text and its sources."""
    lines: list[str] = []
    for line in _write(day, topic, events, weather, reading):
        lines.append(line)
        yield line + "\n"
    yield Answer(
        {
            "day": day.isoformat(),
            "city": weather.city,
            "text": "\n".join(lines),
            "events": [event.summary for event in events],
            "umbrella": weather.rain_mm > DRY_MM,
            "reading": [passage.topic for passage in reading],
        }
    )


def _write(
    day: date, topic: str, events: Sequence[Event], weather: Forecast, reading: Sequence[Passage]
) -> Iterator[str]:
    advice = "take an umbrella" if weather.rain_mm > DRY_MM else "no umbrella needed"
    yield f"{day:%A}, {day.day} {day:%B %Y}, {weather.city}"
    yield f"Weather: {weather.summary}, {weather.low_c:g} to {weather.high_c:g} °C; {advice}."
    yield "Calendar:" if events else "Calendar: nothing today."
    for event in events:
        when = f"{event.start}-{event.end}" if event.start else "all day"
        yield f"  {when:<12}{event.summary}" + (f" ({event.location})" if event.location else "")
    yield f"Reading on {topic}:" if reading else f"Reading on {topic}: nothing found."
    for passage in reading:
        yield f"  {passage.title}: {passage.excerpt}"
