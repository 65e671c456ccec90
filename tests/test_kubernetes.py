"""Risk: a cluster refuses the manifests, runs them with more rights than they need, or keeps a roll-out that failed; it
cannot pull the image, or a token is kept where others read it.

kubectl is the real one, and so is the kustomize in it. The API server behind it is a stand-in (standins/cluster.py):
there is none to be had here, so nothing below is proven on a cluster.
"""

import base64
import copy
import json
import os
import re
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions, major_minor
from standins.cluster import REVISION, Cluster, Registry

from conveyor.core import errors
from conveyor.core.project import Project
from conveyor.deploy import cluster as conveyor_cluster
from conveyor.deploy.pull_secret import registry

BIN = Path(sys.executable).parent
# Those that the Kubernetes project maintained in November 2026, and one before, which is on many clusters still.
VERSIONS = sorted({major_minor(version) for version in all_versions()} - {f"1.{minor}" for minor in range(34)})
ENVIRONMENTS = ("staging", "production")
NAMESPACE = "night-trains-staging"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
ROWS, ANSWERS = [{"origin": "EWR"}, {"origin": "JFK"}], [0.25, 0.75]


@pytest.fixture(scope="module")
def baked(bake):
    """A name with a capital and a hyphen, which namespaces cannot have as it is."""
    return bake(deploy="kubernetes", project="Night-Trains")


def rendered(project, environment: str) -> dict[str, dict]:
    """kind -> manifest, as a roll-out applies them."""
    done = project.run(BIN / "kubectl", "kustomize", f"container/kubernetes/overlays/{environment}")
    found = list(yaml.safe_load_all(done.stdout))
    assert len({manifest["kind"] for manifest in found}) == len(found) == 6
    return {manifest["kind"]: manifest for manifest in found}


def once(project, path: str) -> dict:
    """What whoever runs the cluster applies once."""
    return yaml.safe_load((project.path / "container/kubernetes" / path).read_text())


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def manifests(request, baked):
    return rendered(baked, request.param)


