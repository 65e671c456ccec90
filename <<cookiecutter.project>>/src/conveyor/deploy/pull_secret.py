"""The secret with which a cluster pulls a private image. Each roll-out makes it of REGISTRY_TOKEN, or renews it.

It is applied on the server's side, from standard input. Applied on kubectl's side it would be kept a second time, with
its token, in an annotation; and a `create` cannot be limited to one name, while this way the server knows the name.

A workflow's own token is not used. It ends with its job, and a kubelet with a credential for a registry never pulls
without one: replicas that start later could not pull even a public image.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conveyor.core.environment import Environment
from conveyor.core.errors import Misuse
from conveyor.deploy.kubectl import Failed, Kubectl, asked

NAME = "model-pull"  # the deployer has rights to this one only
KEY = ".dockerconfigjson"
OWNER = ("app.kubernetes.io/managed-by", "conveyor")
DOCKER_HUB = "https://index.docker.io/v1/"  # as docker.io is called in such a secret
DEPLOYER = "container/kubernetes/deployer.yaml"


@dataclass
class PullSecret:
    """The secret of one roll-out.

    Attributes:
        kubectl: of its cluster.
        used: whether the replicas are to name it.
        mend: what helps if they cannot pull their image.
        written: whether this roll-out wrote it.
        before: its content before, as the cluster keeps it; None: there was no secret.
    """

    kubectl: Kubectl
    used: bool
    mend: str
    written: bool = False
    before: str | None = None

    def put_back(self) -> str:
        """Undo what was written, because nothing can be pulled with it; returns why it could not be, after a comma."""
        if not self.written:
            return ""
        try:
            if self.before is None:
                _delete(self.kubectl)
            else:
                _write(self.kubectl, self.before, renew=True)
        except Failed as error:
            return f", and secret {NAME} could not be put back: {error}"
        return ""


def provided(
    kubectl: Kubectl, given: Environment, environment: str, reference: str, say: Callable[[str], None]
) -> PullSecret:
    """The secret for the image ``reference``, written if there is a token that lasts.

    Without such a token a secret of an earlier roll-out stays in use. A secret of somebody else is left alone.

    Raises:
        Misuse: the token has no user, or the cluster does not answer.
    """
    repository, token = reference.partition("@")[0], given.lasting_token
    mend = f"a private image needs a lasting REGISTRY_TOKEN in {environment} that may read {repository}"
    found = None
    try:
        found = _found(kubectl)
        if found and not _ours(found):
            left = f"secret {NAME} is not the roll-out's ({'='.join(OWNER)} is missing) and stays; give it another name"
            if token:
                say(f"deploy    {left}")
            return PullSecret(kubectl, False, left)
        if not token and found:
            left = f"secret {NAME} of an earlier roll-out is in use; delete it if the image is public"
            return PullSecret(kubectl, True, f"{left}; {mend}")
        if not token:
            if given.registry_token:
                say(f"deploy    no secret {NAME}: the job's own token would end with the job; {mend}")
            return PullSecret(kubectl, False, mend)
        if not given.registry_user:
            raise Misuse("REGISTRY_TOKEN: has no user; set REGISTRY_USER")
        whose = f"REGISTRY_TOKEN in {environment} is of REGISTRY_USER {given.registry_user}"
        content = _content(registry(repository), given.registry_user, token)
        made = PullSecret(kubectl, True, f"check that {whose} and may read {repository}")
        made.before = (found or {}).get("data", {}).get(KEY)
        if content != made.before:
            _write(kubectl, content, renew=bool(found))
            made.written = True
            say(f"deploy    secret {NAME} {'renewed' if found else 'made'}: the cluster pulls with REGISTRY_TOKEN")
        return made
    except Failed as error:
        if not _lacks_a_right(error):
            raise Misuse(f"kubectl: {error}; mend the access to the cluster and run again") from None
        if token:
            command = f"kubectl --namespace={kubectl.namespace} apply --filename={DEPLOYER}"
            mend = f"an administrator grants it by `{command}`"
            say(f"deploy    secret {NAME} is not {'renewed' if found else 'made'}: {error}; {mend}")
        return PullSecret(kubectl, bool(found), mend)


def beside(kubectl: Kubectl, deployment: str, manifests: list[dict[str, Any]]) -> list[str]:
    """The names of all secrets with which the replicas pull: the team's, and this one.

    A pod that names any gets none of its service account's, so these are repeated.
    """
    named = {(one["kind"], one["metadata"]["name"]): one for one in manifests}
    pod = named["Deployment", deployment]["spec"]["template"]["spec"]
    account = pod.get("serviceAccountName", "default")
    others = pod.get("imagePullSecrets") or named.get(("ServiceAccount", account), {}).get("imagePullSecrets")
    if others is None:  # in the cluster somebody may have added them by hand
        text = asked(kubectl, "get", f"serviceaccount/{account}", "--ignore-not-found", "--output=json")
        others = json.loads(text or "{}").get("imagePullSecrets")
    return [*(one["name"] for one in others or [] if one["name"] != NAME), NAME]


def forgotten(kubectl: Kubectl) -> str:
    """Delete the secret where nothing pulls with it any more; returns why it could not be, after a semicolon."""
    try:
        if (found := _found(kubectl)) and _ours(found):
            _delete(kubectl)
    except Failed as error:
        return "" if _lacks_a_right(error) else f"; secret {NAME} could not be deleted: {error}"
    return ""


def registry(repository: str) -> str:
    """The name of a repository's registry in such a secret."""
    host, slash, _ = repository.partition("/")
    if not slash or not re.search(r"[.:]|^localhost$", host) or host in ("docker.io", "index.docker.io"):
        return DOCKER_HUB
    return host


def credentials(host: str, user: str, token: str) -> dict[str, Any]:
    """Docker's configuration with the credentials of one registry."""
    return {"auths": {host: {"auth": base64.b64encode(f"{user}:{token}".encode()).decode()}}}


def _content(host: str, user: str, token: str) -> str:
    """The secret's data, as the cluster keeps it."""
    return base64.b64encode(json.dumps(credentials(host, user, token)).encode()).decode()


def _found(kubectl: Kubectl) -> dict[str, Any] | None:
    text = kubectl("get", f"secret/{NAME}", "--ignore-not-found", "--output=json")
    return json.loads(text) if text.strip() else None


def _ours(secret: dict[str, Any]) -> bool:
    label, value = OWNER
    return (secret["metadata"].get("labels") or {}).get(label) == value


def _write(kubectl: Kubectl, content: str, renew: bool) -> None:
    """Apply the secret; a new one is refused if somebody else was faster."""
    labels = {"app.kubernetes.io/name": "model", OWNER[0]: OWNER[1]}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": NAME, "labels": labels},
        "data": {KEY: content},
    }
    force = ["--force-conflicts"] if renew else []
    words = ["apply", "--server-side", "--field-manager=conveyor", *force, "--filename=-"]
    kubectl(*words, stdin=json.dumps(secret).encode(), hidden=[content])


def _delete(kubectl: Kubectl) -> None:
    kubectl("delete", f"secret/{NAME}", "--ignore-not-found", "--wait=false")


def _lacks_a_right(error: Failed) -> bool:
    """Whether the deployer's role does not allow it; a quota, for example, forbids in other words."""
    return bool(re.search(r"cannot \w+ resource", str(error)))
