"""The file of runnables: what it says, and all of its problems at once."""

from pathlib import Path

import pytest

from stepwave_server.actions.described import DescribedAction
from stepwave_server.actions.runnables import RemoteAction, Runnable
from stepwave_server.files.runnables import RunnablesError, load_runnables, parse_runnables, runnable_table

FILE = Path("/etc/stepwave/runnables.toml")

COMPLETE = """
[runnables.search]
address = "search.internal:50061"
tls = true
ca = "ca.pem"
cert = "client.pem"
key = "/run/secrets/client.key"
server_name = "search.example.org"
health = "search"
stream = false

[runnables.search.actions.find]
action = "search_v2"
description = "Finds pages."
input_schema = {type = "object", required = ["query"]}
output_schema = {type = "string"}
idempotent = true

[runnables.search.actions.fetch]
input_schema = '{"type": "object"}'
"""


def one(text: str) -> Runnable:
    """Return the only service of a file."""
    (runnable,) = parse_runnables(text, FILE)
    return runnable


def problems(text: str) -> list[str]:
    """Return the problems of a file, without its name."""
    with pytest.raises(RunnablesError) as caught:
        parse_runnables(text, FILE)
    return [line.removeprefix(f"{FILE}: ") for line in str(caught.value).splitlines()]


def test_everything_may_be_said() -> None:
    assert one(COMPLETE) == Runnable(
        name="search",
        address="search.internal:50061",
        tls=True,
        ca=Path("/etc/stepwave/ca.pem"),
        cert=Path("/etc/stepwave/client.pem"),
        key=Path("/run/secrets/client.key"),
        server_name="search.example.org",
        health="search",
        stream=False,
        actions=(
            RemoteAction(
                name="find",
                remote="search_v2",
                description="Finds pages.",
                input_schema='{"type": "object", "required": ["query"]}',
                output_schema='{"type": "string"}',
                idempotent=True,
            ),
            RemoteAction(name="fetch", remote="fetch", input_schema='{"type": "object"}'),
        ),
    )


def test_a_table_that_is_written_is_read_again() -> None:
    action = DescribedAction(
        "web.search", 'Finds "pages"\n\x7f', '{"type": "object"}', output_schema='{"type": "string"}', idempotent=True
    )
    text = runnable_table("2 tools.py", "unix:/run/a.sock", [action, DescribedAction("fetch")], tls=True)
    found = one(text)
    assert (found.name, found.address, found.tls) == ("_2_tools_py", "unix:/run/a.sock", True)
    first, second = found.actions
    assert (first.name, first.description, first.idempotent) == ("web.search", 'Finds "pages"\n\x7f', True)
    assert (first.input_schema, first.output_schema) == ('{"type": "object"}', '{"type": "string"}')
    assert second == RemoteAction(name="fetch", remote="fetch")


def test_an_address_is_enough() -> None:
    assert one('[runnables.a]\naddress = "unix:/run/a.sock"') == Runnable(name="a", address="unix:/run/a.sock")


def test_a_list_of_actions_has_their_names() -> None:
    text = '[runnables.a]\naddress = "a:1"\nactions = ["b", "c.d"]'
    assert [action.remote for action in one(text).actions] == ["b", "c.d"]


def test_an_empty_file_has_no_services() -> None:
    assert parse_runnables("", FILE) == ()


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("", "runnables.a.address: is required"),
        ('address = "nowhere"', "runnables.a.address: 'nowhere' is not an address: expected HOST:PORT or unix:PATH"),
        ('address = "a:1"\nadress = "b"', "runnables.a.adress: unknown key"),
        ('address = "a:1"\ntls = 1', "runnables.a.tls: must be true or false"),
        ('address = "a:1"\ntls = true\ncert = "c"', "runnables.a: cert and key belong together: set both"),
        ('address = "a:1"\nca = "c"', "runnables.a: ca is for tls = true"),
        ('address = "a:1"\nactions = "b"', "runnables.a.actions: must be a list of names, or tables by name"),
        (
            'address = "a:1"\nactions = ["core.echo"]',
            "runnables.a.actions.core.echo: names that begin with core. are those of built-in actions",
        ),
        ('address = "a:1"\nactions.b.schema = 1', "runnables.a.actions.b.schema: unknown key"),
        (
            'address = "a:1"\nactions.b.input_schema = "{"',
            "runnables.a.actions.b.input_schema: is no JSON Schema: ",
        ),
    ],
)
def test_a_malformed_entry_is_refused_by_name(entry: str, problem: str) -> None:
    (found,) = problems(f"[runnables.a]\n{entry}")
    assert found.startswith(problem)


def test_a_schema_that_is_none_is_told_once() -> None:
    (found,) = problems('[runnables.a]\naddress = "a:1"\nactions.b.input_schema = {type = "strin"}')
    assert found.startswith("runnables.a.actions.b.input_schema: is no JSON Schema: /type: 'strin' is not valid")


def test_an_action_of_two_services_is_refused_with_the_file() -> None:
    text = '[runnables.a]\naddress = "a:1"\nactions = ["x"]\n[runnables.b]\naddress = "b:1"\nactions = ["x"]'
    assert problems(text) == ["runnables.b.actions.x: runnables.a has an action of this name, too"]


def test_all_problems_are_named() -> None:
    text = '[runnables.a]\naddress = "a"\n[runnables."b c"]\naddress = "b:1"\n[runables.d]\naddress = "d:1"'
    assert len(problems(text)) == 3


@pytest.mark.parametrize("text", ["[runnables", "a = " + "[" * 10_000, "a = " + "1" * 10_000])
def test_what_is_not_toml_is_refused(text: str) -> None:
    assert problems(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "runnables.toml"
    with pytest.raises(RunnablesError, match=r"runnables\.toml: cannot be read: No such file"):
        load_runnables(file)
    file.write_text('[runnables.a]\naddress = "a:1"\ntls = true\nca = "ca.pem"')
    with pytest.raises(RunnablesError, match=r"runnables\.a: .*ca\.pem cannot be read: No such file"):
        load_runnables(file)
