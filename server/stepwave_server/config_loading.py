"""Loads settings from options, the environment and a file, in this order of precedence, and tells their origins."""

import os
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)

from stepwave_server.config import Settings
from stepwave_server.config_values import mask_passwords
from stepwave_server.engine.secrets.store import VARIABLE as SECRET_VARIABLE
from stepwave_server.files.config import ConfigFile, ConfigFileError, read_config_file

__all__ = ["LoadedSettings", "Origin", "SettingsInvalid", "Source", "group_of", "load_settings", "problem_lines"]

PREFIX = "STEPWAVE_"

OTHER_VARIABLES = frozenset({"CONFIG", "DEBUG", "SERVER"})
"""Names of variables, without `STEPWAVE_`, that are no settings of the server."""

MIN_SIMILARITY = 0.8


class Source(StrEnum):
    """Where the value of a setting is from."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    OPTION = "option"


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a setting's value.

    Attributes:
        source: The kind of source.
        name: The option, the environment variable, or the place in the file, as `stepwave.toml:3: max_runs`.
    """

    source: Source
    name: str


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and where they are from.

    Attributes:
        settings: The settings.
        origins: The origins of those that are not at their default.
        file: The file; `None`: none was read.
        warnings: Environment variables that are probably misspelt.
    """

    settings: Settings
    origins: Mapping[str, Origin]
    file: ConfigFile | None
    warnings: tuple[str, ...]


class SettingsInvalid(ValueError):
    """Raised when settings are invalid. The message has a line for each problem.

    Attributes:
        problems: The problems. Each names its option, its environment variable, or its place in the file.
        usable: The settings without the invalid values; `None`: there are none.
    """

    def __init__(self, problems: Iterable[str], usable: LoadedSettings | None = None) -> None:
        self.problems = tuple(mask_passwords(problem) for problem in problems)
        self.usable = usable
        super().__init__("\n".join(self.problems))


def load_settings(
    options: Mapping[str, object],
    *,
    file: Path | None = None,
    defaults: Mapping[str, object] | None = None,
    option_names: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """Load settings from options, else the environment, else a file, else the defaults.

    Args:
        options: Values of options by the name of the setting; `None`: the option was not given.
        file: The file; `None`: none is read.
        defaults: Defaults of the command, where they differ from those of the settings.
        option_names: Names of options that differ from their setting's: `{"tracebacks": "--no-tracebacks"}`.

    Raises:
        SettingsInvalid: Settings are invalid.
    """
    try:
        read = read_config_file(file, Settings.model_fields) if file is not None else None
        layers = _Layers(
            options={name: value for name, value in options.items() if value is not None},
            environment=EnvSettingsSource(Settings)(),
            file=read,
            defaults=defaults or {},
        )
    except (ConfigFileError, SettingsError) as error:
        raise SettingsInvalid([str(error)]) from error
    return layers.load(option_names or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layers:
    """The values of all sources, by the name of the setting."""

    options: Mapping[str, object]
    environment: Mapping[str, object]
    file: ConfigFile | None
    defaults: Mapping[str, object]

    def load(self, option_names: Mapping[str, str]) -> LoadedSettings:
        """Validate the values.

        Raises:
            SettingsInvalid: Settings are invalid.
        """
        origins = self._origins(option_names)
        try:
            settings = self._type().model_validate(self.options)
        except ValidationError as error:
            wrong = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}
            kept = {name: origin for name, origin in origins.items() if name not in wrong}
            partial = self._without(wrong)
            usable = None if partial is None else self._loaded(partial, kept)
            raise SettingsInvalid(self._problems(error.errors(), origins), usable) from error
        loaded = self._loaded(settings, origins)
        if problems := self._problems([], origins):
            raise SettingsInvalid(problems, loaded)
        return loaded

    def _problems(self, errors: Iterable[ErrorDetails], origins: Mapping[str, Origin]) -> list[str]:
        """Return the problems of the file in the order of its lines, then the others."""
        in_file = [*(self.file.problems if self.file is not None else ()), *self._hidden_problems(origins)]
        others = []
        for error in errors:
            setting, line = str(next(iter(error["loc"]), "")), _problem_line(error, origins)
            if self.file is not None and setting in origins and origins[setting].source is Source.FILE:
                in_file.append((self.file.lines.get(setting, 0), line))
            else:
                others.append(line)
        return [*(problem for _, problem in sorted(in_file)), *others]

    def _hidden_problems(self, origins: Mapping[str, Origin]) -> list[tuple[int, str]]:
        """Return the problems of values in the file that another source overrides, with their lines."""
        if self.file is None:
            return []
        places = {name: Origin(Source.FILE, place) for name, place in self.file.places.items()}
        hidden = [name for name in self.file.values if origins[name].source is not Source.FILE]
        try:
            _only_arguments().model_validate({name: self.file.values[name] for name in hidden})
        except ValidationError as error:
            errors = [problem for problem in error.errors() if problem["loc"]]
            return [(self.file.lines.get(str(each["loc"][0]), 0), _problem_line(each, places)) for each in errors]
        return []

    def _origins(self, option_names: Mapping[str, str]) -> dict[str, Origin]:
        places = self.file.places if self.file is not None else {}
        return {
            **{name: Origin(Source.FILE, place) for name, place in places.items()},
            **{name: Origin(Source.ENVIRONMENT, _variable(name)) for name in self.environment},
            **{name: Origin(Source.OPTION, option_names.get(name, _option(name))) for name in self.options},
        }

    def _loaded(self, settings: Settings, origins: Mapping[str, Origin]) -> LoadedSettings:
        warnings = tuple(_misspelt_variables(os.environ))
        return LoadedSettings(settings=settings, origins=origins, file=self.file, warnings=warnings)

    def _without(self, wrong: Container[str]) -> Settings | None:
        """Return the settings with the default in place of some; `None`: they are invalid together."""
        values = {**self.defaults, **self._of_file, **self.environment, **self.options}
        try:
            return _only_arguments().model_validate({name: values[name] for name in values if name not in wrong})
        except ValidationError:
            return None

    @property
    def _of_file(self) -> Mapping[str, object]:
        return self.file.values if self.file is not None else {}

    def _type(self) -> type[Settings]:
        """Return settings that have the file and the defaults as further sources."""
        more = (dict(self._of_file), dict(self.defaults))

        class _Layered(Settings):
            @classmethod
            def settings_customise_sources(
                cls,
                settings_cls: type[BaseSettings],
                init_settings: PydanticBaseSettingsSource,
                env_settings: PydanticBaseSettingsSource,
                *_: object,
                **__: object,
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                """Return the sources, the first of which wins."""
                return (init_settings, env_settings, *(InitSettingsSource(settings_cls, values) for values in more))

        return _Layered


def group_of(setting: str) -> str:
    """Return the group of a setting: the first word of its name, if others have it, too; else an empty text."""
    word = f"{setting.partition('_')[0]}_"
    return word[:-1] if sum(name.startswith(word) for name in Settings.model_fields) > 1 else ""


def problem_lines(error: ValidationError, origins: Mapping[str, Origin]) -> list[str]:
    """Return a line for each problem.

    Args:
        error: The error with all problems.
        origins: Where the values are from. Those without an origin are from the environment.
    """
    return [_problem_line(problem, origins) for problem in error.errors()]


def _problem_line(problem: ErrorDetails, origins: Mapping[str, Origin]) -> str:
    # Errors of the settings' own validators have a full message. pydantic's message would put "Value error" before it.
    message = str(problem.get("ctx", {}).get("error", problem["msg"]))
    if not problem["loc"]:  # of several settings together
        return message
    setting, *inner = problem["loc"]
    origin = origins.get(str(setting))
    name = origin.name if origin is not None else _variable(str(setting))
    return f"{name}{''.join(map(_member, inner))}: {message}"


def _member(part: int | str) -> str:
    return f"[{part}]" if isinstance(part, int) else f".{part}"


def _option(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def _variable(setting: str) -> str:
    return f"{PREFIX}{setting.upper()}"


def _only_arguments() -> type[Settings]:
    """Return settings that read nothing else than their arguments."""

    class _Given(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: object, **__: object
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            """Return the arguments alone."""
            return (init_settings,)

    return _Given


def _misspelt_variables(environment: Iterable[str]) -> Iterable[str]:
    """Yield a message for each variable whose name is no setting's, but nearly. Others are not the server's."""
    known = [name.upper() for name in Settings.model_fields]
    for variable in sorted(environment):
        name = variable.removeprefix(PREFIX)
        if name == variable or name in OTHER_VARIABLES or name.upper() in known or variable.startswith(SECRET_VARIABLE):
            continue
        if near := get_close_matches(name, known, n=1, cutoff=MIN_SIMILARITY):
            yield f"{variable} is no setting; did you mean {PREFIX}{near[0]}?"
