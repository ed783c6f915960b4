"""The Helm chart: each combination of values in its README is valid, safe, and has settings that servers accept."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from integration.deploy.tools import CHART, Object, answers, checkov
from integration.documents import blocks
from stepwave.cli.settings import find_serve_settings
from stepwave_server import app
from stepwave_server.config import Settings
from stepwave_server.rpc.health import LIVENESS

README = CHART / "README.md"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
WORKLOADS = {"Deployment", "StatefulSet"}

COMBINATIONS = {
    "a volume": 0,
    "in memory": 1,
    "workflows and secrets": 2,
    "Temporal": 3,
    "Temporal with hosts": 4,
    "Temporal with TLS": 5,
    "encryption": 6,
    "an account": 7,
}
"""The combinations of values that the README shows, by their place in it."""

EXEMPT = {
    "CKV_K8S_43": "the image is the user's, with or without a digest",
    "CKV_K8S_35": "secrets are in the environment only where the values say so",
}


def _combinations() -> dict[str, Object]:
    shown = [yaml.safe_load(block.text) for block in blocks(README) if block.language == "yaml"]
    assert len(shown) == len(COMBINATIONS), "a combination of the README is not tested"
    return {"defaults": {}} | {name: shown[place] for name, place in COMBINATIONS.items()}


EVERY = _combinations()
each_combination = pytest.mark.parametrize("name", EVERY)


HOST = {"name": "h", "modules": ["tools"]}
ON_TEMPORAL = {"engine": "temporal", "temporal": {"address": "temporal:7233"}}
TLS = {"address": "temporal:7233", "tls": {"enabled": True}}
API_KEY = {"name": "api", "key": "key"}
IMAGES = {
    "the version of the chart": ({}, {}, "stepwave:0.1.0"),
    "a tag": ({"tag": "7"}, {}, "stepwave:7"),
    "a digest comes first": ({"tag": "7", "digest": f"sha256:{'0' * 64}"}, {}, f"stepwave@sha256:{'0' * 64}"),
    "another image": ({"digest": f"sha256:{'0' * 64}"}, {"repository": "other", "tag": "1"}, "other:1"),
    "another tag": ({"repository": "flows", "tag": "7"}, {"tag": "8"}, "flows:8"),
}

REFUSED: dict[str, Object] = {
    "an unknown value": {"sever": {}},
    "an unknown value of the server": {"server": {"replica": 1}},
    "an unknown setting": {"server": {"settings": {"max_step": 1}}},
    "a setting that is a value": {"server": {"settings": {"listen": "0.0.0.0:1"}}},
    "a setting as a variable": {"server": {"env": {"STEPWAVE_LISTEN": "0.0.0.0:1"}}},
    "an unknown engine": {"engine": "redis"},
    "Temporal without its address": {"engine": "temporal"},
    "an address without the engine": {"temporal": {"address": "temporal:7233"}},
    "hosts without Temporal": {"hosts": [HOST]},
    "an autoscaler of one server": {"autoscaling": {"enabled": True}},
    "a setting without meaning on Temporal": {**ON_TEMPORAL, "server": {"settings": {"keep_runs": 5}}},
    "a setting for Temporal only": {"server": {"settings": {"slots": 5}}},
    "a host without a name": {**ON_TEMPORAL, "hosts": [{"modules": ["tools"]}]},
    "a host without modules": {**ON_TEMPORAL, "hosts": [{"name": "h", "modules": []}]},
    "an unknown value of a host": {**ON_TEMPORAL, "hosts": [{**HOST, "actions": []}]},
    "a Secret without its key": {**ON_TEMPORAL, "temporal": {"address": "t:1", "chunksSecret": {"name": "redis"}}},
    "an API key without its key": {**ON_TEMPORAL, "temporal": {**TLS, "apiKeySecret": {"name": "api"}}},
    "an API key without TLS": {**ON_TEMPORAL, "temporal": {"address": "t:1", "apiKeySecret": API_KEY}},
    "an authority without TLS": {**ON_TEMPORAL, "temporal": {"address": "t:1", "tls": {"authority": "ca"}}},
    "a certificate without TLS": {
        **ON_TEMPORAL,
        "temporal": {"address": "t:1", "tls": {"enabled": False, "certificate": "pair"}},
    },
    "TLS to Temporal without the engine": {"temporal": {"tls": {"enabled": True}}},
    "no clients": {"networkPolicy": {"clients": []}},
    "half a second": {"server": {"drainTimeout": 0.5}},
    "certificates of clients without one of the server": {"server": {"tls": {"clients": True}}},
    "no digest": {"image": {"digest": "7"}},
}

OTHERS: dict[str, Object] = {
    **{
        name: {**ON_TEMPORAL, "image": image, "hosts": [{**HOST, "image": own}]}
        for name, (image, own, _) in IMAGES.items()
    },
    "TLS alone": {**ON_TEMPORAL, "temporal": TLS},
    "zero": {
        **ON_TEMPORAL,
        "server": {"replicas": 0, "drainTimeout": 0, "maxConnectionAge": 0},
        "hosts": [{**HOST, "replicas": 0, "drainTimeout": 0, "cancelGrace": 0}],
    },
    "two hosts of one name": {**ON_TEMPORAL, "hosts": [HOST, HOST]},
}


@pytest.fixture(scope="session")
def rendered() -> Object:
    """Return what the chart becomes in each case, by name."""
    return answers(EVERY | REFUSED | OTHERS)


@pytest.fixture(scope="session")
def failed_checks(rendered: Object, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the failed checks of checkov for each combination."""
    folder = tmp_path_factory.mktemp("rendered")
    failed: dict[str, set[str]] = {name: set() for name in EVERY}
    for name in EVERY:
        (folder / f"{name}.yaml").write_text(yaml.safe_dump_all(rendered[name]["documents"]))
    for check in checkov(folder):
        failed[Path(check["file_path"]).stem].add(check["check_id"])
    return failed


