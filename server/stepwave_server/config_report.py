"""The report of the settings: the value of each, without secrets, and its origin."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic.fields import FieldInfo

from stepwave._values.payload import JSON
from stepwave_server.config import Settings
from stepwave_server.config_loading import LoadedSettings, Origin, group_of
from stepwave_server.config_values import is_duration, is_size, mask_passwords, show_seconds, show_size
from stepwave_server.core.model import SECOND

__all__ = ["SettingReport", "report_settings"]


@dataclass(frozen=True, slots=True)
class SettingReport:
    """The report of one setting.

    Attributes:
        name: Its name.
        group: The table that it may be in, in a file; empty: none.
        value: Its value: seconds for a duration, bytes for a size, asterisks for secrets.
        text: The value as in a file, without quotes.
        origin: Where the value is from; `None`: it is the default.
    """

    name: str
    group: str
    value: JSON
    text: str
    origin: Origin | None


def report_settings(loaded: LoadedSettings) -> list[SettingReport]:
    """Return what holds for each setting, those of a group together and in the order of their declaration."""
    values = {**loaded.settings.model_dump(mode="json"), **_retention(loaded.settings)}
    fields = type(loaded.settings).model_fields
    reports = [_report(name, field, values[name], loaded.origins) for name, field in fields.items()]
    groups = list(dict.fromkeys(["", *(report.group for report in reports)]))
    return sorted(reports, key=lambda report: groups.index(report.group))


def _report(name: str, field: FieldInfo, value: JSON, origins: Mapping[str, Origin]) -> SettingReport:
    shown = _without_secrets(value)
    return SettingReport(
        name=name, group=group_of(name), value=shown, text=_text(shown, field), origin=origins.get(name)
    )


def _retention(settings: Settings) -> dict[str, JSON]:
    """Return the settings of retention. Their defaults depend on the journal."""
    retention = settings.retention()
    return {"keep_runs": retention.count, "keep_age": retention.age / SECOND, "keep_bytes": retention.size}


def _without_secrets(value: JSON) -> JSON:
    if isinstance(value, str):
        return mask_passwords(value)
    if isinstance(value, Mapping):
        return {key: _without_secrets(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return value


def _text(value: JSON, field: FieldInfo) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(_text(item, field) for item in value) or "none"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False) if value else "none"
    if isinstance(value, int | float):
        return show_seconds(value) if is_duration(field) else show_size(int(value)) if is_size(field) else f"{value}"
    return "none" if value is None or value == "" else str(value)
