"""Dockerfile, compose file and Kubernetes manifests, as far as they can be judged without an engine or a cluster."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from dugs_stream.config import load_settings
from dugs_stream.ops.http.hosts import HostNames
from dugs_stream.ops.http.server import HttpServer, build_http
from dugs_stream.ops.status import Status
from tests.support.tools import tool
from tools.prometheus_rule import RULES, TARGET, prometheus_rule

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "docker/Dockerfile"
COMPOSE = DEPLOY / "compose/compose.yaml"
BUILDS = ["base", "overlays/standby", "overlays/gpu", "overlays/monitoring"]
LINTERS = "pip install --constraint constraints.txt '.[lint]', as make test does"
# Kinds that an operator brings along; Kubernetes' own schemas do not know them.
OF_OPERATORS = {"ServiceMonitor", "PrometheusRule"}
UNPRIVILEGED = 10001

Manifest = dict[str, Any]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A linter's verdict."""
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=120, check=False, cwd=ROOT
    )


def without_findings(*command: str | Path) -> None:
    """The linter ends with 0 and has nothing to say."""
    linted = run(*command)
    assert linted.returncode == 0, linted.stdout + linted.stderr


# -- image -------------------------------------------------------------------------------------------------------


def test_dockerfile_has_no_findings() -> None:
    """Hadolint, with every rule and no exception."""
    without_findings(tool("hadolint", LINTERS), "--failure-threshold", "style", DOCKERFILE)


def test_image_runs_as_the_user_that_the_cluster_expects() -> None:
    """A number and not a name, and not root: runAsNonRoot can be checked, and the volume's owner is right."""
    users = re.findall(r"^USER (.+)$", DOCKERFILE.read_text(), re.MULTILINE)

    assert users == [f"{UNPRIVILEGED}:{UNPRIVILEGED}"]


def test_every_file_that_the_image_needs_is_sent_to_its_build() -> None:
    """What COPY names is let through by the ignore file, which keeps out all the rest."""
    kept = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().split()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)

    for name in " ".join(copied).split():
        assert f"!{name}" in kept
        assert (ROOT / name).exists()


def health_check() -> str:
    """The program that the image's HEALTHCHECK gives to Python."""
    found = re.search(r'CMD \["python", "-c", "(.+)"\]', DOCKERFILE.read_text())
    assert found
    return found[1]


@pytest.fixture
def port() -> Iterator[int]:
    """The port of the daemon's HTTP server, of a daemon that is alive and not ready."""
    app = build_http(CollectorRegistry(), Status(), lambda _offset, _limit: (0, []))
    with HttpServer(app, "127.0.0.1", 0) as server:
        yield server.port


def test_health_check_of_the_image_tells_alive_from_gone(port: int) -> None:
    """0 where /livez answers, ready or not; something else where nobody does."""
    program = health_check()
    alive = run(sys.executable, "-c", program.replace("9464", str(port)))
    gone = run(sys.executable, "-c", program.replace("9464", "1"))

    assert alive.returncode == 0, alive.stderr
    assert gone.returncode != 0


# -- compose -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def services() -> dict[str, Manifest]:
    """The services of the compose file, anchors resolved."""
    found: dict[str, Manifest] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_compose_file_keeps_to_the_compose_specification() -> None:
    """The schema that the specification publishes."""
    without_findings(tool("check-jsonschema", LINTERS), "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_every_service_is_hardened_and_bound_to_loopback(services: dict[str, Manifest]) -> None:
    """No capability, no new privilege, no port that another machine reaches, a health check or the image's own."""
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] or name == "kafka", name
        assert all(each.startswith("127.0.0.1:") for each in service["ports"]), name
        assert "healthcheck" in service or "build" in service, name


def test_files_that_compose_mounts_are_there(services: dict[str, Manifest]) -> None:
    """A path that is missing would be made as an empty folder, and the service would start without it."""
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (COMPOSE.parent / source).exists(), volume