def _one(answer: Object, kind: str, ending: str = "") -> Object:
    """Return the only object of a kind whose name has an ending."""
    (found,) = [
        each for each in answer["documents"] if each["kind"] == kind and each["metadata"]["name"].endswith(ending)
    ]
    return dict(found)


def _workloads(answer: Object) -> list[Object]:
    return [each for each in answer["documents"] if each["kind"] in WORKLOADS]


def _server(answer: Object) -> Object:
    """Return the workload of the servers."""
    (found,) = [each for each in _workloads(answer) if _component(each) == "server"]
    return found


def _component(workload: Object) -> str:
    return str(workload["metadata"]["labels"]["app.kubernetes.io/component"])


def _container(workload: Object) -> Object:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(container)


def _variables(workload: Object) -> dict[str, str]:
    return {each["name"]: each.get("value", "redis://host:6379") for each in _container(workload)["env"]}


@each_combination
def test_a_combination_is_valid_for_helm_and_for_kubernetes(rendered: Object, name: str) -> None:
    assert rendered[name].get("refused") is None
    assert rendered[name]["problems"] == []


@each_combination
def test_a_combination_passes_the_checks_of_checkov(failed_checks: dict[str, set[str]], name: str) -> None:
    assert failed_checks[name] - EXEMPT.keys() == set()


@each_combination
def test_servers_and_hosts_accept_their_settings(rendered: Object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for workload in _workloads(rendered[name]):
        with monkeypatch.context() as patch:
            patch.delenv("STEPWAVE_JOURNAL")
            for variable, value in _variables(workload).items():
                patch.setenv(variable, value)
            settings = Settings()
            if _component(workload) == "server":
                _, problems = find_serve_settings({}, None)
                assert problems == []
        given = {variable.removeprefix("STEPWAVE_").lower() for variable in _variables(workload)}
        assert settings.model_fields_set == {each for each in given if not each.startswith("otel_")}


@each_combination
def test_pods_end_by_themselves_before_they_are_killed(rendered: Object, name: str) -> None:
    for workload in _workloads(rendered[name]):
        variables = _variables(workload)
        own = float(variables["STEPWAVE_DRAIN_TIMEOUT"]) + float(variables["STEPWAVE_CANCEL_GRACE"]) + app.STREAM_GRACE
        pause = (
            _container(workload).get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["", "0"])[1]
        )
        assert workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= own + float(pause) + 10


@each_combination
def test_everything_that_selects_pods_selects_those_of_one_workload(rendered: Object, name: str) -> None:
    pods = {_component(each): each["spec"]["template"]["metadata"]["labels"] for each in _workloads(rendered[name])}
    for document in rendered[name]["documents"]:
        for selector in _selectors(document):
            matching = [component for component, labels in pods.items() if selector.items() <= labels.items()]
            assert matching == [_component(document)]


def _selectors(document: Object) -> Iterator[dict[str, str]]:
    match document["kind"]:
        case "Service":
            yield document["spec"]["selector"]
        case "PodDisruptionBudget" | "Deployment" | "StatefulSet":
            yield document["spec"]["selector"]["matchLabels"]
        case "NetworkPolicy":
            yield document["spec"]["podSelector"]["matchLabels"]