@pytest.fixture(scope="module")
def pod(manifests):
    return manifests["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod):
    (container,) = pod["containers"]
    return container


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid_on_every_supported_version(manifests, version):
    for manifest in manifests.values():
        assert kubernetes_validate.validate(manifest, version, strict=True) == version


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_applied_once_is_valid_too(baked, version):
    for path in ("deployer.yaml", *(f"overlays/{environment}/namespace.yaml" for environment in ENVIRONMENTS)):
        assert kubernetes_validate.validate(once(baked, path), version, strict=True) == version


def test_its_page_names_the_versions_that_are_checked(baked):
    assert f"Kubernetes {VERSIONS[0]} to {VERSIONS[-1]}" in (baked.path / "docs" / "kubernetes.md").read_text()
    assert VERSIONS[:4] == ["1.34", "1.35", "1.36", "1.37"]


@pytest.mark.parametrize("change", [{"replicaz": 2}, {"minReadySeconds": "5"}, {"template": []}], ids=str)
def test_a_manifest_that_is_wrong_is_noticed(manifests, change):
    wrong = {**manifests["Deployment"], "spec": {**manifests["Deployment"]["spec"], **change}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_a_replica_runs_with_no_right_that_it_does_not_need(pod, container):
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for key in ("hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers", "hostAliases"):
        assert key not in pod
    assert all("hostPort" not in port for port in container["ports"])


def test_a_replica_has_no_identity_in_the_cluster(manifests, pod):
    assert pod["serviceAccountName"] == manifests["ServiceAccount"]["metadata"]["name"] != "default"
    assert pod["automountServiceAccountToken"] is False
    assert manifests["ServiceAccount"]["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_namespace_refuses_what_the_restricted_standard_refuses(baked, environment):
    namespace = once(baked, f"overlays/{environment}/namespace.yaml")["metadata"]
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    assert namespace == {"name": f"night-trains-{environment}", "labels": labels}
    assert {m["metadata"]["namespace"] for m in rendered(baked, environment).values()} == {namespace["name"]}


def test_the_deployer_may_touch_no_secret_but_the_pull_secret_and_make_no_role(baked):
    rules = once(baked, "deployer.yaml")["rules"]
    (pull,) = [rule for rule in rules if "secrets" in rule["resources"]]
    assert (pull["resources"], pull["resourceNames"]) == (["secrets"], ["model-pull"])
    named = {resource for rule in rules for resource in rule["resources"] if rule != pull}
    assert not named & {"secrets", "roles", "rolebindings", "configmaps", "*"}
    assert "*" not in {word for rule in rules for word in [*rule["verbs"], *rule["apiGroups"]]}


def test_only_two_folders_can_be_written_and_both_are_bounded(baked, pod, container):
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {"tmp": "/tmp", "predictions": "/var/log/predictions"}
    params = yaml.safe_load((baked.path / "params.yaml").read_text())["serve"]
    assert mounted["predictions"] == params["log"]
    limits = {volume["name"]: size(volume["emptyDir"]["sizeLimit"]) for volume in pod["volumes"]}
    assert limits["predictions"] >= 2 * params["log_bytes"]  # above it the kubelet evicts the replica
    assert sum(limits.values()) <= size(container["resources"]["limits"]["ephemeral-storage"])


def test_the_token_of_predict_comes_from_a_secret_that_may_be_missing(container):
    assert container["env"] == [
        {
            "name": "PREDICT_TOKEN",
            "valueFrom": {"secretKeyRef": {"name": "model", "key": "PREDICT_TOKEN", "optional": True}},
        }
    ]


def size(text: str) -> float:
    number, unit = re.fullmatch(r"([0-9]+)(m|Mi|)", text).groups()
    return int(number) * {"m": 0.001, "Mi": 2**20, "": 1}[unit]


def test_resources_are_asked_for_and_limited(baked, container):
    asked, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert set(asked) == set(limits) == {"cpu", "memory", "ephemeral-storage"}
    assert all(0 < size(asked[name]) <= size(limits[name]) for name in asked)


def test_probes_ask_the_paths_of_the_container_at_the_port_that_it_listens_on(container):
    (port,) = container["ports"]
    assert (port["name"], port["containerPort"]) == ("http", 8000)
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {name: probe["path"] for name, probe in asked.items()} == {
        "startup": "/readyz",
        "readiness": "/readyz",
        "liveness": "/healthz",
    }
    assert {probe["port"] for probe in asked.values()} == {"http"}


def test_a_replica_that_goes_is_asked_nothing_and_has_time_to_answer(pod, container):
    waited = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert 3 <= waited <= 10
    assert pod["terminationGracePeriodSeconds"] == 30 >= waited + 20


def test_a_roll_out_never_has_fewer_replicas_and_gives_up(manifests, container):
    spec = manifests["Deployment"]["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    start = container["startupProbe"]
    assert (
        start["periodSeconds"] * start["failureThreshold"] + spec["minReadySeconds"] < spec["progressDeadlineSeconds"]
    )
    assert 2 <= spec["revisionHistoryLimit"] <= 10


def test_only_the_autoscaler_says_how_many(manifests):
    assert "replicas" not in manifests["Deployment"]["spec"]
    scaler = manifests["HorizontalPodAutoscaler"]
    assert scaler["apiVersion"] == "autoscaling/v2"
    assert scaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "model"}
    assert [metric["resource"]["name"] for metric in scaler["spec"]["metrics"]] == ["cpu"]


def test_production_has_more_replicas_than_one(baked):
    numbers = {}
    for environment in ENVIRONMENTS:
        spec = rendered(baked, environment)["HorizontalPodAutoscaler"]["spec"]
        numbers[environment] = (spec["minReplicas"], spec["maxReplicas"])
    assert numbers == {"staging": (1, 2), "production": (2, 6)}


def test_everything_chooses_the_replicas_of_the_deployment(manifests, pod):
    spec = manifests["Deployment"]["spec"]
    chosen = [
        spec["selector"]["matchLabels"],
        manifests["Service"]["spec"]["selector"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in pod["topologySpreadConstraints"]),
    ]
    assert chosen == [{"app.kubernetes.io/name": "model"}] * 6
    assert spec["template"]["metadata"]["labels"].items() >= chosen[0].items()
    (port,) = manifests["Service"]["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, "http")


def test_replicas_spread_over_machines_and_zones(pod):
    assert [spread["topologyKey"] for spread in pod["topologySpreadConstraints"]] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]


def test_a_machine_can_be_emptied_one_replica_at_a_time(manifests):
    budget = manifests["PodDisruptionBudget"]["spec"]
    assert (budget["maxUnavailable"], "minAvailable" in budget) == (1, False)


def test_only_named_callers_reach_a_replica_and_it_calls_nobody(manifests):
    policy = manifests["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    assert policy["ingress"] == [
        {
            "from": [
                {"podSelector": {}},
                {"namespaceSelector": {"matchLabels": {"model-client": "true"}}},
            ],
            "ports": [{"protocol": "TCP", "port": "http"}],
        }
    ]


def test_prometheus_is_told_where_the_metrics_are(manifests):
    told = manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    found = {key.partition("/")[2]: value for key, value in told.items() if key.startswith("prometheus.io/")}
    assert found == {"scrape": "true", "port": "8000", "path": "/metrics"}


def test_everything_says_whose_it_is(manifests):
    for manifest in manifests.values():
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] in ENVIRONMENTS
        assert labels["app.kubernetes.io/part-of"] == "night-trains"


@pytest.mark.parametrize("name", ["Yes", "a" * 51 + "-" + "b" * 8, "x" * 60])
def test_the_names_are_legal_whatever_the_project_is_called(bake, name):
    project = bake(deploy="kubernetes", project=name)
    for environment in ENVIRONMENTS:
        namespace = once(project, f"overlays/{environment}/namespace.yaml")["metadata"]["name"]
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", namespace) and len(namespace) <= 63
        assert namespace.endswith(f"-{environment}")
        for manifest in rendered(project, environment).values():
            assert kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
            assert manifest["metadata"]["namespace"] == namespace
            assert all(len(label) <= 63 for label in manifest["metadata"]["labels"].values())


# What follows rolls out.


def predictions(image: str, headers: dict, body: bytes) -> tuple[int, bytes]:
    """What a sound model says of the golden rows."""
    assert json.loads(body) == {"rows": ROWS}
    return says(ANSWERS, image)


def says(predictions: object, image: str, key: str | None = None) -> tuple[int, bytes]:
    """What a replica answers; the key of a model is made of the digest of its image, unless a test has another one."""
    return 200, json.dumps({"id": "1", "model": key or f"key-{image[-1]}", "predictions": predictions}).encode()


@pytest.fixture
def place(bake, tmp_path, monkeypatch):
    """A generated project, the module that deploys it, and a cluster that kubectl finds."""
    project = bake(deploy="kubernetes", project="Night-Trains")
    cluster = Cluster(predictions, VERSIONS[-1], once(project, "deployer.yaml")["rules"])
    cluster.store("namespaces", once(project, "overlays/staging/namespace.yaml"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/kubectl").symlink_to(BIN / "kubectl")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))  # kubectl keeps there what servers told it
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(tmp_path / "kubeconfig", NAMESPACE)))
    said: list[str] = []

    def given(**variables: str) -> None:
        """What the next roll-outs get from their environment, besides the way to the cluster."""
        for name in ("REGISTRY_USER", "REGISTRY_TOKEN", *(name for name in os.environ if name.startswith("GITHUB_"))):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        place.repository = Project(project.path)

    place = SimpleNamespace(
        given=given,
        project=project,
        module=conveyor_cluster,
        cluster=cluster,
        said=said,
        home=tmp_path,
        kubectl=tmp_path / "bin/kubectl",
        serving=lambda environment="staging": conveyor_cluster.serving(place.repository, environment),
        roll_out=lambda image, environment="staging": conveyor_cluster.roll_out(
            place.repository,
            environment,
            {**image, "golden": None},
            SimpleNamespace(golden=image["golden"]),
            said.append,
        ),
        errors=errors,
    )
    given()
    yield place
    cluster.close()


@pytest.fixture(scope="module")
def kept() -> dict:
    """What the cluster holds after the first roll-out: tests of a later one begin there."""
    return {}


@pytest.fixture
def served(place, kept):
    """A place where image a serves."""
    if not kept:
        place.roll_out(image("a"))
        kept.update(copy.deepcopy(place.cluster.objects))
    place.cluster.objects = copy.deepcopy(kept)
    place.cluster.calls.clear()
    return place


def image(letter: str, **more) -> dict:
    reference = f"registry.example:5000/team/trains@sha256:{letter * 64}"
    golden = {"rows": ROWS, "answers": ANSWERS}
    known = {"key": f"key-{letter}", "digest": letter * 64, "commit": letter * 40}
    return {"reference": reference, **known, "golden": golden, **more}


def runs(image: dict) -> dict:
    return {"image": image["reference"], **{name: image[name] for name in ("key", "digest", "commit")}}


def refused(place, image: dict, *reasons: str) -> str:
    """Rolls out, which is refused with one line that holds the reasons."""
    with pytest.raises(place.errors.Refused) as told:
        place.roll_out(image)
    text = str(told.value)
    assert "\n" not in text
    for reason in reasons:
        assert reason in text, text
    return text


def misused(place, image: dict, *reasons: str, environment: str = "staging") -> None:
    """Rolls out, which ends with one line before anything was changed."""
    with pytest.raises(place.errors.Misuse) as told:
        place.roll_out(image, environment)
    text = str(told.value)
    assert "\n" not in text
    for reason in reasons:
        assert reason in text, text
    assert not [call for call in place.cluster.calls if not call.startswith("GET")]


def test_nothing_serves_before_the_first_roll_out(place):
    assert place.serving() is None


def test_what_is_rolled_out_serves_and_says_what_it_is(place):
    told = place.roll_out(image("a"))
    assert told == "staging serves model key-a, and its golden answers are the model's own"
    assert place.serving() == runs(image("a"))
    assert place.cluster.images() == {image("a")["reference"]}
    assert place.said == [f"deploy    {image('a')['reference']} to {NAMESPACE}"]
    assert {resource for resource, _ in place.cluster.objects} >= {"services", "networkpolicies"}


def test_a_replica_that_died_and_was_started_again_is_told(served):
    assert served.module.died(served.repository, "staging") == []
    pod = next(one for (kind, _), one in served.cluster.objects.items() if kind == "pods")
    [status] = pod["status"]["containerStatuses"]
    status |= {"restartCount": 2, "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
    [line] = served.module.died(served.repository, "staging")
    assert line == f"{pod['metadata']['name']} has died, last OOMKilled 137; started 2 times"


def test_the_deployer_has_no_right_that_no_roll_out_uses(place):
    """That the rights suffice is what the other tests show: the stand-in refuses everything else."""
    used = []
    allowed = place.cluster.authorise
    place.cluster.authorise = lambda *what: used.append(what[:3]) or allowed(*what)
    place.given(REGISTRY_USER="robot", REGISTRY_TOKEN="right")
    place.cluster.registries["registry.example:5000"] = registry = Registry()
    refused(place, image("a"), "nothing does now")  # deletes
    registry.tokens.add("robot:right")
    place.roll_out(image("a"))
    place.project.edit("container/kubernetes/base/service.yaml", "port: 80\n", "port: 81\n")
    place.project.edit("container/kubernetes/base/network-policy.yaml", "port: http", "port: 8000")
    place.project.edit("container/kubernetes/base/autoscaler.yaml", "Utilization: 70", "Utilization: 60")
    place.project.edit("container/kubernetes/base/service-account.yaml", "Token: false", "Token: true")
    place.cluster.answer = lambda *_: (503, b"")
    refused(place, image("b"), "serves as before")  # goes back
    granted = {
        (verb, group, resource)
        for rule in place.cluster.role
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    # Of other versions of kubectl, which use no web socket, and list before they watch.
    assert granted - set(used) == {("create", "", "pods/exec"), ("list", "apps", "deployments")}


def test_a_roll_out_edits_nothing_of_the_repository(place):
    place.roll_out(image("a"))
    assert place.project.git("status", "--porcelain").stdout == ""
    assert (place.project.path / "build/kubernetes/staging/kustomization.yaml").is_file()


def test_the_next_one_takes_its_place_and_the_autoscaler_keeps_its_number(served):
    served.cluster.deployment()["spec"]["replicas"] = 4
    served.roll_out(image("b"))
    assert served.serving() == runs(image("b"))
    assert served.cluster.images() == {image("b")["reference"]}
    assert served.cluster.deployment()["spec"]["replicas"] == 4


def test_going_back_is_rolling_out_the_earlier_image_as_a_revision_of_its_own(served):
    for letter, revision in zip("abba", "1223", strict=True):
        served.roll_out(image(letter))
        assert served.serving() == runs(image(letter))
        assert served.cluster.deployment()["metadata"]["annotations"][REVISION] == revision


def test_the_golden_rows_are_asked_of_a_new_replica_with_the_token_that_it_has(served):
    asked = []
    served.cluster.answer = lambda image, headers, body: asked.append((image, headers)) or predictions(image, {}, body)
    served.cluster.token = "secret"
    served.roll_out(image("b"))
    served.cluster.token = ""
    served.roll_out(image("c"))
    assert [reference for reference, _ in asked] == [image("b")["reference"], image("c")["reference"]]
    assert (asked[0][1]["Authorization"], asked[0][1]["Content-Type"]) == ("Bearer secret", "application/json")
    assert "Authorization" not in asked[1][1]


def test_a_replica_on_its_way_out_is_not_asked(served):
    going = copy.deepcopy(next(pod for (of, _), pod in served.cluster.objects.items() if of == "pods"))
    going["metadata"] |= {"name": "model-0-going", "deletionTimestamp": "2026-11-24T08:00:00Z"}
    served.cluster.objects = {("pods", "model-0-going"): going, **served.cluster.objects}
    served.roll_out(image("a"))
    assert not [call for call in served.cluster.calls if call.endswith("model-0-going/exec")]
    assert [call for call in served.cluster.calls if call.endswith("/exec")]


@pytest.mark.parametrize(
    "reference",
    [
        "registry.example/team/trains:latest",
        "registry.example/team/trains",
        "registry.example/team/trains:v1@sha256:" + "a" * 64,
        "registry.example/team/trains@sha256:" + "a" * 63,
        "registry.example/team/trains@sha256:" + "A" * 64,
        "@sha256:" + "a" * 64,
        "sha256:" + "a" * 64,
        "",
    ],
)
def test_an_image_without_a_digest_is_refused(place, reference):
    misused(place, image("a", reference=reference), "a cluster takes an image of a registry by its digest")
    assert place.cluster.calls == []


def test_without_kubectl_nothing_is_tried(place, monkeypatch):
    monkeypatch.setenv("PATH", str(place.home))
    misused(place, image("a"), "kubectl is not installed; install it")


def test_a_context_that_is_missing_is_named_with_its_mend(place):
    place.cluster.kubeconfig(place.home / "kubeconfig", "another")
    misused(place, image("a"), f'context "{NAMESPACE}" does not exist', f"`kubectl config set-context {NAMESPACE} ")
    with pytest.raises(place.errors.Misuse, match="does not exist"):
        place.serving()


def test_a_cluster_that_is_not_there_is_told_in_one_line(place):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        config = json.loads((place.home / "kubeconfig").read_text())
        config["clusters"][0]["cluster"]["server"] = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        (place.home / "kubeconfig").write_text(json.dumps(config))
        misused(place, image("a"), "was refused", "mend the access to the cluster")


def test_a_cluster_that_forbids_to_look_is_told_in_one_line(place):
    place.cluster.refuse[f"GET {DEPLOYMENTS}"] = (403, "Forbidden", 'deployments "model" is forbidden')
    misused(place, image("a"), "forbidden", "mend the access to the cluster")


def test_a_kubectl_that_hangs_is_ended(place, monkeypatch):
    place.kubectl.unlink()
    place.kubectl.write_text("#!/bin/sh\necho $$ > pid\nsleep 60\n")
    place.kubectl.chmod(0o755)
    monkeypatch.setattr(place.module.Kubectl.__call__, "__kwdefaults__", {"stdin": None, "seconds": 1, "hidden": ()})
    with pytest.raises(place.errors.Misuse, match="kubectl get did not answer within 1 seconds"):
        place.serving()
    pid = (place.project.path / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}/cmdline").exists()


@pytest.mark.parametrize("environment", ["nowhere", "../base", ""])
def test_an_environment_that_is_not_there_is_named_with_those_that_are(place, environment):
    misused(place, image("a"), "no environment", "production, staging", environment=environment)


def test_an_overlay_without_a_namespace_is_refused(place):
    place.project.edit("container/kubernetes/overlays/staging/kustomization.yaml", f"namespace: {NAMESPACE}\n", "")
    misused(place, image("a"), "container/kubernetes/overlays/staging/kustomization.yaml: namespace: missing")


def test_manifests_that_do_not_render_are_refused_before_the_cluster_is_asked(place):
    place.project.edit("container/kubernetes/base/kustomization.yaml", "service.yaml", "services.yaml")
    misused(place, image("a"), "container/kubernetes/overlays/staging: ", "services.yaml", "mend it")
    assert place.cluster.calls == []


@pytest.mark.parametrize(
    ("old", "new"),
    [("image: model #", "image: other #"), ("- name: model\n          image", "- name: m\n          image")],
)
def test_an_image_that_the_roll_out_would_not_set_is_refused(place, old, new):
    place.project.edit("container/kubernetes/base/deployment.yaml", old, new)
    misused(place, image("a"), "the roll-out sets no image", "'model'")
    assert place.cluster.calls == []


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize("call", ["services", "deployments", "networkpolicies"])
def test_what_the_cluster_does_not_let_be_applied_is_undone(place, request, call, first):
    """Before the deployment, at it, and behind it."""
    if not first:
        request.getfixturevalue("served")
        place.project.edit("container/kubernetes/base/service.yaml", "port: 80\n", "port: 81\n")
        place.project.edit("container/kubernetes/base/network-policy.yaml", "port: http", "port: 8000")
    group = {"services": "api/v1", "deployments": "apis/apps/v1", "networkpolicies": "apis/networking.k8s.io/v1"}
    begin = f"{'POST' if first else 'PATCH'} /{group[call]}/namespaces/{NAMESPACE}/{call}"
    place.cluster.refuse[begin] = (403, "Forbidden", "the deployer may not do that")
    serves = "nothing served before, and nothing does now" if first else f"{image('a')['reference']} serves as before"
    refused(place, image("b"), "staging: ", "the deployer may not do that", f"undone: {serves}")
    assert place.serving() == (None if first else runs(image("a")))
    assert place.cluster.images() == (set() if first else {image("a")["reference"]})


def test_a_manifest_that_the_cluster_finds_invalid_is_undone(served):
    served.project.edit("container/kubernetes/base/deployment.yaml", "minReadySeconds: 5", "minReadySecond: 5")
    refused(served, image("b"), "minReadySecond", f"undone: {image('a')['reference']} serves as before")
    assert served.serving() == runs(image("a"))


@pytest.mark.parametrize(
    ("state", "reason"),
    [("ProgressDeadlineExceeded", "exceeded its progress deadline"), ("ReplicaSetUpdated", "timed out")],
)
def test_a_roll_out_that_does_not_settle_is_undone(served, monkeypatch, state, reason):
    monkeypatch.setattr(served.module, "SECONDS_TO_SETTLE", 1)
    served.cluster.stuck[image("b")["reference"]] = state
    text = refused(served, image("b"), reason, f"undone: {image('a')['reference']} serves as before")
    assert "(ImagePullBackOff: Back-off pulling image registry.example:5000/team/trains@sha256:bbb" in text
    assert served.serving() == runs(image("a"))
    assert served.cluster.images() == {image("a")["reference"]}


def test_a_first_roll_out_that_does_not_settle_leaves_nothing(place):
    place.cluster.stuck[image("a")["reference"]] = "ProgressDeadlineExceeded"
    refused(place, image("a"), "progress deadline", "undone: nothing served before, and nothing does now")
    assert place.serving() is None
    assert place.cluster.images() == set()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([0.25, 0.7501], "a golden answer is 0.0001 from the model's own; 1e-05 is tolerated"),
        ([0.25, float("nan")], "a golden answer is nan from the model's own"),
        ([0.25], "shape (1,), not (2,)"),
        ([0.25, [0.75]], "holds no predictions"),
        ((200, b'{"model": "key-b"}'), "holds no predictions"),
        ((200, b'{"predictions": [0.25, 0.75]}'), "holds no predictions"),
        ((200, b'{"model": "key-a", "predictions": [0.25, 0.75]}'), "the image says that it is model key-a, not key-b"),
        ((200, b"<html>"), "holds no predictions"),
        ((422, b'{"error": "row 0: origin"}'), '/predict said 422: {"error": "row 0: origin"}'),
        ((503, b"draining,\nask another"), "/predict said 503: draining, ask another;"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_model_that_answers_otherwise_than_it_was_judged_by_is_undone(served, answer, reason):
    served.cluster.answer = lambda image, *_: says(answer, image) if isinstance(answer, list) else answer
    refused(served, image("b"), reason, f"undone: {image('a')['reference']} serves as before")
    assert served.serving() == runs(image("a"))
    assert served.cluster.images() == {image("a")["reference"]}


def test_an_answer_within_the_tolerance_passes_and_classes_are_compared_each(place):
    golden = {"rows": ROWS, "answers": [[0.2, 0.8], [0.6, 0.4]]}
    place.cluster.answer = lambda image, *_: says([[0.200009, 0.799991], [0.6, 0.4]], image)
    place.roll_out(image("a", golden=golden))
    assert place.serving() == runs(image("a"))
    place.cluster.answer = lambda image, *_: says([[0.20002, 0.79998], [0.6, 0.4]], image)
    refused(place, image("b", golden=golden), "a golden answer is 2e-05 from the model's own")


def test_a_replica_that_nobody_may_ask_is_undone(served):
    served.cluster.refuse[f"GET /api/v1/namespaces/{NAMESPACE}/pods/"] = (403, "Forbidden", "pods may not be asked")
    refused(served, image("b"), "pods may not be asked", "undone: ")
    assert served.serving() == runs(image("a"))


def test_a_way_back_that_fails_too_is_said_and_the_old_replicas_keep_serving(served):
    served.cluster.stuck[image("b")["reference"]] = "ProgressDeadlineExceeded"
    served.cluster.refuse["UNDO"] = (500, "InternalError", "etcd is full")
    look = f"`kubectl --context={NAMESPACE} --namespace={NAMESPACE} describe deployment model`"
    refused(served, image("b"), "exceeded its progress deadline", "going back failed, too:", "etcd is full", look)
    assert image("a")["reference"] in served.cluster.images()
    assert served.serving() == runs(image("b"))  # what the deployment asks for; the next roll-out takes its place
    served.cluster.refuse.clear()
    served.roll_out(image("a"))
    assert served.cluster.images() == {image("a")["reference"]}


def test_the_way_back_of_a_first_roll_out_may_fail_too(place):
    place.cluster.answer = lambda *_: (503, b"")
    place.cluster.refuse["DELETE"] = (500, "InternalError", "etcd is full")
    refused(place, image("a"), "/predict said 503", "going back failed, too:", "etcd is full")


def test_the_image_that_serves_is_not_taken_for_the_one_before_it(served):
    """`rollout undo` by itself would go one further back: applying the same image again makes no revision."""
    served.roll_out(image("b"))
    served.cluster.answer = lambda *_: (503, b"")
    refused(served, image("b"), "/predict said 503", f"undone: {image('b')['reference']} serves as before")
    assert served.serving() == runs(image("b"))


def test_a_deployment_of_somebody_else_is_known_by_its_image_only(served):
    served.cluster.deployment()["spec"]["template"]["metadata"].pop("annotations")
    assert served.serving() == {"image": image("a")["reference"], "key": None, "digest": None, "commit": None}


def kept_image(place, image: dict) -> str | None:
    return place.module.kept(place.repository, "staging", image["key"], image["digest"])


def test_the_image_of_an_earlier_model_is_found_and_one_that_never_served_is_not(served):
    for letter in "bc":
        served.roll_out(image(letter))
    served.cluster.answer = lambda *_: (503, b"")
    refused(served, image("d"), "serves as before")
    for letter in "abc":
        assert kept_image(served, image(letter)) == image(letter)["reference"]
    assert kept_image(served, image("d")) is None
    assert kept_image(served, image("a", digest="b" * 64)) is None


def test_of_two_images_of_a_model_the_one_that_served_last_is_found(served):
    newer = image("b", key="key-a", digest="a" * 64)
    served.cluster.answer = lambda image, *_: says(ANSWERS, image, "key-a")
    served.roll_out(newer)
    assert kept_image(served, image("a")) == newer["reference"]
    served.cluster.answer = lambda *_: (503, b"")
    refused(served, image("c", key="key-a", digest="a" * 64), "serves as before")
    assert kept_image(served, image("a")) == newer["reference"]


def test_what_inherits_the_mark_of_a_model_that_was_gone_back_to_has_not_served(served):
    """`rollout undo` gives the deployment the notes of the replica set, and the next replica set inherits them."""
    served.cluster.answer = lambda *_: (503, b"")
    for letter in "bc":
        refused(served, image(letter), "serves as before")
    assert [kept_image(served, image(letter)) for letter in "abc"] == [image("a")["reference"], None, None]


def test_a_mark_that_cannot_be_set_does_not_undo_what_serves(served):
    served.cluster.refuse[f"PATCH /apis/apps/v1/namespaces/{NAMESPACE}/replicasets"] = (403, "Forbidden", "no marks")
    served.roll_out(image("b"))
    assert served.serving() == runs(image("b"))
    assert "no marks; a roll-back to it will build its image anew" in served.said[-1]
    assert kept_image(served, image("b")) is None


def test_a_machine_without_a_way_to_the_cluster_deploys_nothing(place, monkeypatch):
    deployed = lambda: place.module.deployed(place.repository, "staging")  # noqa: E731
    assert deployed() is False
    place.roll_out(image("a"))
    assert deployed() is True
    place.cluster.refuse[f"GET {DEPLOYMENTS}"] = (403, "Forbidden", "not for you")
    with pytest.raises(place.errors.Misuse, match="not for you"):
        deployed()
    place.cluster.kubeconfig(place.home / "kubeconfig", "another")
    assert deployed() is False
    monkeypatch.setenv("PATH", str(place.home))
    assert deployed() is False


def test_a_workflow_without_a_cluster_publishes_the_image_and_deploys_nothing(place, monkeypatch):
    monkeypatch.setenv("GITHUB_RUN_ID", "1")
    monkeypatch.setenv("GITHUB_REPOSITORY", "your-team/night-trains")
    place.cluster.kubeconfig(place.home / "kubeconfig", "another")
    said = place.module.roll_out(Project(place.project.path), "staging", image("a"), None, place.said.append)
    assert said.startswith("not deployed: KUBECONFIG_DATA names no cluster for staging")
    assert not place.cluster.calls


def test_the_kubeconfig_of_a_secret_is_used_and_does_not_stay(place, monkeypatch):
    monkeypatch.setenv("KUBECONFIG_DATA", (place.home / "kubeconfig").read_text())
    monkeypatch.setenv("KUBECONFIG", str(place.home / "nothing"))
    project = Project(place.project.path)
    a = image("a")
    place.module.roll_out(project, "staging", a, SimpleNamespace(golden=a["golden"]), place.said.append)
    assert place.module.serving(project, "staging") == runs(a)
    left = [path for path in (place.project.path / "build").rglob("*") if "kubeconfig" in path.name]
    assert not left


def test_an_environment_is_taken_down(served):
    module = served.module
    assert "deleted" in module.take_down(served.repository, "staging")
    assert served.serving() is None
    assert module.take_down(served.repository, "staging") == "staging: nothing was deployed"


# What follows pulls from a private registry.

HOST = "registry.example:5000"
SECRET = ("secrets", "model-pull")
MAY_READ = "may read registry.example:5000/team/trains"
OWN = {"app.kubernetes.io/name": "model", "app.kubernetes.io/managed-by": "conveyor"}


def docker_config(user: str, labels: dict | None = None, name: str = "model-pull") -> dict:
    """A pull secret, as somebody else makes it."""
    auths = {HOST: {"auth": base64.b64encode(user.encode()).decode()}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels or {}},
        "data": {".dockerconfigjson": base64.b64encode(json.dumps({"auths": auths}).encode()).decode()},
    }


def held(place, host: str = HOST) -> str | None:
    """user:token in the pull secret; None: there is no secret."""
    if SECRET not in place.cluster.objects:
        return None
    content = json.loads(base64.b64decode(place.cluster.objects[SECRET]["data"][".dockerconfigjson"]))
    assert list(content) == ["auths"] and list(content["auths"]) == [host]
    return base64.b64decode(content["auths"][host]["auth"]).decode()


def pulls_with(place) -> list[list[str]]:
    """The names of the pull secrets of each pod."""
    return [[one["name"] for one in pod["spec"].get("imagePullSecrets", [])] for pod in place.cluster.pods()]


@pytest.fixture
def private(place):
    """A place whose registry gives the image to one user only, and where nothing served yet."""
    place.cluster.registries[HOST] = Registry(tokens={"robot:right"})
    return place


def test_a_private_image_cannot_be_pulled_without_a_token_and_the_mend_is_told(private):
    text = refused(private, image("a"), "nothing does now", f"a lasting REGISTRY_TOKEN in staging that {MAY_READ}")
    assert "(ImagePullBackOff: Back-off pulling image" in text
    assert "failed to fetch anonymous token" in text and "403 Forbidden)" in text
    assert held(private) is None
    assert private.cluster.images() == set()


def test_a_private_image_is_pulled_with_the_token_of_the_environment(private):
    private.given(REGISTRY_USER="robot", REGISTRY_TOKEN="right")
    private.roll_out(image("a"))
    assert private.serving() == runs(image("a"))
    assert held(private) == "robot:right"
    secret = private.cluster.objects[SECRET]
    assert (secret["type"], secret["metadata"]["labels"]) == ("kubernetes.io/dockerconfigjson", OWN)
    assert private.said[0] == "deploy    secret model-pull made: the cluster pulls with REGISTRY_TOKEN"
    private.cluster.move()
    assert private.cluster.images() == {image("a")["reference"]}
    assert pulls_with(private) == [["model-pull"]]
    assert [pod["status"]["phase"] for pod in private.cluster.pods()] == ["Running"]


def test_the_token_is_kept_nowhere_but_in_the_secret(private, capfd):
    real = private.kubectl.resolve()
    private.kubectl.unlink()
    log = private.home / "command-lines"
    private.kubectl.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {real} "$@"\n')
    private.kubectl.chmod(0o755)
    for token in ("wrong-token", "right"):
        private.given(REGISTRY_USER="robot", REGISTRY_TOKEN=token)
        if token != "right":
            private.said.append(refused(private, image("a"), "undone"))
    private.roll_out(image("a"))
    private.cluster.registries[HOST].tokens = {"robot:wrong-token"}
    private.said.append(refused(private, image("b"), "undone"))  # `right` is wrong now
    assert "apply --server-side" in log.read_text()
    secret = private.cluster.objects[SECRET]
    assert "kubectl.kubernetes.io/last-applied-configuration" not in secret["metadata"].get("annotations", {})
    files = [path for root in (private.project.path, private.home) for path in root.rglob("*") if path.is_file()]
    assert private.project.path / "build/kubernetes/staging/kustomization.yaml" in files
    elsewhere = [str(thing) for key, thing in private.cluster.objects.items() if key != SECRET]
    kept = [path.read_bytes() for path in files] + [str([private.said, elsewhere, capfd.readouterr()]).encode()]
    for user in ("robot:wrong-token", "robot:right"):
        coded = base64.b64encode(user.encode())
        content = docker_config(user)["data"][".dockerconfigjson"].encode()
        assert not [text for text in kept for part in (user.encode(), coded, content) if part in text]


def test_a_server_that_repeats_the_secret_in_its_error_does_not_bring_it_into_the_log(private):
    private.given(REGISTRY_USER="robot", REGISTRY_TOKEN="right")
    content = docker_config("robot:right")["data"][".dockerconfigjson"]
    private.cluster.refuse["APPLY"] = (500, "InternalError", f"a webhook has no place for {content}")
    with pytest.raises(
        errors.Misuse, match=r"a webhook has no place for \*\*\*; mend the access to the cluster"
    ) as told:
        private.roll_out(image("a"))
    assert "\n" not in str(told.value)
    assert private.cluster.deployment() is None


@pytest.mark.parametrize("before", [None, "robot:right"])
def test_a_wrong_token_is_undone_with_its_reason_and_the_secret_is_as_before(private, before):
    if before:
        private.given(REGISTRY_USER="robot", REGISTRY_TOKEN="right")
        private.roll_out(image("a"))
    private.given(REGISTRY_USER="robot", REGISTRY_TOKEN="wrong")
    serves = f"{image('a')['reference']} serves as before" if before else "nothing served before, and nothing does now"
    mend = f"check that REGISTRY_TOKEN in staging is of REGISTRY_USER robot and {MAY_READ}"
    text = refused(private, image("b"), "failed to fetch oauth token", f"403 Forbidden); {mend}; undone: {serves}")
    assert "wrong" not in text
    assert held(private) == before
    if before:
        private.cluster.move()
        assert [pod["status"]["phase"] for pod in private.cluster.pods()] == ["Running"]


def test_a_secret_that_cannot_be_put_back_is_told(private):
    private.given(REGISTRY_USER="robot", REGISTRY_TOKEN="wrong")
    private.cluster.refuse[f"DELETE /api/v1/namespaces/{NAMESPACE}/secrets"] = (500, "InternalError", "etcd is full")
    refused(private, image("a"), "etcd is full", "and secret model-pull could not be put back: ", "undone: nothing")


def test_a_failure_that_is_not_of_the_pull_keeps_the_renewed_secret(private):
    private.given(REGISTRY_USER="robot", REGISTRY_TOKEN="right")
    private.cluster.answer = lambda *_: (503, b"")
    assert "REGISTRY_TOKEN" not in refused(private, image("a"), "/predict said 503", "undone: nothing served before")
    assert held(private) == "robot:right"


def test_a_renewed_token_restarts_nothing_and_is_the_one_that_later_replicas_pull_with(private):
    private.given(REGISTRY_USER="robot", REGISTRY_TOKEN="right")
    private.roll_out(image("a"))
    before = [pod["metadata"]["uid"] for pod in private.cluster.pods()]
    private.cluster.registries[HOST].tokens = {"robot:newer"}
    private.given(REGISTRY_USER="robot", REGISTRY_TOKEN="newer")
    private.said.clear()
    private.roll_out(image("a"))
    assert private.said[0] == "deploy    secret model-pull renewed: the cluster pulls with REGISTRY_TOKEN"
    assert [pod["metadata"]["uid"] for pod in private.cluster.pods()] == before
    private.cluster.calls.clear()
    private.roll_out(image("a"))
    assert not [call for call in private.cluster.calls if call.startswith("APPLY")]  # it is the same
    private.cluster.move()
    assert [pod["status"]["phase"] for pod in private.cluster.pods()] == ["Running"]
    assert [pod["metadata"]["uid"] for pod in private.cluster.pods()] != before


def test_going_back_to_an_image_that_was_public_once_pulls_with_the_secret(served):
    served.cluster.registries[HOST] = Registry(tokens={"robot:right"})
    served.given(REGISTRY_USER="robot", REGISTRY_TOKEN="right")
    served.roll_out(image("b"))
    served.roll_out(image("a"))
    assert served.serving() == runs(image("a"))
    assert pulls_with(served) == [["model-pull"]]


def test_a_roll_out_without_a_token_keeps_the_secret_of_an_earlier_one(private):
    private.given(REGISTRY_USER="robot", REGISTRY_TOKEN="right")
    private.roll_out(image("a"))
    private.given()
    private.said.clear()
    private.roll_out(image("b"))
    assert private.said == [f"deploy    {image('b')['reference']} to {NAMESPACE}"]
    assert (held(private), pulls_with(private)) == ("robot:right", [["model-pull"]])


def workflow(token: str) -> dict[str, str]:
    """The environment of a step of a workflow whose job has the token `job`."""
    names = {"GITHUB_RUN_ID": "1", "GITHUB_REPOSITORY": "your-team/night-trains", "GITHUB_ACTOR": "somebody"}
    return {**names, "GITHUB_TOKEN": "job", "REGISTRY_TOKEN": token}


def test_the_token_of_a_job_is_not_kept_and_a_public_image_needs_none(place):
    """Once it has ended it would keep later replicas from what everybody may pull."""
    place.cluster.registries[HOST] = Registry(public=True, tokens={"somebody:job"})
    place.given(**workflow("job"))
    place.roll_out(image("a"))
    assert place.said[0] == (
        "deploy    no secret model-pull: the job's own token would end with the job; a private image needs a lasting"
        f" REGISTRY_TOKEN in staging that {MAY_READ}"
    )
    place.cluster.registries[HOST].tokens.clear()
    place.cluster.move()
    assert [pod["status"]["phase"] for pod in place.cluster.pods()] == ["Running"]
    assert (held(place), pulls_with(place)) == (None, [[]])


def test_a_secret_that_has_ended_and_is_not_renewed_is_named(place):
    place.cluster.registries[HOST] = Registry(public=True)
    place.cluster.store("secrets", docker_config("somebody:ended", labels=OWN))
    place.given(**workflow("job"))
    told = "secret model-pull of an earlier roll-out is in use; delete it if the image is public; a private image needs"
    refused(place, image("a"), "failed to fetch oauth token", told)
    assert held(place) == "somebody:ended"


def test_the_token_of_a_job_pulls_no_private_image_because_it_would_pull_it_only_once(private):
    private.cluster.registries[HOST].tokens = {"somebody:job"}
    private.given(**workflow("job"))
    refused(private, image("a"), f"a private image needs a lasting REGISTRY_TOKEN in staging that {MAY_READ}; undone")
    assert held(private) is None


def test_a_secret_of_a_workflow_is_used_with_the_actor_as_its_user(private):
    private.cluster.registries[HOST].tokens = {"somebody:lasting"}
    private.given(**workflow("lasting"))
    private.roll_out(image("a"))
    assert held(private) == "somebody:lasting"


def test_a_token_without_a_user_is_refused_before_anything_is_changed(private):
    private.given(REGISTRY_TOKEN="right")
    misused(private, image("a"), "REGISTRY_TOKEN: has no user; set REGISTRY_USER")


def test_a_secret_of_somebody_else_is_left_alone_and_told(private):
    theirs = docker_config("theirs:token")
    private.cluster.store("secrets", theirs)
    private.given(REGISTRY_USER="robot", REGISTRY_TOKEN="right")
    told = "secret model-pull is not the roll-out's (app.kubernetes.io/managed-by=conveyor is missing) and stays"
    refused(private, image("a"), f"{told}; give it another name; undone")
    assert private.said[0] == f"deploy    {told}; give it another name"
    private.cluster.registries[HOST].public = True
    private.roll_out(image("a"))
    assert private.module.take_down(private.repository, "staging").endswith(
        "deleted from night-trains-staging namespace"
    )
    assert private.cluster.objects[SECRET]["data"] == theirs["data"]
    assert pulls_with(private) == []


def test_a_secret_that_somebody_makes_at_the_same_moment_is_left_alone(private):
    theirs = docker_config("theirs:token")
    private.given(REGISTRY_USER="robot", REGISTRY_TOKEN="right")
    allowed = private.cluster.authorise

    def just_before(verb: str, group: str, resource: str, name: str) -> None:
        if (verb, resource) == ("patch", "secrets"):
            private.cluster.store("secrets", theirs)
        allowed(verb, group, resource, name)

    private.cluster.authorise = just_before
    with pytest.raises(errors.Misuse, match='^kubectl: Apply failed with 2 conflicts: conflicts with "kubectl-create"'):
        private.roll_out(image("a"))
    assert private.cluster.objects[SECRET]["data"] == theirs["data"]


@pytest.mark.parametrize("verbs", [[], ["get"], ["get", "patch"]], ids=str)
def test_a_right_that_the_deployer_lacks_is_one_line_with_its_mend(private, verbs):
    """As after an update of the repository, before an administrator has applied the role again."""
    rule = next(rule for rule in private.cluster.role if rule["resources"] == ["secrets"])
    rule["verbs"] = verbs
    private.given(REGISTRY_USER="robot", REGISTRY_TOKEN="right")
    apply = f"`kubectl --namespace={NAMESPACE} apply --filename=container/kubernetes/deployer.yaml`"
    refused(private, image("a"), "ImagePullBackOff", f"an administrator grants it by {apply}; undone")
    lacks = {0: "cannot get", 1: "cannot patch", 2: "cannot create"}[len(verbs)]
    assert private.said[0].startswith("deploy    secret model-pull is not made: ")
    assert lacks in private.said[0] and private.said[0].endswith(apply) and "\n" not in private.said[0]
    private.cluster.registries[HOST].public = True
    private.roll_out(image("a"))
    assert private.serving() == runs(image("a"))
    assert "deleted" in private.module.take_down(private.repository, "staging")


def test_a_token_that_may_not_be_renewed_leaves_the_secret_in_use(private):
    private.given(REGISTRY_USER="robot", REGISTRY_TOKEN="right")
    private.roll_out(image("a"))
    next(rule for rule in private.cluster.role if rule["resources"] == ["secrets"])["verbs"] = ["get"]
    private.given(REGISTRY_USER="robot", REGISTRY_TOKEN="newer")
    private.said.clear()
    private.roll_out(image("b"))
    assert private.said[0].startswith("deploy    secret model-pull is not renewed: ")
    assert (held(private), pulls_with(private)) == ("robot:right", [["model-pull"]])


def on_the_account(place) -> None:
    kustomization = "container/kubernetes/overlays/staging/kustomization.yaml"
    patch = "  - target:\n      kind: ServiceAccount\n      name: model\n    patch: |\n"
    patch += "      - op: add\n        path: /imagePullSecrets\n        value: [{name: theirs}]\n"
    place.project.edit(kustomization, "patches:\n", f"patches:\n{patch}")


def on_the_pods(place) -> None:
    kustomization = "container/kubernetes/overlays/staging/kustomization.yaml"
    patch = "  - target:\n      kind: Deployment\n      name: model\n    patch: |\n"
    patch += "      - op: add\n        path: /spec/template/spec/imagePullSecrets\n        value: [{name: theirs}]\n"
    place.project.edit(kustomization, "patches:\n", f"patches:\n{patch}")


def by_hand(place) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": [{"name": "theirs"}]}
    place.cluster.store("serviceaccounts", {**account, "metadata": {"name": "model", "namespace": NAMESPACE}})


@pytest.mark.parametrize("where", [on_the_account, on_the_pods, by_hand])
def test_a_pull_secret_of_the_team_stays_and_both_are_used(private, where):
    where(private)
    private.cluster.store("secrets", docker_config("theirs:token", name="theirs"))
    private.given(REGISTRY_USER="robot", REGISTRY_TOKEN="right")
    for token in ("theirs:token", "robot:right"):
        private.cluster.registries[HOST].tokens = {token}
        private.roll_out(image("ab"[token == "robot:right"]))
        assert [sorted(names) for names in pulls_with(private)] == [["model-pull", "theirs"]]
    private.given()
    private.cluster.objects.pop(SECRET)
    private.cluster.registries[HOST].tokens = {"theirs:token"}
    private.roll_out(image("c"))
    assert pulls_with(private) == [["theirs"]]


def test_an_image_of_docker_hub_is_pulled_by_the_name_that_its_registry_has_there(place):
    place.cluster.registries["docker.io"] = Registry(tokens={"robot:right"})
    place.given(REGISTRY_USER="robot", REGISTRY_TOKEN="right")
    a = image("a", reference=f"team/trains@sha256:{'a' * 64}")
    place.roll_out(a)
    assert place.serving() == runs(a)
    assert held(place, "https://index.docker.io/v1/") == "robot:right"


@pytest.mark.parametrize(
    ("repository", "host"),
    [
        ("ghcr.io/your-team/night-trains", "ghcr.io"),
        ("registry.example:5000/night-trains", "registry.example:5000"),
        ("localhost/night-trains", "localhost"),
        ("localhost:5000/night-trains", "localhost:5000"),
        ("docker.io/your-team/night-trains", "https://index.docker.io/v1/"),
        ("index.docker.io/your-team/night-trains", "https://index.docker.io/v1/"),
        ("your-team/night-trains", "https://index.docker.io/v1/"),
        ("night-trains", "https://index.docker.io/v1/"),
    ],
)
def test_the_registry_of_a_token_is_that_of_the_image(repository, host):
    assert registry(repository) == host


def test_an_environment_that_is_taken_down_keeps_no_token(private):
    private.given(REGISTRY_USER="robot", REGISTRY_TOKEN="right")
    private.roll_out(image("a"))
    assert "deleted" in private.module.take_down(private.repository, "staging")
    assert held(private) is None
    private.cluster.store("secrets", docker_config("robot:right", labels=OWN))
    private.cluster.refuse[f"DELETE /api/v1/namespaces/{NAMESPACE}/secrets"] = (500, "InternalError", "etcd is full")
    told = private.module.take_down(private.repository, "staging")
    assert "; secret model-pull could not be deleted: " in told and told.endswith("etcd is full")
