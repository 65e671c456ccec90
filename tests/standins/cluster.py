"""A stand-in for a Kubernetes API server with its deployment controller and its kubelets; kubectl is the real one.

It speaks as much of the protocol as kubectl needs for `apply` on either side, `get`, `delete`, `rollout status`,
`rollout undo` and `exec`. Manifests are held against the strict schemas of a version. A pod is a record, of a machine
of its own that pulls its image; what is executed "in" it runs here, and its port 8000 leads to the function that the
test gives. It shows how kubectl is used, and proves nothing about a cluster.
"""

import base64
import copy
import hashlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

KINDS = {  # (path of the group and version) -> resource -> kind
    "api/v1": {
        "namespaces": "Namespace",
        "pods": "Pod",
        "secrets": "Secret",
        "serviceaccounts": "ServiceAccount",
        "services": "Service",
    },
    "apis/apps/v1": {"deployments": "Deployment", "replicasets": "ReplicaSet"},
    "apis/autoscaling/v2": {"horizontalpodautoscalers": "HorizontalPodAutoscaler"},
    "apis/policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "apis/networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
}
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
REVISION = "deployment.kubernetes.io/revision"
KEYS = {"containers": "name", "volumes": "name", "env": "name", "ports": "", "volumeMounts": "mountPath"}
KEYS |= {"imagePullSecrets": "name"}  # of a pod; the list of a service account is replaced as a whole


