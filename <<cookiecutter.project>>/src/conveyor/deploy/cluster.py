"""A Kubernetes cluster, through kubectl: what serves, and a roll-out that ends with the new model or with the old one.

An environment is a folder of ``container/kubernetes/overlays``. The namespace in its kustomization is also the name of
kubectl's context, so that no other cluster is ever changed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from conveyor.core.errors import Misuse, Refused
from conveyor.core.files import write_text
from conveyor.deploy.kubectl import SECONDS, Failed, Kubectl, asked
from conveyor.deploy.pull_secret import PullSecret, beside, forgotten, provided
from conveyor.model.bundle import Bundle

if TYPE_CHECKING:
    from conveyor.core.project import Project

NAME = "model"  # of the deployment, of its container, and of the image in the manifests
RECORDED = ("key", "digest", "commit")  # of an image: annotations of its replicas
SERVED = "model-served"  # annotates the replica set of an image that gave its golden answers, with that image
REVISION = "deployment.kubernetes.io/revision"
SECONDS_TO_SETTLE = 1800  # for all replicas; a stuck one ends at the deployment's progressDeadlineSeconds

# Runs in a new replica, over its own loopback: no network policy blocks it, and the token is in the replica.
ASK = """
import os, sys, urllib.error, urllib.request
request = urllib.request.Request("http://127.0.0.1:8000/predict", sys.stdin.buffer.read())
request.add_header("Content-Type", "application/json")
if token := os.environ.get("PREDICT_TOKEN", "").partition(",")[0]:
    request.add_header("Authorization", f"Bearer {token}")
try:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    sys.stdout.buffer.write(direct.open(request, timeout=30).read())
except urllib.error.HTTPError as error:
    sys.exit(f"/predict said {error.code}: {' '.join(error.read(300).decode(errors='replace').split())}")
except OSError as error:
    sys.exit(f"/predict: {error}")
