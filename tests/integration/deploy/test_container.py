"""The container image: its recipe is clean, and what it says of the server is true."""

import json
import re
import subprocess
import tomllib

from integration.deploy.tools import DEPLOY, tool
from stepwave_server.config import Settings

DOCKERFILE = DEPLOY / "Dockerfile"
RECIPE = DOCKERFILE.read_text()
VARIABLES = {name.lower(): value for name, value in re.findall(r"^ +STEPWAVE_(\w+)=(\S+)", RECIPE, re.MULTILINE)}


def test_the_dockerfile_is_clean() -> None:
    done = subprocess.run([tool("hadolint"), str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_has_every_extra_but_that_of_development() -> None:
    (extras,) = re.findall(r"pip install .*'\.\[(.*)\]'$", RECIPE, re.MULTILINE)
    project = tomllib.loads((DEPLOY.parents[1] / "pyproject.toml").read_text())["project"]
    # The extra temporal includes server, which includes cli.
    assert {*extras.split(","), "cli", "server"} == project["optional-dependencies"].keys() - {"dev"}


def test_the_process_is_not_root_and_its_data_are_on_a_volume() -> None:
    assert re.search(r"^USER 10001:10001$", RECIPE, re.MULTILINE)
    assert re.search(r"^VOLUME /data$", RECIPE, re.MULTILINE)


def test_the_variables_of_the_image_are_settings() -> None:
    assert sorted(VARIABLES) == ["health", "insecure", "listen"]
    assert VARIABLES.keys() <= Settings.model_fields.keys()


def test_health_is_asked_for_where_it_is_answered() -> None:
    (check,) = re.findall(r"^HEALTHCHECK .* CMD (.*)$", RECIPE, re.MULTILINE)
    assert json.loads(check) == ["stepwave", "health", "--server", VARIABLES["health"]]


def test_everything_that_is_copied_is_sent_to_the_builder() -> None:
    copied = {source for line in re.findall(r"^COPY (?!--)(.*) \S+$", RECIPE, re.MULTILINE) for source in line.split()}
    sent = {
        line.removeprefix("!") for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if "!" in line
    }
    assert copied == sent
    assert all((DEPLOY.parents[1] / source).exists() for source in copied)
