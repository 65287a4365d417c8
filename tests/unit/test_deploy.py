"""What lies in deploy/, linted and compared with the code: settings, roles, ports, probes, users, rights."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from config.settings import ROLES, Settings
from tests.unit.test_dockerfile import environment, given

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
VERSION = "0.1.0"
WORKLOADS = ("Deployment", "StatefulSet", "Job")
HEALTH = ("/healthz", "/readyz")


def tool(name: str) -> str:
    """A linter beside this Python."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"{name} is pinned in requirements-dev.txt"
    return found


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PARTYLINE_")]:
        monkeypatch.delenv(name)


def test_the_dockerfile_is_linted() -> None:
    run(tool("hadolint"), "Dockerfile")


# Compose ------------------------------------------------------------------------------------------------------------


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_the_compose_file_follows_its_schema() -> None:
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml")


def test_every_container_of_compose_has_no_more_rights_than_it_needs() -> None:
    for name, service in compose()["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service
        assert "privileged" not in service
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["user"].split(":")[0]) > 0, name
        assert any(place.startswith("/tmp") for place in service["tmpfs"]), name
        assert service["deploy"]["resources"]["limits"]["memory"], name


def test_compose_waits_for_the_database_and_the_migrations() -> None:
    services = compose()["services"]
    hub, migrate, database = services["hub"], services["migrate"], services["database"]
    assert (hub["command"][0], migrate["command"]) == ("serve", ["migrate"])
    assert hub["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert hub["depends_on"]["database"] == migrate["depends_on"]["database"] == {"condition": "service_healthy"}
    assert migrate["restart"] == "no"
    assert database["networks"] == ["inside"]
    assert compose()["networks"]["inside"] == {"internal": True}
    version = int(database["image"].removeprefix("postgres:").split("-")[0])
    assert version >= 15


def test_compose_runs_the_image_as_it_is_made() -> None:
    for name in ("hub", "migrate"):
        service = compose()["services"][name]
        assert service["image"] == f"partyline:{VERSION}"
        assert service["user"] == given("USER")[0]
        mounts = dict(volume.split(":") for volume in service["volumes"])
        assert mounts == {"data": environment()["PARTYLINE_DATA_DIR"]}
    hub = compose()["services"]["hub"]
    port = environment()["PARTYLINE_PORT"]
    assert hub["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f":{port}{HEALTH[0]}" in hub["healthcheck"]["test"][-1]
    compile(hub["healthcheck"]["test"][-1], "healthcheck", "exec")


def test_no_secret_stands_in_compose() -> None:
    document = compose()
    for service in document["services"].values():
        assert set(service["secrets"]) <= set(document["secrets"])
        for name, value in service["environment"].items():
            assert "PASSWORD" not in name or name.endswith("_FILE"), name
            assert "://" not in value
    assert document["services"]["hub"]["environment"]["PARTYLINE_ENV_FILE"] == "/run/secrets/partyline_env"
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    for secret in document["secrets"].values():
        assert f"/deploy/{secret['file'].removeprefix('./')}" in ignored


# Kubernetes ---------------------------------------------------------------------------------------------------------


def documents() -> Iterator[dict[str, Any]]:
    for path in KUBERNETES:
        yield from yaml.safe_load_all(path.read_text())


def of(*kinds: str) -> list[dict[str, Any]]:
    return [document for document in documents() if document["kind"] in kinds]


def containers() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every pod's description with each of its containers."""
    for workload in of(*WORKLOADS):
        pod = workload["spec"]["template"]["spec"]
        for container in pod["containers"]:
            yield pod, container


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_every_resource_follows_its_schema(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
        assert document["kind"] == "Namespace" or document["metadata"]["namespace"] == "partyline"


def test_every_pod_has_no_more_rights_than_it_needs() -> None:
    uid, gid = map(int, given("USER")[0].split(":"))
    for pod, container in containers():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (uid, gid)
        assert pod["securityContext"]["fsGroup"] == gid
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert container["image"] == f"partyline:{VERSION}"
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert container["resources"]["limits"]["memory"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts == {environment()["PARTYLINE_DATA_DIR"], "/tmp"}


def test_every_role_runs_and_can_lose_a_pod() -> None:
    budgets = {budget["metadata"]["name"]: budget["spec"] for budget in of("PodDisruptionBudget")}
    roles = []
    for workload in of("Deployment", "StatefulSet"):
        spec = workload["spec"]
        (container,) = spec["template"]["spec"]["containers"]
        assert container["args"][:2] == ["serve", "--roles"]
        roles += container["args"][2].split(",")
        assert spec["replicas"] >= 2
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"] == labels
        assert budgets[workload["metadata"]["name"]]["selector"]["matchLabels"] == labels
    assert sorted(roles) == sorted(ROLES)
    (migrate,) = of("Job")
    assert migrate["spec"]["template"]["spec"]["containers"][0]["args"] == ["migrate"]


def test_probes_ask_what_there_is() -> None:
    for workload in of("Deployment", "StatefulSet"):
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        (port,) = container["ports"]
        assert str(port["containerPort"]) == environment()["PARTYLINE_PORT"]
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[name]["httpGet"]
            assert asked["port"] == port["name"]
            assert asked["path"] in HEALTH
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_a_gateway_stays_behind_the_ingress_without_its_database_and_keeps_its_spool() -> None:
    """B3: what is not there is not spooled."""
    (gateway,) = of("StatefulSet")
    assert gateway["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/healthz"
    (claim,) = gateway["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "data"


def test_the_ingress_leads_to_the_gateway() -> None:
    (service,), (gateway,), (ingress,) = of("Service"), of("StatefulSet"), of("Ingress")
    assert service["spec"]["selector"] == gateway["spec"]["selector"]["matchLabels"]
    (port,) = service["spec"]["ports"]
    assert port["targetPort"] == gateway["spec"]["template"]["spec"]["containers"][0]["ports"][0]["name"]
    hosts = {host for entry in ingress["spec"]["tls"] for host in entry["hosts"]}
    for rule in ingress["spec"]["rules"]:
        assert rule["host"] in hosts
        for path in rule["http"]["paths"]:
            backend = path["backend"]["service"]
            assert backend == {"name": service["metadata"]["name"], "port": {"name": port["name"]}}
    values = of("ConfigMap")[0]["data"]
    assert {f"https://{host}" for host in hosts} == {values["PARTYLINE_PUBLIC_URL"], values["PARTYLINE_LINK_BASE_URL"]}


def test_the_settings_named_for_kubernetes_are_ones_the_hub_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    values = of("ConfigMap")[0]["data"] | of("Secret")[0]["stringData"]
    names = {name.removeprefix("PARTYLINE_").lower() for name in values}
    assert names <= set(Settings.model_fields)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.secret_keys
    assert settings.admin_key
    for _, container in containers():
        sources = [next(iter(source.values()))["name"] for source in container["envFrom"]]
        assert sources == [of("ConfigMap")[0]["metadata"]["name"], of("Secret")[0]["metadata"]["name"]]


def test_settings_named_anywhere_in_deploy_exist() -> None:
    import re

    known = {f"PARTYLINE_{name.upper()}" for name in Settings.model_fields} | {"PARTYLINE_ENV_FILE"}
    for path in sorted(path for path in DEPLOY.rglob("*") if path.suffix in {".yaml", ".json", ".md"}):
        assert set(re.findall(r"PARTYLINE_[A-Z0-9_]+", path.read_text())) <= known, path