@each_combination
def test_pods_are_probed_by_grpc_and_a_drain_restarts_none(rendered: Object, name: str) -> None:
    for workload in _workloads(rendered[name]):
        container, variables = _container(workload), _variables(workload)
        probes = {kind: container[f"{kind}Probe"]["grpc"] for kind in ("startup", "liveness", "readiness")}
        assert variables["STEPWAVE_HEALTH"] == "0.0.0.0:50052"
        assert probes == {
            "startup": {"port": 50052, "service": LIVENESS},
            "liveness": {"port": 50052, "service": LIVENESS},
            "readiness": {"port": 50052},
        }


@each_combination
def test_clients_find_the_address_of_each_server_and_one_of_all(rendered: Object, name: str) -> None:
    headless = _one(rendered[name], "Service", "-headless")
    assert headless["spec"]["clusterIP"] == "None"
    assert "clusterIP" not in _one(rendered[name], "Service", "-stepwave")["spec"]
    assert f"dns:///{headless['metadata']['name']}.work:50051" in rendered[name]["notes"]


def test_one_server_keeps_its_journal_on_a_volume(rendered: Object) -> None:
    server = _one(rendered["a volume"], "StatefulSet")
    (claim,) = server["spec"]["volumeClaimTemplates"]
    assert server["spec"]["replicas"] == 1
    assert (claim["spec"]["storageClassName"], claim["spec"]["resources"]["requests"]) == ("fast", {"storage": "50Gi"})
    assert {"name": claim["metadata"]["name"], "mountPath": "/data"} in _container(server)["volumeMounts"]
    assert _variables(server)["STEPWAVE_JOURNAL"].startswith("sqlite:/data/")
    assert _container(server)["args"] == ["serve", "--actions=tools", "--actions=reports"]


def test_without_a_volume_the_journal_is_in_memory(rendered: Object) -> None:
    server = _one(rendered["in memory"], "StatefulSet")
    assert "volumeClaimTemplates" not in server["spec"]
    assert _variables(server)["STEPWAVE_JOURNAL"] == "memory"
    assert "A restart loses all runs" in rendered["in memory"]["notes"]


def test_secrets_are_in_the_environment_and_in_a_folder(rendered: Object) -> None:
    server = _server(rendered["workflows and secrets"])
    (volume,) = [each for each in server["spec"]["template"]["spec"]["volumes"] if each["name"] == "secrets"]
    assert _container(server)["envFrom"] == [{"secretRef": {"name": "model-keys"}}]
    assert volume["secret"]["secretName"] == "certificates"
    assert {"name": "secrets", "mountPath": "/run/secrets/stepwave", "readOnly": True} in _container(server)[
        "volumeMounts"
    ]
    assert _variables(server)["STEPWAVE_SECRETS"] == "/etc/stepwave/secrets/secrets.toml"
    assert [each for each in rendered["workflows and secrets"]["documents"] if each["kind"] == "Secret"] == []


def test_a_server_with_a_certificate_serves_no_plain_text(rendered: Object) -> None:
    variables = _variables(_server(rendered["encryption"]))
    assert "STEPWAVE_INSECURE" not in variables
    assert variables["STEPWAVE_TLS_CLIENT_CA"] == "/run/secrets/stepwave-tls/ca.crt"
    assert variables["STEPWAVE_ACCESS"] == "/run/secrets/stepwave-access/access.toml"
    mounted = {each["mountPath"] for each in _container(_server(rendered["encryption"]))["volumeMounts"]}
    assert {"/run/secrets/stepwave-tls", "/run/secrets/stepwave-access"} <= mounted


def test_servers_and_hosts_reach_temporal_with_tls_and_what_it_needs(rendered: Object) -> None:
    workloads = _workloads(rendered["Temporal with TLS"])
    assert {_component(each) for each in workloads} == {"server", "host-tools"}
    for workload in workloads:
        variables, container = _variables(workload), _container(workload)
        settings = ("TEMPORAL_TLS_CA", "TEMPORAL_TLS_CERT", "TEMPORAL_TLS_KEY", "TEMPORAL_API_KEY_FILE")
        folders = {str(Path(variables[f"STEPWAVE_{name}"]).parent) for name in settings}
        volumes = {each["name"]: each.get("secret") for each in workload["spec"]["template"]["spec"]["volumes"]}
        mounts = {each["mountPath"]: volumes[each["name"]] for each in container["volumeMounts"]}
        assert variables["STEPWAVE_TEMPORAL_TLS"] == "true"
        assert {mounts[folder]["secretName"] for folder in folders} == {
            "temporal-ca",
            "temporal-client",
            "temporal-api",
        }
        key = Path(variables["STEPWAVE_TEMPORAL_API_KEY_FILE"])
        assert mounts[str(key.parent)]["items"] == [{"key": "key", "path": key.name}]