def test_prometheus_of_compose_scrapes_the_daemon_of_compose(services: dict[str, Manifest]) -> None:
    """The target is a service's name and the port that its configuration opens, on a network that both are in."""
    scraping = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    targets = [each for job in scraping for group in job["static_configs"] for each in group["targets"]]
    http = load_settings(COMPOSE.parent / "config.yaml", environ={}).http

    assert targets == [f"dugs:{http.port}"]
    assert targets[0] in HostNames(http.host, http.allowed_hosts)
    assert set(services["dugs"]["networks"]) & set(services["prometheus"]["networks"])


# -- Kubernetes --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=BUILDS)
def built(request: pytest.FixtureRequest) -> str:
    """What kustomize makes of the base or of an overlay."""
    kubectl = tool("kubectl", LINTERS)
    build = run(kubectl, "kustomize", DEPLOY / "kubernetes" / request.param)
    assert (build.returncode, build.stderr) == (0, "")
    return build.stdout


@pytest.fixture
def manifests(built: str) -> list[Manifest]:
    """The same, read."""
    return list(yaml.safe_load_all(built))


def only(manifests: list[Manifest], kind: str) -> Manifest:
    """The one manifest of a kind."""
    (found,) = (each for each in manifests if each["kind"] == kind)
    return found


def test_manifests_keep_to_the_schemas_of_kubernetes(built: str, tmp_path: Path) -> None:
    """Strictly: a key that Kubernetes does not know is a finding. Operators' kinds are looked at below."""
    path = tmp_path / "built.yaml"
    documents = [each for each in yaml.safe_load_all(built) if each["kind"] not in OF_OPERATORS]
    path.write_text(yaml.safe_dump_all(documents))
    validate = tool("kubernetes-validate", LINTERS)

    validated = run(validate, "--strict", path)

    assert validated.returncode == 0, validated.stdout + validated.stderr
    assert (validated.stdout + validated.stderr).count(" passed for resource ") == len(documents)