"""


def serving(project: Project, environment: str) -> dict[str, Any] | None:
    """What the deployment of an environment runs; None if there is no deployment.

    Returns:
        ``image``, as in the deployment, and ``key``, ``digest`` and ``commit`` as the roll-out recorded them; these are
        None if ``roll_out`` did not make the deployment.

    Raises:
        Misuse: kubectl is missing, has no context of that name, or may not read from the cluster.
    """
    deployment = _deployment(Kubectl(project, environment))
    return _runs(deployment) if deployment else None


def commit(project: Project, environment: str) -> str | None:
    """The commit of the code that serves here; None if nothing does, or if no cluster is configured."""
    runs = serving(project, environment) if Kubectl(project, environment).named else None
    return runs["commit"] if runs else None


def deployed(project: Project, environment: str) -> bool:
    """Whether this environment has a deployment; False if the cluster cannot be reached from this machine.

    Raises:
        Misuse: it can be reached, and does not answer.
    """
    try:
        kubectl = Kubectl(project, environment)
        named = kubectl.named
    except (Misuse, Failed):
        return False  # no such environment, no kubectl, or no configuration: the cluster cannot be reached from here
    return named and _deployment(kubectl) is not None


def died(project: Project, environment: str) -> list[str]:
    """A line for each replica that died and was started again; empty if no cluster can be reached."""
    try:
        kubectl = Kubectl(project, environment)
        if not kubectl.named:
            return []
        pods = json.loads(kubectl("get", "pods", f"--selector=app.kubernetes.io/name={NAME}", "--output=json"))["items"]
    except (Misuse, Failed):
        return []
    lines = []
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses", []):
            if again := status.get("restartCount", 0):
                ended = status.get("lastState", {}).get("terminated", {})
                how = "".join(f" {ended[part]}" for part in ("reason", "exitCode") if part in ended)
                lines.append(f"{pod['metadata']['name']} has died{', last' if how else ''}{how}; started {again} times")
    return lines


def take_down(project: Project, environment: str) -> str:
    """Delete the deployment of an environment and its pull secret; service, autoscaler and namespace stay.

    Raises:
        Misuse: the cluster cannot be reached.
    """
    kubectl = Kubectl(project, environment)
    gone = asked(kubectl, "delete", f"deployment/{NAME}", "--ignore-not-found").strip()
    return (gone or f"{environment}: nothing was deployed") + forgotten(kubectl)


def kept(project: Project, environment: str, key: str, digest: str) -> str | None:
    """The image in which a model served here last, if the deployment's history still has it.

    Raises:
        Misuse: see ``serving``.
    """
    kubectl = Kubectl(project, environment)
    text = asked(kubectl, "get", "replicasets", f"--selector=app.kubernetes.io/name={NAME}", "--output=json")
    found = {}
    for one in json.loads(text)["items"]:
        noted, runs = one["metadata"].get("annotations") or {}, _runs(one)
        # A replica set inherits the annotations of the one before it: only one that names its own image has served.
        if (runs["key"], runs["digest"]) == (key, digest) and noted.get(SERVED) == runs["image"]:
            found[int(noted[REVISION])] = runs["image"]
    return found[max(found)] if found else None


def _deployment(kubectl: Kubectl) -> dict[str, Any] | None:
    text = asked(kubectl, "get", f"deployment/{NAME}", "--ignore-not-found", "--output=json")
    return json.loads(text) if text.strip() else None


def _runs(owner: dict[str, Any]) -> dict[str, Any]:
    """What a deployment or a replica set runs; see ``serving``."""
    template = owner["spec"]["template"]
    noted = template["metadata"].get("annotations") or {}
    images = {container["name"]: container["image"] for container in template["spec"]["containers"]}
    return {"image": images.get(NAME), **{name: noted.get(f"model-{name}") for name in RECORDED}}


def kustomization(base: str, image: dict[str, Any], pulls: list[str]) -> str:
    """The kustomization that sets the image over an overlay.

    Args:
        base: the folder of the overlay, relative to that of the kustomization.
        image: see ``roll_out``.
        pulls: the names of the replicas' `imagePullSecrets`; empty: those of the overlay.

    Raises:
        Misuse: the image is in no registry, or has only a tag, which can move.
    """
    reference = image["reference"]
    if not (named := re.fullmatch(r"((?:[^@\s]*/)?[^@:/\s]+)@(sha256:[0-9a-f]{64})", reference)):
        mend = "run `make image PUSH=1` with REGISTRY set"
        raise Misuse(f"{reference}: a cluster takes an image of a registry by its digest; {mend}")
    noted = {f"model-{name}": str(image[name]) for name in RECORDED}
    template: dict[str, Any] = {"metadata": {"annotations": noted}}
    if pulls:
        template["spec"] = {"imagePullSecrets": [{"name": name} for name in pulls]}
    patch = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME},
        "spec": {"template": template},
    }
    whole = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [base],
        "images": [{"name": NAME, "newName": named[1], "digest": named[2]}],
        "patches": [{"target": {"kind": "Deployment", "name": NAME}, "patch": yaml.safe_dump(patch)}],
    }
    text: str = yaml.safe_dump(whole, sort_keys=False)
    return text


def roll_out(
    project: Project, environment: str, image: dict[str, Any], bundle: Bundle, say: Callable[[str], None]
) -> str:
    """Make an image serve, or keep what serves; returns a line that says what was done.

    A roll-out is undone if it fails, does not settle, or its replicas do not give the model's golden answers. The
    deployment then goes back to its former state, and is deleted if there was none.

    Args:
        project: the repository; its files are read, and ``build/kubernetes`` is written.
        environment: a folder of container/kubernetes/overlays.
        image: ``reference`` (registry/repository@sha256:...), and ``key``, ``digest`` and ``commit`` of its content.
        bundle: of the model; a replica's golden answers may differ from its own by ``model.tolerance``.
        say: takes a line of progress.

    Raises:
        Misuse: the image has no digest, the manifests do not render, the cluster cannot be reached, or REGISTRY_TOKEN
            has no user; nothing was changed.
        Refused: it was undone, or could not be; the line gives the cause, and says what serves.
    """
    kubectl = Kubectl(project, environment)
    if project.environment.run_url and not kubectl.named:
        # No error: a repository may be pushed before its cluster exists.
        return f"not deployed: KUBECONFIG_DATA names no cluster for {environment}; {image['reference']} serves nowhere"
    folder = project.build / "kubernetes" / environment
    manifests = _prepared(kubectl, folder, image)
    before = _deployment(kubectl)
    pull = provided(kubectl, project.environment, environment, image["reference"], say)
    if pull.used:
        _write(kubectl, folder, image, beside(kubectl, NAME, manifests))
    try:
        say(f"deploy    {image['reference']} to {kubectl.namespace}")
        kubectl("apply", f"--kustomize={folder}")
        _settle(kubectl)
        _ask(kubectl, image, bundle.golden, project.params.model.tolerance)
    except Failed as error:
        say(f"deploy    failed, going back: {error}")
        why = f"{error}{_stuck(kubectl, image, pull)}"
        raise Refused(f"{environment}: {why}; {_back(kubectl, before)}") from None
    _note(kubectl, image, say)
    return f"{environment} serves model {image['key'][:12]}, and its golden answers are the model's own"


def _prepared(kubectl: Kubectl, folder: Path, image: dict[str, Any]) -> list[dict[str, Any]]:
    """The manifests that the folder renders to, in which the image is set."""
    _write(kubectl, folder, image, [])
    try:
        rendered = kubectl("kustomize", str(folder))
    except Failed as error:
        raise Misuse(f"{kubectl.overlay.relative_to(kubectl.root)}: {error}; mend it and run again") from None
    manifests: list[dict[str, Any]] = list(yaml.safe_load_all(rendered))
    ours = [_runs(one)["image"] for one in manifests if (one["kind"], one["metadata"]["name"]) == ("Deployment", NAME)]
    if ours != [image["reference"]]:
        mend = f"call deployment, container and image {NAME!r} again"
        raise Misuse(f"{kubectl.overlay.relative_to(kubectl.root)}: the roll-out sets no image; {mend}")
    return manifests


def _write(kubectl: Kubectl, folder: Path, image: dict[str, Any], pulls: list[str]) -> None:
    """Write the kustomization that is applied; the user's overlay is read in its place, and never edited."""
    base = os.path.relpath(kubectl.overlay.resolve(), folder.resolve()).replace(os.sep, "/")
    write_text(folder / "kustomization.yaml", kustomization(base, image, pulls))