def test_tls_alone_needs_no_secret(rendered: Object) -> None:
    server = _server(rendered["TLS alone"])
    assert [name for name in _variables(server) if "TEMPORAL_TLS" in name] == ["STEPWAVE_TEMPORAL_TLS"]
    assert [each for each in server["spec"]["template"]["spec"]["volumes"] if "secret" in each] == []


def test_a_large_number_stays_one(rendered: Object) -> None:
    assert _variables(_server(rendered["workflows and secrets"]))["STEPWAVE_KEEP_RUNS"] == "1000000"


def test_only_the_named_clients_reach_servers_and_only_scrapers_a_host(rendered: Object) -> None:
    (rule,) = _one(rendered["workflows and secrets"], "NetworkPolicy")["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app": "assistant"}}}]
    (rule,) = _one(rendered["Temporal with hosts"], "NetworkPolicy", "host-tools")["spec"]["ingress"]
    assert rule["ports"] == [{"port": 9464, "protocol": "TCP"}]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]


def test_the_number_of_servers_is_fixed_or_that_of_the_autoscaler(rendered: Object) -> None:
    scaled = rendered["Temporal with hosts"]
    autoscaler = _one(scaled, "HorizontalPodAutoscaler")["spec"]
    assert _server(rendered["Temporal"])["spec"]["replicas"] == 3
    assert "replicas" not in _server(scaled)["spec"]
    assert autoscaler["scaleTargetRef"]["name"] == _server(scaled)["metadata"]["name"]
    assert (autoscaler["minReplicas"], autoscaler["maxReplicas"]) == (2, 20)


def test_each_host_of_the_list_is_a_deployment_of_its_own(rendered: Object) -> None:
    tools, models = (
        _one(rendered["Temporal with hosts"], "Deployment", f"-host-{name}") for name in ("tools", "models")
    )
    assert (tools["spec"]["replicas"], _container(tools)["args"]) == (3, ["host", "tools"])
    assert (models["spec"]["replicas"], _container(models)["args"]) == (1, ["host", "models", "--slots=4"])
    assert (_container(tools)["image"], _container(models)["image"]) == ("flows:7", "models:3")
    assert _variables(models)["STEPWAVE_DRAIN_TIMEOUT"] == "600"
    assert _container(models)["resources"]["limits"] == {"cpu": "4", "memory": "8Gi"}


@pytest.mark.parametrize("name", IMAGES)
def test_a_host_has_the_image_of_the_servers_or_its_own(rendered: Object, name: str) -> None:
    assert _container(_one(rendered[name], "Deployment", "-host-h"))["image"] == IMAGES[name][2]


def test_zero_is_a_value_and_not_the_default(rendered: Object) -> None:
    for workload in _workloads(rendered["zero"]):
        assert workload["spec"]["replicas"] == 0
        assert _variables(workload)["STEPWAVE_DRAIN_TIMEOUT"] == "0"
    assert _variables(_server(rendered["zero"]))["STEPWAVE_MAX_CONNECTION_AGE"] == "0"


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_the_chart_does_not_take_is_refused(rendered: Object, name: str) -> None:
    assert "schema" in rendered[name].get("refused", "")


def test_two_hosts_of_one_name_are_refused(rendered: Object) -> None:
    assert "two hosts have the name h" in rendered["two hosts of one name"]["refused"]


def test_the_table_has_every_value_with_its_default() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| `(.*?)` \|", README.read_text(), re.MULTILINE)
    assert {name: yaml.safe_load(default) for name, default in rows} == dict(_leaves(VALUES, ""))


def _leaves(values: Object, prefix: str) -> Iterator[tuple[str, object]]:
    """Yield the values and their paths. What a user fills in as a whole is one value."""
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and value and not path.startswith("server.resources."):
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def test_every_setting_of_the_server_can_be_given() -> None:
    settings = SCHEMA["properties"]["server"]["properties"]["settings"]["properties"]
    own = {"listen", "insecure", "engine", "journal", "workflows", "limits", "chunks", "drain_timeout", "cancel_grace"}
    own |= {
        "access",
        "secrets",
        "runnables",
        "mcp_servers",
        "actions",
        "tls_cert",
        "tls_client_ca",
        "tls_key",
        "health",
        "max_connection_age",
        "metrics_listen",
        "temporal_address",
        "temporal_api_key_file",
        "temporal_namespace",
        "temporal_task_queue",
        "temporal_tls",
        "temporal_tls_ca",
        "temporal_tls_cert",
        "temporal_tls_key",
        "temporal_wait",
    }
    assert settings.keys() == Settings.model_fields.keys() - own


def test_every_setting_of_a_host_is_one_of_the_server() -> None:
    settings = SCHEMA["definitions"]["host"]["properties"]["settings"]["properties"]
    assert settings.keys() <= Settings.model_fields.keys()