def test_pods_pass_the_restricted_pod_security_standard(manifests: list[Manifest]) -> None:
    """Not root, no privilege to gain, no capability, seccomp on, nothing to write to but volumes, no API token."""
    pod = only(manifests, "StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == UNPRIVILEGED
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_probes_ask_what_the_daemon_answers_without_a_token(manifests: list[Manifest], port: int) -> None:
    """Liveness never asks for readiness: a broker that is away must not end the process."""
    (container,) = only(manifests, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    asked = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}

    assert asked == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert {container[name]["httpGet"]["port"] for name in asked} == {"http"}
    assert {each["name"]: each["containerPort"] for each in container["ports"]} == {"http": 9464}


def test_every_selector_finds_the_pods(manifests: list[Manifest]) -> None:
    """Budget, network policy, service and affinity speak of the labels that the pods carry."""
    pods = only(manifests, "StatefulSet")["spec"]
    labels = pods["template"]["metadata"]["labels"].items()
    selectors = [
        only(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        only(manifests, "Service")["spec"]["selector"],
        pods["selector"]["matchLabels"],
    ]
    affinity = pods["template"]["spec"].get("affinity", {}).get("podAntiAffinity", {})
    rules = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", [])
    selectors += [rule["labelSelector"]["matchLabels"] for rule in rules]
    for each in selectors:
        assert each
        assert each.items() <= labels


def test_network_policy_lets_names_be_asked_for(manifests: list[Manifest]) -> None:
    """The name server is found by its own labels alone, and the broker's port is the one that is configured."""
    egress = only(manifests, "NetworkPolicy")["spec"]["egress"]
    brokers = yaml.safe_load(only(manifests, "ConfigMap")["data"]["config.yaml"])["log"]["kafka"]
    ports = {each["port"] for rule in egress for each in rule["ports"]}
    (names,) = (peer["podSelector"] for rule in egress for peer in rule["to"] if "podSelector" in peer)

    assert names == {"matchLabels": {"k8s-app": "kube-dns"}}
    assert ports == {53} | {int(each.rpartition(":")[2]) for each in brokers["bootstrap_servers"]}


def test_configuration_of_the_cluster_is_accepted_with_the_secrets_that_are_mounted(
    manifests: list[Manifest], tmp_path: Path
) -> None:
    """The ConfigMap's text goes through the daemon's own checks; each secret it names comes from the Secret."""
    mounted = Path("/etc/dugs-stream/secrets")
    text = only(manifests, "ConfigMap")["data"]["config.yaml"]
    pod = only(manifests, "StatefulSet")["spec"]["template"]["spec"]
    paths = {each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    for name in re.findall(rf"{mounted}/([\w.-]+)", text):
        (tmp_path / name).write_text("a secret of this test")
    config = tmp_path / "config.yaml"
    config.write_text(text.replace(str(mounted), str(tmp_path)))

    settings = load_settings(config, environ={})

    assert {str(mounted), "/etc/dugs-stream/config.yaml", "/var/lib/dugs-stream"} <= paths
    assert settings.state.dir.is_relative_to("/var/lib/dugs-stream")
    assert settings.http.auth.type == "bearer"


def test_grace_of_containers_is_that_of_the_systemd_unit(
    manifests: list[Manifest], services: dict[str, Manifest]
) -> None:
    """One bound on how long a stop takes, wherever the daemon runs."""
    unit = (DEPLOY / "systemd/dugs-stream.service").read_text()
    pod = only(manifests, "StatefulSet")["spec"]["template"]["spec"]

    assert f"TimeoutStopSec={pod['terminationGracePeriodSeconds']}\n" in unit
    assert services["dugs"]["stop_grace_period"] == f"{pod['terminationGracePeriodSeconds'] // 60}m"


def test_standby_has_a_budget_that_keeps_one_and_a_volume_each() -> None:
    """Two processes, never on one node, never both sent away."""
    build = run(tool("kubectl", LINTERS), "kustomize", DEPLOY / "kubernetes/overlays/standby")
    manifests = list(yaml.safe_load_all(build.stdout))
    budget, pods = only(manifests, "PodDisruptionBudget")["spec"], only(manifests, "StatefulSet")["spec"]

    assert pods["replicas"] == 2
    assert "maxUnavailable" not in budget
    assert budget["minAvailable"] == 1
    assert pods["volumeClaimTemplates"][0]["metadata"]["name"] == "state"


def test_prometheus_operator_scrapes_with_the_token_of_the_secret() -> None:
    """No schema of it is at hand: its selector, port, path and token are held against our own manifests."""
    build = run(tool("kubectl", LINTERS), "kustomize", DEPLOY / "kubernetes/overlays/monitoring")
    manifests = list(yaml.safe_load_all(build.stdout))
    monitor, service = only(manifests, "ServiceMonitor"), only(manifests, "Service")
    (endpoint,) = monitor["spec"]["endpoints"]

    assert set(monitor["spec"]) == {"selector", "endpoints"}
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert endpoint["port"] in {each["name"] for each in service["spec"]["ports"]}
    assert endpoint["authorization"]["credentials"] == {"name": "dugs-stream", "key": "http-token"}


def test_alerts_of_the_operator_are_those_of_prometheus() -> None:
    """The file is what `make manifests` makes of the rules, and kustomize carries it into the cluster whole."""
    assert TARGET.read_text() == prometheus_rule(), "make manifests"
    build = run(tool("kubectl", LINTERS), "kustomize", DEPLOY / "kubernetes/overlays/monitoring")
    groups = only(list(yaml.safe_load_all(build.stdout)), "PrometheusRule")["spec"]["groups"]
    given = [
        group for path in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(path.read_text())["groups"]
    ]

    assert groups == given
    assert {"alert", "record"} <= {key for group in groups for rule in group["rules"] for key in rule}


# -- all of it ---------------------------------------------------------------------------------------------------


def test_yaml_has_no_findings() -> None:
    """Yamllint over every YAML file of the deployment and of the examples."""
    without_findings(tool("yamllint", LINTERS), "--strict", "deploy", "config")