def _settle(kubectl: Kubectl) -> None:
    """Wait until every replica is new and ready, and no old one is left."""
    wait = f"--timeout={SECONDS_TO_SETTLE}s"
    kubectl("rollout", "status", f"deployment/{NAME}", wait, seconds=SECONDS_TO_SETTLE + SECONDS)


def _pods(kubectl: Kubectl, image: dict[str, Any]) -> list[dict[str, Any]]:
    """The replicas that run an image and are not terminating."""
    text = kubectl("get", "pods", f"--selector=app.kubernetes.io/name={NAME}", "--output=json")
    return [
        pod
        for pod in json.loads(text)["items"]
        if "deletionTimestamp" not in pod["metadata"]
        and image["reference"] in (container["image"] for container in pod["spec"]["containers"])
    ]


def _ask(kubectl: Kubectl, image: dict[str, Any], golden: dict[str, Any], tolerance: float) -> None:
    """Let a new replica answer the golden rows.

    Raises:
        Failed: there is no such replica, it does not answer, or its answers differ from the model's.
    """
    pods = [pod["metadata"]["name"] for pod in _pods(kubectl, image)]
    if not pods:
        raise Failed("no replica runs this image")
    rows = json.dumps({"rows": golden["rows"]}, allow_nan=False).encode()
    given = kubectl("exec", "--stdin", pods[0], f"--container={NAME}", "--", "python", "-c", ASK, stdin=rows)
    wanted = np.asarray(golden["answers"], dtype=np.float64)
    try:
        answer = json.loads(given)
        model, said = answer["model"], np.asarray(answer["predictions"], dtype=np.float64)
    except (ValueError, TypeError, KeyError):
        raise Failed(f"the answer to the golden rows holds no predictions: {given[:100]!r}") from None
    if model != image["key"]:
        raise Failed(f"the image says that it is model {str(model)[:12]}, not {image['key'][:12]}")
    if said.shape != wanted.shape:
        raise Failed(f"the golden rows get predictions of shape {said.shape}, not {wanted.shape}")
    if not (np.abs(said - wanted) <= tolerance).all():  # also true for NaN
        far = np.abs(said - wanted).max()
        raise Failed(f"a golden answer is {far:.3g} from the model's own; {tolerance:g} is tolerated")


def _note(kubectl: Kubectl, image: dict[str, Any], say: Callable[[str], None]) -> None:
    """Mark the replica set of an image that has been seen to serve, so that a roll-back finds it."""
    try:
        version = _pods(kubectl, image)[0]["metadata"]["labels"]["pod-template-hash"]
        mark = ["annotate", "replicasets", f"--selector=pod-template-hash={version}", "--overwrite"]
        kubectl(*mark, f"{SERVED}={image['reference']}")
    except (Failed, IndexError) as error:
        say(f"deploy    serves, but could not be marked: {error}; a roll-back to it will build its image anew")


def _stuck(kubectl: Kubectl, image: dict[str, Any], pull: PullSecret) -> str:
    """Why a new replica does not run, in brackets, if the cluster gives a reason.

    If it cannot pull its image, the mend follows, and the pull secret is put back: the old replicas may need it.
    """
    try:
        pods = _pods(kubectl, image)
    except Failed:
        return ""  # the first failure, which is reported anyway, is more useful
    for status in (status for pod in pods for status in pod.get("status", {}).get("containerStatuses", [])):
        for state in (status.get("state", {}).get("waiting"), status.get("lastState", {}).get("terminated")):
            if state:
                told = ": ".join(" ".join(str(state[p]).split()) for p in ("reason", "message") if state.get(p))
                told = told if len(told) <= 400 else f"{told[:150]} ... {told[-250:]}"  # the cause is the end
                mend = f"; {pull.mend}{pull.put_back()}" if "ImagePull" in state.get("reason", "") else ""
                return f" ({told}){mend}"
    return ""


def _back(kubectl: Kubectl, before: dict[str, Any] | None) -> str:
    """Bring back what ran before, and say what serves now.

    If that fails, too, the line says so: old replicas are stopped only after new ones are ready, so the ready ones
    keep serving.
    """
    try:
        if before is None:
            kubectl("delete", f"deployment/{NAME}", "--ignore-not-found")
            return "undone: nothing served before, and nothing does now"
        # By its number: if nothing was applied, the revision before the last one did not serve.
        revision = before["metadata"]["annotations"][REVISION]
        kubectl("rollout", "undo", f"deployment/{NAME}", f"--to-revision={revision}")
        _settle(kubectl)
    except Failed as error:
        look = f"`{' '.join(kubectl.words)} describe deployment {NAME}`"
        return f"going back failed, too: {error}; the replicas that were ready keep serving; look with {look}"
    return f"undone: {_runs(before)['image']} serves as before"
