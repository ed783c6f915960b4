"""What `stepwave config` shows of values: units, groups, and no secrets."""

from pydantic import Field, SecretStr

from stepwave_server.config import Settings
from stepwave_server.config_loading import LoadedSettings
from stepwave_server.config_report import SettingReport, report_settings


class _Settings(Settings):
    """Settings with secrets."""

    secret: SecretStr = SecretStr("")
    keys: tuple[SecretStr, ...] = ()
    secret_of: dict[str, SecretStr] = Field(default_factory=dict)


def _reports(**values: object) -> dict[str, SettingReport]:
    settings = _Settings.model_validate(values)
    reports = report_settings(LoadedSettings(settings=settings, origins={}, file=None, warnings=()))
    return {report.name: report for report in reports}


def test_secrets_are_masked_wherever_they_are() -> None:
    reports = _reports(
        secret="hunter2",
        keys=("hunter3",),
        secret_of={"team": "hunter4"},
        chunks="redis://:hunter5@host",
    )
    shown = [(reports[name].value, reports[name].text) for name in ("secret", "keys", "secret_of", "chunks")]
    assert "hunter" not in repr(shown)
    assert shown[3] == ("redis://:***@host", "redis://:***@host")
    assert all("***" in repr(pair) for pair in shown)


def test_a_secret_that_is_not_set_is_shown_as_none() -> None:
    reports = _reports()
    assert {reports[name].text for name in ("secret", "keys", "secret_of")} == {"none"}


def test_durations_and_sizes_have_units_for_people_and_none_for_programs() -> None:
    reports = _reports(step_timeout=90, lag_warning=0.25, drain_timeout=0, max_message_bytes=3 << 20, keep_bytes=1000)
    shown = {name: (report.text, report.value) for name, report in reports.items()}
    assert shown["step_timeout"] == ("90s", 90)
    assert shown["lag_warning"] == ("250ms", 0.25)
    assert shown["drain_timeout"] == ("0s", 0)
    assert shown["max_message_bytes"] == ("3MiB", 3 << 20)
    assert shown["keep_bytes"] == ("1000", 1000)
    assert shown["slots"] == ("1000", 1000)


def test_what_is_shown_of_a_duration_or_a_size_can_be_set() -> None:
    for seconds in (0.0005, 0.25, 1.5, 59, 60, 61, 3600, 5400, 86_400, 100_000):
        text = _reports(step_timeout=seconds)["step_timeout"].text
        assert Settings.model_validate({"step_timeout": text}).step_timeout == seconds, text
    for size in (1024, 1025, 10 << 20, 3 << 30):
        text = _reports(keep_bytes=size)["keep_bytes"].text
        assert Settings.model_validate({"keep_bytes": text}).keep_bytes == size, text


def test_ended_runs_are_kept_as_the_journal_says() -> None:
    assert [_reports(journal=journal)["keep_runs"].value for journal in ("memory", "sqlite")] == [1_000, 10_000]
    assert _reports(journal="memory", keep_runs=5)["keep_runs"].value == 5


def test_settings_with_the_same_first_word_are_a_group() -> None:
    groups = {name: report.group for name, report in _reports().items()}
    assert (groups["temporal_wait"], groups["max_runs"], groups["keep_age"]) == ("temporal", "max", "keep")
    assert (groups["drain_timeout"], groups["listen"]) == ("", "")
