"""The configuration file: names, tables, units, paths, and problems with their lines."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from stepwave_server.config import Settings
from stepwave_server.config_loading import SettingsInvalid, load_settings
from stepwave_server.files.config import ConfigFileError, read_config_file


@pytest.fixture(autouse=True)
def _only_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("STEPWAVE_")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "stepwave.toml"


def _load(file: Path, text: str, **options: object) -> Settings:
    file.write_text(text)
    return load_settings(options, file=file).settings


def _problems(file: Path, text: str, **options: object) -> list[str]:
    """Return the problems, with the name of the file in place of its path."""
    with pytest.raises(SettingsInvalid) as caught:
        _load(file, text, **options)
    return [problem.replace(f"{file.parent}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize("key", ["max_runs", "max-runs", "max.runs"])
def test_a_key_is_the_name_of_a_setting_with_hyphens_or_underscores(file: Path, key: str) -> None:
    assert _load(file, f"{key} = 7").max_runs == 7


def test_a_table_adds_its_name_to_its_keys(file: Path) -> None:
    settings = _load(file, '[temporal]\naddress = "a:1"\ntask-queue = "q"\n\n[keep]\nruns = 5\n')
    assert (settings.temporal_address, settings.temporal_task_queue, settings.keep_runs) == ("a:1", "q", 5)


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if "_" in name])
def test_every_setting_can_be_in_the_table_of_its_first_word(file: Path, name: str) -> None:
    table, _, key = name.partition("_")
    file.write_text(f"[{table}]\n{key.replace('_', '-')} = 1\n")
    read = read_config_file(file, Settings.model_fields)
    assert (read.keys, read.lines, read.problems) == ({name: f"{table}.{key.replace('_', '-')}"}, {name: 2}, ())


def test_a_table_can_have_tables_in_it(file: Path) -> None:
    assert _load(file, '[temporal.heartbeat]\ntimeout = "3s"\n').temporal_heartbeat_timeout == 3


def test_a_setting_that_is_a_mapping_takes_a_table_as_it_is(file: Path) -> None:
    fields = {"tenants": FieldInfo(annotation=dict[str, dict[str, int]]), "tls_key": FieldInfo(annotation=SecretStr)}
    file.write_text('[tenants.a-team]\nmax_runs = 3\n\n[tls]\nkey = "k"\n')
    assert read_config_file(file, fields).values == {"tenants": {"a-team": {"max_runs": 3}}, "tls_key": "k"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ('"30s"', 30), ('"1m30s"', 90), ('"250ms"', 0.25), ('"7d"', 604_800), ('"15"', 15)],
)
def test_a_duration_is_a_number_of_seconds_or_a_text(file: Path, text: str, seconds: float) -> None:
    assert _load(file, f"step_timeout = {text}").step_timeout == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("10", 10), ('"10GiB"', 10 << 30), ('"1.5MB"', 1_500_000), ('"64 kib"', 65_536), ('"9"', 9)]
)
def test_a_size_is_a_number_of_bytes_or_a_text(file: Path, text: str, size: int) -> None:
    assert _load(file, f"keep_bytes = {text}").keep_bytes == size


def test_durations_and_sizes_are_texts_in_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWAVE_STEP_TIMEOUT", "2m")
    monkeypatch.setenv("STEPWAVE_KEEP_BYTES", "1MiB")
    assert (Settings().step_timeout, Settings().keep_bytes) == (120, 1 << 20)


@pytest.mark.parametrize("text", ['["tools", "agent.tools"]', '"tools, agent.tools"'])
def test_modules_with_actions_are_a_list_or_a_text_with_commas(file: Path, text: str) -> None:
    assert _load(file, f"actions = {text}").actions == ("tools", "agent.tools")


def test_modules_with_actions_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWAVE_ACTIONS", "tools,agent.tools")
    assert Settings().actions == ("tools", "agent.tools")


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ('workflows = "flows"', "workflows", "{folder}/flows"),
        ('limits = "../limits.yaml"', "limits", "{folder}/../limits.yaml"),
        ('limits = "/etc/limits.yaml"', "limits", "/etc/limits.yaml"),
        ('journal = "sqlite:data/runs.db"', "journal", "sqlite:{folder}/data/runs.db"),
        ('journal = "sqlite:/data/runs.db"', "journal", "sqlite:/data/runs.db"),
        ('journal = "sqlite:~/runs.db"', "journal", "sqlite:~/runs.db"),
        ('journal = "sqlite"', "journal", "sqlite"),
        ('listen = "unix:run.sock"', "listen", "unix:{folder}/run.sock"),
        ('chunks = "unix:///run/redis.sock"', "chunks", "unix:///run/redis.sock"),
    ],
)
def test_a_relative_path_is_relative_to_the_file(file: Path, text: str, field: str, value: str) -> None:
    assert str(getattr(_load(file, text), field)) == value.format(folder=file.parent)


def test_a_relative_path_of_an_option_is_relative_to_the_working_directory(file: Path) -> None:
    assert _load(file, 'workflows = "flows"', workflows=Path("others")).workflows == Path("others")


def test_options_win_over_the_environment_and_it_over_the_file_and_that_over_defaults(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPWAVE_MAX_RUNS", "20")
    monkeypatch.setenv("STEPWAVE_MAX_STEPS", "20")
    file.write_text("max_runs = 30\nmax_steps = 30\nmax_edges = 30\n")
    options = {"max_runs": 10, "max_steps": None}
    defaults = {"max_runs": 40, "max_steps": 40, "max_edges": 40, "max_calls": 40}
    loaded = load_settings(options, file=file, defaults=defaults)
    settings = loaded.settings
    assert (settings.max_runs, settings.max_steps, settings.max_edges, settings.max_calls) == (10, 20, 30, 40)
    assert {name: origin.name for name, origin in loaded.origins.items()} == {
        "max_runs": "--max-runs",
        "max_steps": "STEPWAVE_MAX_STEPS",
        "max_edges": f"{file}:3: max_edges",
    }


def test_an_empty_variable_does_not_hide_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWAVE_MAX_RUNS", "")
    assert _load(file, "max_runs = 30").max_runs == 30


def test_settings_read_no_file_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stepwave.toml").write_text("max_runs = 5")
    assert Settings().max_runs == load_settings({}).settings.max_runs == 10_000


def test_all_problems_of_all_sources_are_reported_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWAVE_MAX_CALLS", "many")
    text = 'max-rnus = 3\nmax_steps = 0\n\n[temporal]\nadress = "y"\nwait = "soon"\n'
    assert _problems(file, text, max_streams=0) == [
        "stepwave.toml:1: max-rnus: unknown key; did you mean max_runs?",
        "stepwave.toml:2: max_steps: Input should be greater than or equal to 1",
        "stepwave.toml:5: temporal.adress: unknown key; did you mean temporal.address?",
        'stepwave.toml:6: temporal.wait: "soon" is not a duration such as 300ms, 5s, 1m30s or 90',
        "STEPWAVE_MAX_CALLS: Input should be a valid integer, unable to parse string as an integer",
        "--max-streams: Input should be greater than or equal to 1",
    ]


def test_a_wrong_value_is_reported_although_another_source_overrides_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPWAVE_MAX_RUNS", "5")
    assert _problems(file, "max_steps = 0\nmax_runs = 0\nmax_calls = 9\n", max_steps=5, max_calls=0) == [
        "stepwave.toml:1: max_steps: Input should be greater than or equal to 1",
        "stepwave.toml:2: max_runs: Input should be greater than or equal to 1",
        "--max-calls: Input should be greater than or equal to 1",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("keep_run = 1", "1: keep_run: unknown key; did you mean keep_runs?"),
        ("[temporl]\nwait = 1", "1: temporl: unknown key; did you mean [temporal]?"),
        ("[temporal]\nmax_runs = 1", "2: temporal.max_runs: unknown key; did you mean max_runs?"),
        ("[temporal]\nzzz = 1", "2: temporal.zzz: unknown key"),
        ("temporal = 1", "1: temporal: it is a table: write [temporal], and its keys below"),
        ("max_runs = true", "1: max_runs: expected a number, got true"),
        ("max_runs = 1\nmax-runs = 2", "2: max-runs: is set already in line 1, as max_runs"),
        ('temporal_wait = 1\n[temporal]\nwait = "1s"', "3: temporal.wait: is set already in line 1, as temporal_wait"),
        ("actions = [1]", "1: actions[0]: Input should be a valid string"),
        ("[journal]\npath = 'x'", "1: journal: Input should be a valid string"),
        ('keep_bytes = "big"', '1: keep_bytes: "big" is not a size such as 64MiB, 10GiB or 1048576'),
        ("[[max]]\nruns = 1", "1: max: it is a table: write [max], and its keys below"),
    ],
    ids=str,
)
def test_a_problem_names_the_line_and_the_key(file: Path, text: str, problem: str) -> None:
    assert _problems(file, text) == [f"stepwave.toml:{problem}"]


def test_values_of_several_lines_do_not_shift_the_lines_of_problems(file: Path) -> None:
    text = (
        '# a comment\nactions = [\n  "max_runs = 1",  # ]\n  "b",\n]\nengine = """\nmax_rnus = 3\n"""\nmax_rnus = 3\n'
    )
    assert [problem.partition(": ")[0] for problem in _problems(file, text)] == ["stepwave.toml:6", "stepwave.toml:9"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("max_runs =\n", ":1:11: Invalid value"),
        ("a = 1\nb = [1", ":2: Unclosed array"),
        ("a = 1\na = 2\n", ":2:6: Cannot overwrite a value"),
    ],
)
def test_a_file_that_is_not_toml_is_refused_with_its_place(file: Path, text: str, problem: str) -> None:
    found = _problems(file, text)
    assert len(found) == 1
    assert found[0].startswith(f"stepwave.toml{problem}")


def test_a_file_that_cannot_be_read_is_refused(file: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"stepwave\.toml: cannot be read: No such file or directory"):
        load_settings({}, file=file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigFileError, match="cannot be read"):
        read_config_file(file, Settings.model_fields)


def test_the_valid_settings_remain_usable_beside_invalid_ones(file: Path) -> None:
    file.write_text('max_runs = 0\nmax_rnus = 3\nworkflows = "flows"\n')
    with pytest.raises(SettingsInvalid) as caught:
        load_settings({"max_steps": 7}, file=file)
    assert caught.value.usable is not None
    usable = caught.value.usable.settings
    assert (usable.max_runs, usable.max_steps, usable.workflows) == (10_000, 7, file.parent / "flows")


def test_a_password_is_not_in_a_problem(file: Path) -> None:
    assert "'http://user:***@host'" in _problems(file, 'chunks = "http://user:hunter2@host"')[0]


def test_a_variable_that_is_nearly_a_setting_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWAVE_MAX_RUN", "5")
    assert load_settings({}).warnings == ("STEPWAVE_MAX_RUN is no setting; did you mean STEPWAVE_MAX_RUNS?",)


@pytest.mark.parametrize(
    "variable",
    ["SERVER", "CONFIG", "DEBUG", "PORT", "SERVICE_HOST", "PORT_50051_TCP", "TEST_SEED", "SOAK_MINUTES", "SECRET_S"],
)
def test_variables_of_others_are_not_warned_of(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(f"STEPWAVE_{variable}", "5")
    assert load_settings({}).warnings == ()
