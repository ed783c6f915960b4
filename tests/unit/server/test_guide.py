"""The operator's guide, `server/README.md`: its tables of settings and options are those of the code."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import typer.main

import stepwave_server
from stepwave.cli.app import app
from stepwave_server.config import Settings

FOLDER = Path(stepwave_server.__file__).parents[1]
GUIDE = (FOLDER / "README.md").read_text("utf-8")
SAMPLE = (FOLDER / "deploy" / "stepwave.toml").read_text("utf-8")
"""The sample of all settings. `test_sample_config.py` compares it with the code."""

WITHOUT = set(re.findall(r"^#(\w+) = .* # no default$", SAMPLE, re.MULTILINE))
"""The keys in the sample of settings that have no default."""

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group of commands


def options_of(command: str) -> Mapping[str, str]:
    """Return the options of a command by the name of the setting, else of the option."""
    options = [it for it in COMMANDS[command].params if it.opts[0].startswith("--")]
    return {it.name.removeprefix("no_"): it.opts[0] for it in options}


def defaults() -> Mapping[str, object]:
    """Return the default of each setting, as the sample writes it."""
    keys = tomllib.loads(re.sub(r"^#(?=[a-z_]+ = )", "", SAMPLE, flags=re.MULTILINE))
    tables = {name: keys.pop(name) for name in [it for it in keys if isinstance(keys[it], dict)]}
    return keys | {f"{name}_{key}": value for name, table in tables.items() for key, value in table.items()}


def default_text(setting: str, value: object) -> str:
    """Return the text of a default in the table."""
    if value in ("", []) or {setting, setting.partition("_")[2]} & WITHOUT:
        return "none"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def settings_table() -> str:
    """Return the table of all settings, in the order of the code."""
    options, values = options_of("serve"), defaults()
    rows = []
    for name, field in Settings.model_fields.items():
        option = f"`{options[name]}`" if name in options else ""
        rows.append(f"| `{name}` | {option} | {default_text(name, values[name])} | {field.description} |")
    return "\n".join(["| setting | option | default | meaning |", "|---|---|---|---|", *rows])


def test_the_table_of_settings_is_that_of_the_code() -> None:
    assert settings_table() in GUIDE, f"put this table into server/README.md:\n{settings_table()}"


def test_every_option_of_serve_that_is_no_setting_is_explained() -> None:
    own = [option for name, option in options_of("serve").items() if name not in Settings.model_fields]
    table = GUIDE.partition("These options of `stepwave serve` are no settings:\n\n")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(--\w+)` \| \w", table, re.MULTILINE) == own


def test_every_option_of_a_host_is_named() -> None:
    (sentence,) = re.findall(r"`stepwave host` has the options ([^.]+)\.", GUIDE)
    assert re.findall(r"`(--[a-z-]+)`", sentence) == list(options_of("host").values())
