"""`stepwave token`: make a bearer token, and its entry of the access file."""

import json
from typing import Annotated

import typer

from stepwave.cli.display.output import print_line, print_message
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.server import require_server_extra

__all__ = ["token"]


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who gets the token.", show_default=False)],
    role: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMESPACE=ROLE",
            help="A role: viewer, runner or admin; * is every namespace. Repeatable. Default: default=runner.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make a bearer token, and print it together with its entry of the access file.

    The token goes to standard output, and is shown this once: the entry has its hash alone.

    ```
    stepwave token ci --role default=runner
    stepwave token ops --role '*=admin' > ops.token
    ```
    """
    require_server_extra()
    from stepwave_server.access.access_file import Token
    from stepwave_server.access.tokens import hash_of, new_token

    roles = dict(map(_role, role or ["default=runner"]))
    made = new_token()
    try:
        entry = Token.model_validate({"name": name, "sha256": hash_of(made), "roles": roles})
    except ValueError as error:
        raise CommandError(_problem(error)) from error
    held = ", ".join(f"{json.dumps(namespace)} = {json.dumps(value)}" for namespace, value in roles.items())
    print_message("Add this to the file of --access:\n")
    print_message(f'[[tokens]]\nname = {json.dumps(entry.name)}\nsha256 = "{entry.sha256}"\nroles = {{{held}}}\n')
    print_line(made)


def _role(text: str) -> tuple[str, str]:
    namespace, separator, role = text.partition("=")
    if not separator or not namespace:
        raise CommandError(f"--role {text}: expected NAMESPACE=ROLE, such as default=runner")
    return namespace, role


def _problem(error: ValueError) -> str:
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    return "\n".join(found["msg"].removeprefix("Value error, ") for found in error.errors(include_input=False))