class No(Exception):
    """An answer of the API server that is an error."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
        self.body |= {"reason": reason, "message": message}


def merged(old: dict, patch: dict) -> dict:
    """A strategic merge patch: null removes, lists of named things are merged by their names, others are replaced."""
    new = dict(old)
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            new[key] = merged(old.get(key) or {}, value)
        elif isinstance(value, list) and key in KEYS and key in old and old.get("kind") != "ServiceAccount":
            name = KEYS[key] if key != "ports" else "containerPort" if "containerPort" in old[key][0] else "port"
            things = {thing[name]: thing for thing in old[key]}
            for thing in value:
                if thing.get("$patch") == "delete":
                    things.pop(thing[name])
                else:
                    things[thing[name]] = merged(things.get(thing[name], {}), thing)
            new[key] = list(things.values())
        else:
            new[key] = value
    return new


def changed(old: dict, steps: list[dict]) -> dict:
    """A JSON patch, of which kubectl sends `test` and `replace`."""
    new = copy.deepcopy(old)
    for step in steps:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        place = new
        for part in parents:
            place = place[part]
        assert step["op"] in ("replace", "add"), step
        place[last] = step["value"]
    return new


@dataclass
class Registry:
    """A registry; who gives a wrong token gets nothing, not even what is public."""

    public: bool = False
    tokens: set[str] = field(default_factory=set)  # user:token


class Cluster:
    """One API server on a port of the loopback.

    Attributes:
        objects: (resource, name) -> the object; there is one namespace.
        calls: "METHOD path" of each request, discovery left out; UNDO is the patch of `rollout undo`.
        stuck: images whose replicas never get ready -> what the controller says of the roll-out.
        refuse: the beginning of "METHOD path" -> (code, reason, message): what the API server says no to.
        role: the rules of the Role of whoever asks.
        registries: host -> the registry; from others everything can be pulled.
        answer: (image, headers, body) -> (status, body): what /predict of a pod says.
        token: PREDICT_TOKEN in a pod.
    """

    def __init__(self, answer: Callable[[str, dict, bytes], tuple[int, bytes]], version: str, role: list[dict]) -> None:
        self.answer, self.version, self.role = answer, version, role
        self.objects: dict[tuple[str, str], dict] = {}
        self.calls: list[str] = []
        self.stuck: dict[str, str] = {}
        self.registries: dict[str, Registry] = {}
        self.refuse: dict[str, tuple[int, str, str]] = {}
        self.token = ""
        self.number = 0
        self.lock = threading.RLock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Asked", (Handler,), {"cluster": self}))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def kubeconfig(self, path: Path, *contexts: str) -> Path:
        named = [{"name": name, "context": {"cluster": "standin", "user": "deployer"}} for name in contexts]
        config = {"apiVersion": "v1", "kind": "Config", "contexts": named, "users": [{"name": "deployer", "user": {}}]}
        config["clusters"] = [{"name": "standin", "cluster": {"server": self.url}}]
        path.write_text(json.dumps(config), encoding="utf-8")
        return path

    def deployment(self) -> dict | None:
        return self.objects.get(("deployments", "model"))

    def images(self) -> set[str]:
        """What the pods run."""
        return {image_of(pod["spec"]) for pod in self.pods()}

    def store(self, resource: str, thing: dict) -> dict:
        self.number += 1
        key = (resource, thing["metadata"]["name"])
        old = self.objects.get(key, {}).get("metadata", {"uid": f"uid-{self.number}", "generation": 0})
        thing["metadata"] |= {"uid": old["uid"], "resourceVersion": str(self.number)}
        thing["metadata"]["generation"] = old.get("generation", 0) + 1
        thing["metadata"].setdefault("creationTimestamp", "2026-11-24T08:00:00Z")
        self.objects[key] = thing
        if resource == "deployments":
            self.control(thing)
        return thing

    def checked(self, thing: dict) -> None:
        """As the API server with `fieldValidation=Strict`, which kubectl asks for."""
        try:
            kubernetes_validate.validate(thing, self.version, strict=True)
        except kubernetes_validate.ValidationError as error:
            place = ".".join(map(str, error.path))
            raise No(422, "Invalid", f"{thing['kind']} is invalid: {place}: {error.message[:200]}") from None

    def authorise(self, verb: str, group: str, resource: str, name: str) -> None:
        """A rule that names objects never allows what has no name yet: the creation by POST."""
        for rule in self.role:
            named = name in rule.get("resourceNames", [name])
            if verb in rule["verbs"] and group in rule["apiGroups"] and resource in rule["resources"] and named:
                return
        what = f'{resource} "{name}" is forbidden' if name else f"{resource} is forbidden"
        told = f'User "deployer" cannot {verb} resource "{resource}" in API group "{group}" in the namespace "staging"'
        raise No(403, "Forbidden", f"{what}: {told}")

    def applied(self, resource: str, old: dict | None, given: dict, asked: dict[str, list[str]]) -> dict:
        """What server-side apply makes of an object, if no other manager has other data in it."""
        manager, noted = asked["fieldManager"][0], given["metadata"]
        if old:
            if old.get("type") != given.get("type"):
                raise No(422, "Invalid", f'{resource} "{noted["name"]}" is invalid: type: field is immutable')
            managers = [one["manager"] for one in old["metadata"].get("managedFields", [{"manager": "kubectl-create"}])]
            if manager not in managers and old.get("data") != given.get("data") and asked.get("force") != ["true"]:
                fields = "\n- .data\n- .type" if old.get("data") else " .data"
                told = f'Apply failed with 2 conflicts: conflicts with "{managers[0]}" using v1:{fields}'
                raise No(409, "Conflict", told)
            noted = {**old["metadata"], **noted}
        noted = {**noted, "managedFields": [{"manager": manager, "operation": "Apply"}]}
        return {**(old or {}), **given, "metadata": noted}

    def pull(self, spec: dict) -> str:
        """Pull the image of a pod, as the kubelet does; returns why it cannot be.

        Each credential for the registry is tried; without one it is tried only if there is none.
        """
        image = image_of(spec)
        host = image.partition("/")[0]
        host = host if re.search("[.:]", host) else "docker.io"
        if host not in self.registries:
            return ""
        held = []
        for name in [one["name"] for one in spec.get("imagePullSecrets", [])]:
            secret = self.objects.get(("secrets", name), {})
            if secret.get("type") == "kubernetes.io/dockerconfigjson":
                auths = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"]
                for place, one in auths.items():
                    of = re.sub("^https?://", "", place).partition("/")[0]
                    if ("docker.io" if of == "index.docker.io" else of) == host:
                        held.append(base64.b64decode(one["auth"]).decode())
        registry = self.registries[host]
        if registry.tokens & set(held) or (registry.public and not held):
            return ""
        token, scope = "oauth" if held else "anonymous", image.partition("/")[2].partition("@")[0].replace("/", "%2F")
        asked = f"https://{host}/token?scope=repository%3A{scope}%3Apull&service={host}: 403 Forbidden"
        return (
            f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": failed to authorize:'
            f" failed to fetch {token} token: unexpected status from GET request to {asked}"
        )

    def pod(self, name: str, deployment: dict, owned: dict) -> dict:
        """A new pod of a template, with the pull secrets of its service account if it has none of its own."""
        spec = copy.deepcopy(owned["spec"])
        account = self.objects.get(("serviceaccounts", spec.get("serviceAccountName", "default")), {})
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = account["imagePullSecrets"]
        self.number += 1
        image, state = image_of(spec), {"running": {}}
        why = f"ErrImagePull: {told}" if (told := self.pull(spec)) else ""
        if image in self.stuck or why:
            message = f"Back-off\npulling image {image}" if not why else f'Back-off pulling image "{image}": {why}'
            state = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **owned["metadata"],
                "name": name,
                "namespace": deployment["metadata"]["namespace"],
                "uid": f"uid-{self.number}",
            },
            "spec": spec,
            "status": {
                "phase": "Running" if "running" in state else "Pending",
                "containerStatuses": [{"name": "model", "state": state}],
            },
        }

    def move(self) -> None:
        """All machines are replaced: each pod starts anew, on one that must pull the image."""
        self.objects = {key: thing for key, thing in self.objects.items() if key[0] != "pods"}
        self.control(self.deployment())

    def pods(self) -> list[dict]:
        return [thing for (resource, _), thing in self.objects.items() if resource == "pods"]

    def control(self, deployment: dict) -> None:
        """The deployment controller: a replica set for each template, pods for the newest, a status."""
        template = deployment["spec"]["template"]
        sets = {name: thing for (resource, name), thing in self.objects.items() if resource == "replicasets"}
        revision = 1 + max((int(one["metadata"]["annotations"][REVISION]) for one in sets.values()), default=0)
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        owner = {"kind": "Deployment", "name": "model", "uid": deployment["metadata"]["uid"], "controller": True}
        name = f"model-{digest}"
        if name in sets and sets[name]["metadata"]["annotations"][REVISION] == str(revision - 1):
            revision -= 1  # the template is the one that it was
        noted = deployment["metadata"].setdefault("annotations", {})
        owned = copy.deepcopy(template)
        owned["metadata"]["labels"]["pod-template-hash"] = digest
        self.objects["replicasets", name] = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": deployment["metadata"].get("namespace"),
                "labels": owned["metadata"]["labels"],
                "annotations": {
                    **{key: value for key, value in noted.items() if key != LAST_APPLIED},
                    **sets.get(name, {}).get("metadata", {}).get("annotations", {}),
                    REVISION: str(revision),
                },
                "ownerReferences": [{"apiVersion": "apps/v1", **owner}],
                "uid": f"uid-{name}",
            },
            "spec": {"replicas": 1, "selector": deployment["spec"]["selector"], "template": owned},
        }
        deployment["metadata"].setdefault("annotations", {})[REVISION] = str(revision)
        image, wanted = image_of(template["spec"]), deployment["spec"].setdefault("replicas", 1)
        new: dict[tuple[str, str], dict] = {}
        stuck = False
        while len(new) < wanted and not stuck:
            key = ("pods", f"{name}-{len(new)}")
            known = self.objects.get(key)
            new[key] = known if known and running(known) else self.pod(key[1], deployment, owned)
            stuck = not running(new[key])
        for key in [key for key in self.objects if key[0] == "pods"]:
            # With maxUnavailable 0 an old pod goes once a new one is ready.
            if key not in new and (not stuck or not running(self.objects[key])):
                del self.objects[key]
        old = sum(key[0] == "pods" and key not in new for key in self.objects)
        self.objects |= new
        reason = self.stuck.get(image, "ProgressDeadlineExceeded" if stuck else "NewReplicaSetAvailable")
        told = (str(reason != "ProgressDeadlineExceeded"), reason)
        ready = sum(map(running, new.values()))
        deployment["status"] = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": old + len(new),
            "updatedReplicas": len(new),
            "readyReplicas": old + ready,
            "availableReplicas": old + ready,
            "conditions": [{"type": "Progressing", "status": told[0], "reason": told[1]}],
        }


def running(pod: dict) -> bool:
    return pod["status"]["phase"] == "Running"


def image_of(spec: dict) -> str:
    return spec["containers"][0]["image"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def log_message(self, *_) -> None:
        pass

    def reply(self, value: object, code: int = 200, kind: str = "application/json") -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do(self) -> None:
        url = urlsplit(self.path)
        asked, path = parse_qs(url.query), url.path.strip("/")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if path.startswith("pods/"):  # the port 8000 of a pod
                pod = self.cluster.objects["pods", path.split("/")[1]]
                self.reply(*reversed(self.cluster.answer(image_of(pod["spec"]), dict(self.headers), body)))
            elif path in ("api", "apis"):
                self.reply(discovery(path), kind=DISCOVERY)
            elif path.startswith("openapi/v3"):
                self.reply(openapi(path.removeprefix("openapi/v3").strip("/")))
            elif path == "version":
                major, minor = self.cluster.version.split(".")[:2]
                self.reply({"major": major, "minor": minor, "gitVersion": f"v{self.cluster.version}.0"})
            else:
                self.resource(path, asked, body)
        except No as no:
            self.reply(no.body, no.code)

    do_GET = do_POST = do_PATCH = do_DELETE = do

    def resource(self, path: str, asked: dict[str, list[str]], body: bytes) -> None:
        cluster, kind = self.cluster, self.headers.get("Content-Type", "")
        strategic, applied = "merge-patch" in kind, "apply-patch" in kind
        method = "APPLY" if applied else "UNDO" if self.command == "PATCH" and not strategic else self.command
        call = f"{method} /{path}"
        found = re.fullmatch(r"(api/v1|apis/[^/]+/[^/]+)/(?:namespaces/[^/]+/)?([a-z]+)(?:/([^/]+))?(?:/(exec))?", path)
        if not found or found[2] not in KINDS.get(found[1], {}):
            raise No(404, "NotFound", f"the server could not find the requested resource: {path}")
        group, resource, name, action = found.groups()
        with cluster.lock:
            cluster.calls.append(call)
            verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "GET": "get" if name else "list"}[
                self.command
            ]
            verb = "watch" if asked.get("watch") else verb
            scope = group.split("/")[1] if group != "api/v1" else ""
            whole = f"{resource}/{action}" if action else resource
            cluster.authorise(verb, scope, whole, name or "")
            for begin, no in cluster.refuse.items():
                if call.startswith(begin):
                    raise No(*no)
            thing = cluster.objects.get((resource, name)) if name else None
            if applied and thing is None:
                cluster.authorise("create", scope, whole, name)  # by its name, which is known here
            if name and thing is None and not applied:
                raise No(404, "NotFound", f'{resource} "{name}" not found')
        if action:
            return self.execute(thing, asked)
        with cluster.lock:
            if self.command == "GET" and asked.get("watch"):
                return self.watch(resource, asked)
            if self.command == "GET" and name:
                return self.reply(thing)
            if self.command == "GET":
                items = [one for (of, _), one in cluster.objects.items() if of == resource and chosen(one, asked)]
                version = group.removeprefix("apis/").removeprefix("api/")
                listed = {"kind": f"{KINDS[group][resource]}List", "apiVersion": version, "items": items}
                return self.reply({**listed, "metadata": {"resourceVersion": str(cluster.number)}})
            if self.command == "DELETE":
                gone = [(resource, name)]
                gone += [
                    key for key in cluster.objects if resource == "deployments" and key[0] in ("replicasets", "pods")
                ]
                for key in gone:
                    del cluster.objects[key]
                return self.reply({"kind": "Status", "apiVersion": "v1", "status": "Success"})
            given = json.loads(body)
            if applied:
                new = cluster.applied(resource, thing, given, asked)
                cluster.checked(new)
                return self.reply(cluster.store(resource, new), 200 if thing else 201)
            if self.command == "POST":
                cluster.checked(given)
                if (resource, given["metadata"]["name"]) in cluster.objects:
                    raise No(409, "AlreadyExists", f'{resource} "{given["metadata"]["name"]}" already exists')
                return self.reply(cluster.store(resource, given), 201)
            assert asked.get("dryRun") is None, "a dry run would be stored"
            new = merged(copy.deepcopy(thing), given) if strategic else changed(thing, given)
            cluster.checked({key: value for key, value in new.items() if key != "status"})
            return self.reply(cluster.store(resource, new))

    def watch(self, resource: str, asked: dict[str, list[str]]) -> None:
        """What there is, and the mark that this was all; then the end, as after a time-out: kubectl asks again."""
        found = [one for (of, _), one in self.cluster.objects.items() if of == resource and chosen(one, asked)]
        noted = {"resourceVersion": str(self.cluster.number), "annotations": {"k8s.io/initial-events-end": "true"}}
        mark = {"kind": found[0]["kind"], "apiVersion": found[0]["apiVersion"], "metadata": noted} if found else {}
        events = [("ADDED", one) for one in found] + [("BOOKMARK", mark)]
        self.reply(b"".join(json.dumps({"type": kind, "object": one}).encode() + b"\n" for kind, one in events))

    def execute(self, pod: dict, asked: dict[str, list[str]]) -> None:
        """`kubectl exec`: version 5 of the protocol over a web socket."""
        protocol = "v5.channel.k8s.io"
        assert protocol in self.headers["Sec-WebSocket-Protocol"]
        accept = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        for header, value in {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": base64.b64encode(hashlib.sha1(accept.encode()).digest()).decode(),
            "Sec-WebSocket-Protocol": protocol,
        }.items():
            self.send_header(header, value)
        self.end_headers()
        stdin = b""
        while (message := self.received()) != b"\xff\x00":  # the client has closed channel 0
            stdin += message[1:] if message[:1] == b"\x00" else b""
        port = f"{self.cluster.url}/pods/{pod['metadata']['name']}"
        program, *words = [word.replace("http://127.0.0.1:8000", port) for word in asked["command"]]
        assert program == "python"
        env = {"PREDICT_TOKEN": self.cluster.token} if self.cluster.token else {}
        done = subprocess.run([sys.executable, *words], input=stdin, env=env, capture_output=True, timeout=60)
        status: dict = {"metadata": {}, "status": "Success"}
        if done.returncode:
            causes = [{"reason": "ExitCode", "message": str(done.returncode)}]
            text = f"command terminated with non-zero exit code: {done.returncode}"
            status = {"status": "Failure", "reason": "NonZeroExitCode", "message": text, "details": {"causes": causes}}
        for channel, content in (
            (b"\x01", done.stdout),
            (b"\x02", done.stderr),
            (b"\x03", json.dumps(status).encode()),
        ):
            if content:
                self.send(2, channel + content)
        self.send(8, b"\x03\xe8")
        self.close_connection = True

    def received(self) -> bytes:
        """The next message that carries data; clients mask what they send."""
        content = b""
        while True:
            first, second = self.rfile.read(2)
            size = second & 127
            if size > 125:
                size = int.from_bytes(self.rfile.read(2 if size == 126 else 8), "big")
            mask = self.rfile.read(4)
            part = bytes(byte ^ mask[place % 4] for place, byte in enumerate(self.rfile.read(size)))
            if first & 15 in (0, 1, 2):
                content += part
                if first & 128:
                    return content

    def send(self, kind: int, content: bytes) -> None:
        size = len(content)
        head = bytes([128 | kind, size]) if size < 126 else bytes([128 | kind, 126]) + size.to_bytes(2, "big")
        self.wfile.write(head + content)


def chosen(thing: dict, asked: dict[str, list[str]]) -> bool:
    labels = thing["metadata"].get("labels") or {}
    for text in filter(None, asked.get("labelSelector", [""])[0].split(",")):
        key, value = text.replace("==", "=").split("=")
        if labels.get(key) != value:
            return False
    return asked.get("fieldSelector", [f"metadata.name={thing['metadata']['name']}"])[0] == (
        f"metadata.name={thing['metadata']['name']}"
    )


def discovery(root: str) -> dict:
    """What the server serves, as kubectl asks first."""
    items = []
    for path, resources in KINDS.items():
        if path.partition("/")[0] != root:
            continue
        group, version = path.split("/")[1:] if root == "apis" else ("", "v1")
        found = [
            {
                "resource": resource,
                "responseKind": {"group": group, "version": version, "kind": kind},
                "scope": "Cluster" if resource == "namespaces" else "Namespaced",
                "singularResource": kind.lower(),
                "verbs": ["create", "delete", "get", "list", "patch", "watch"],
            }
            for resource, kind in resources.items()
        ]
        versions = [{"version": version, "resources": found, "freshness": "Current"}]
        items.append({"metadata": {"name": group}, "versions": versions})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def openapi(path: str) -> dict:
    """Just enough for kubectl to see that the server itself refuses unknown fields."""
    if not path:
        return {"paths": {group: {"serverRelativeURL": f"/openapi/v3/{group}?hash=1"} for group in KINDS}}
    group, version = ("", "v1") if path == "api/v1" else path.split("/")[1:]
    paths = {
        f"/{path}/namespaces/{{namespace}}/{resource}/{{name}}": {
            "patch": {
                "parameters": [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}],
                "responses": {},
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
            }
        }
        for resource, kind in KINDS[path].items()
    }
    return {"openapi": "3.0.0", "info": {"title": "stand-in", "version": "1"}, "paths": paths}
