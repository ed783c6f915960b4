"""Secrets files: who may use a secret, and that every problem is reported without a value."""

from pathlib import Path

import pytest

from stepwave_server.actions.failures import ActionFailed
from stepwave_server.engine.secrets.store import SecretRule, Secrets
from stepwave_server.files.secrets import SecretsError, load_secrets, parse_secrets, secret_warnings

FILE = Path("conf/secrets.toml")


def _read(text: str) -> Secrets:
    return parse_secrets(text, FILE)


def _problems(text: str) -> list[str]:
    with pytest.raises(SecretsError) as caught:
        _read(text)
    return [line.removeprefix(f"{FILE}: ") for line in str(caught.value).splitlines()]


def test_a_file_says_who_may_use_a_secret() -> None:
    text = """
folder = "/run/secrets/stepwave"
[secrets.A]
actions = ["http.request", "search.*"]
[secrets.b-2]
actions = ["*"]
namespaces = ["team", "default"]
"""
    assert _read(text) == Secrets(
        folder=Path("/run/secrets/stepwave"),
        rules={
            "A": SecretRule(actions=("http.request", "search.*")),
            "b-2": SecretRule(actions=("*",), namespaces=("team", "default")),
        },
    )


def test_a_relative_folder_is_beside_the_file() -> None:
    assert _read('folder = "values"').folder == Path("conf/values")


def test_an_empty_file_allows_nothing() -> None:
    assert not _read("").allow("A", "search", "default")


@pytest.mark.parametrize(
    ("action", "namespace", "allowed"),
    [
        ("http.request", "default", True),
        ("http.requests", "default", False),
        ("search.web", "default", True),
        ("search", "default", False),
        ("http.request", "team", False),
    ],
)
def test_actions_and_namespaces_are_matched(action: str, namespace: str, allowed: bool) -> None:
    secrets = _read('[secrets.A]\nactions = ["http.request", "search.*"]')
    assert secrets.allow("A", action, namespace) is allowed


def test_built_in_actions_are_never_allowed() -> None:
    assert not _read('[secrets.A]\nactions = ["*", "core.*"]').allow("A", "core.echo", "default")


def test_all_problems_are_reported_at_once_and_none_shows_a_value() -> None:
    text = """
folder = 5
vault = "x"
[secrets.A]
actions = ["no spaces", "*x"]
value = "sk-live-1234"
[secrets."b c"]
actions = []
namespaces = "team"
[secrets.C]
namespaces = ["a/b"]
"""
    problems = _problems(text)
    name = "must be a name of the form [A-Za-z_][A-Za-z0-9_-]{0,63}"
    pattern = "must be the name of an action, or the beginning of names and * at its end"
    assert sorted(problems) == sorted(
        [
            "folder: must be a string",
            "vault: unknown key",
            f"secrets.A.actions[0]: {pattern}",
            f"secrets.A.actions[1]: {pattern}",
            "secrets.A.value: unknown key",
            f"secrets.b c: {name}",
            "secrets.b c.actions: must not be empty",
            "secrets.b c.namespaces: must be a list",
            "secrets.C.actions: is required",
            "secrets.C.namespaces[0]: must be the name of a namespace",
        ]
    )
    assert "sk-live" not in "".join(problems)


@pytest.mark.parametrize("text", ['secrets = "sk-live-1234"', '[secrets]\nA = "sk-live-1234"'])
def test_a_value_in_place_of_a_table_is_not_shown(text: str) -> None:
    (problem,) = _problems(text)
    assert problem.endswith(": must be a table")


def test_a_syntax_error_is_reported_with_its_line() -> None:
    (problem,) = _problems("folder = x\n")
    assert "line 1" in problem


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SecretsError, match="cannot be read: No such file"):
        load_secrets(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff")
    with pytest.raises(SecretsError, match="cannot be read: not UTF-8"):
        load_secrets(tmp_path / "binary.toml")


USED = """
[secrets.A]
actions = ["search.*", "core.echo"]
[secrets.B]
actions = ["elsewhere"]
"""


def test_patterns_that_cover_no_action_and_values_that_are_missing_cause_warnings() -> None:
    assert secret_warnings(_read(USED), ["search.web", "core.echo"]) == [
        'the secret A covers no action of this server by "core.echo"',
        "the secret A has no value: set the variable STEPWAVE_SECRET_A",
        'the secret B covers no action of this server by "elsewhere"',
    ]


def test_a_host_warns_of_the_values_that_its_own_actions_need(monkeypatch: pytest.MonkeyPatch) -> None:
    assert secret_warnings(_read(USED), ["search.web"], all_known=False) == [
        "the secret A has no value: set the variable STEPWAVE_SECRET_A"
    ]
    monkeypatch.setenv("STEPWAVE_SECRET_A", "long enough")
    assert secret_warnings(_read(USED), ["search.web"], all_known=False) == []


def test_a_file_of_the_folder_is_a_value_without_its_last_newline(tmp_path: Path) -> None:
    (tmp_path / "A").write_bytes(b"two\nlines\n\n")
    assert Secrets(folder=tmp_path).value("A") == "two\nlines\n"


def test_a_folder_in_place_of_a_file_is_no_value(tmp_path: Path) -> None:
    (tmp_path / "A").mkdir()
    with pytest.raises(ActionFailed, match="the secret A has no value"):
        Secrets(folder=tmp_path).value("A")
