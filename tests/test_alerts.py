"""Risk: an alert that should wake somebody never fires, or fires always, because no metric is called what it asks for.

Prometheus itself judges: its unit tests of the rules, and a real one that reads a real server and a real edge.
"""

import json
import re
import subprocess
import urllib.parse
import urllib.request
from contextlib import contextmanager

import pytest
import yaml
from conftest import OPTIONS, TEMPLATE, bootstrap, environment
from edge import edge
from engine import free_port, until, which
from serving import JSON, Server, serving, settings

from conveyor.core.params import load
from conveyor.core.project import Project
from conveyor.deploy import traffic
from conveyor.deploy.host import Host

FOLDER = TEMPLATE / "container" / "monitoring"
GROUPS = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
TESTS = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}
SHOWN = {f"{title}-{each['refId']}": each["expr"] for title, panel in PANELS.items() for each in panel["targets"]}
ASKED = {name: rule["expr"] for name, rule in ALERTS.items()} | SHOWN
SELECTOR = re.compile(r"(\w+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
WORDS = {
    *("sum", "count", "by", "rate", "increase", "changes", "max_over_time", "histogram_quantile", "vector"),
    *("unless", "or", "on", "group_left", "offset"),
}


def expressions() -> list:
    return [pytest.param(expression, id=name) for name, expression in ASKED.items()]


@pytest.fixture(scope="module")
def promtool():
    """promtool(words, folder) -> what it did."""
    program = which("promtool")
    if program is None:
        pytest.skip("prometheus is not installed; .ci/run does it")

    def promtool(*words, folder=FOLDER):
        return subprocess.run([program, *words], cwd=folder, capture_output=True, text=True, timeout=300)

    return promtool


# --- The rules by themselves ------------------------------------------------------------------------------------------


def test_the_rules_and_their_tests_are_what_prometheus_takes(promtool):
    for words in (("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")):
        done = promtool(*words)
        assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr


@pytest.fixture
def judged(promtool, tmp_path):
    """judged(name, rule) -> whether this rule alone passes the tests of that alert."""

    def judged(name: str, rule: dict) -> bool:
        kept = [
            each | {"alert_rule_test": [test for test in each["alert_rule_test"] if test["alertname"] == name]}
            for each in TESTS
        ]
        (tmp_path / "alerts.yaml").write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [rule]}]}))
        tests = {"rule_files": ["alerts.yaml"], "tests": [each for each in kept if each["alert_rule_test"]]}
        (tmp_path / "alerts_test.yaml").write_text(yaml.safe_dump(tests))
        done = promtool("test", "rules", "alerts_test.yaml", folder=tmp_path)
        said = done.stdout + done.stderr
        assert (done.returncode == 0) != (f"alertname: {name}, time:" in said), said
        return done.returncode == 0

    return judged


def changed(rule: dict) -> dict[str, dict]:
    """Rules that differ from one in a single place, each by what is different."""
    expression, limit = rule["expr"], re.compile(r"(==|[<>]=?) ([\d.]+)")
    made = {"never": "vector(0) > 1", "always": "vector(1)"}
    for selector in SELECTOR.finditer(expression):
        for each in MATCHER.finditer(selector[2]):
            start, end = selector.start(2) + each.start(), selector.start(2) + each.end()
            left = expression[:start].rstrip(", ") + expression[end:]
            made[f"without {each[0]} at {start}"] = re.sub(r"\{, ", "{", left)
    for found in limit.finditer(expression):
        if float(found[2]):
            for factor in (0.5, 2):
                new = f"{found[1]} {float(found[2]) * factor:g}"
                made[f"{found[0]} at {found.start()} as {new}"] = (
                    expression[: found.start()] + new + expression[found.end() :]
                )
    return {what: rule | {"expr": new} for what, new in made.items()} | (
        {"at once": {key: value for key, value in rule.items() if key != "for"}} if "for" in rule else {}
    )


@pytest.mark.parametrize("name", ALERTS)
def test_its_tests_notice_each_change_of_an_alert(judged, name):
    assert judged(name, ALERTS[name])
    wrong = changed(ALERTS[name])
    assert len(wrong) >= 3
    assert [what for what, rule in wrong.items() if judged(name, rule)] == []


def test_each_alert_is_seen_to_fire_and_to_be_silent_and_says_so_in_one_line():
    for name, rule in ALERTS.items():
        seen = [
            test.get("exp_alerts", [])
            for each in TESTS
            for test in each["alert_rule_test"]
            if test["alertname"] == name
        ]
        assert [] in seen and any(seen), name
        assert rule["labels"]["severity"] in ("critical", "warning") and set(rule["annotations"]) == {"summary"}
        assert "\n" not in rule["annotations"]["summary"]


def test_the_limits_are_those_that_a_rollout_keeps(project):
    deploy = load(project.path / "params.yaml").deploy
    for name, limit in {
        "PredictionsFail": f"> {deploy.max_error_rate:g}",
        "EdgeFails": f"> {deploy.max_error_rate:g}",
        "PredictionsSlow": f"> {deploy.max_seconds:g}",
        "ReplicasMissing": f"< {deploy.replicas}",
    }.items():
        assert ALERTS[name]["expr"].rstrip().endswith(limit), name
    callers = f'"{"|".join(traffic.OF_CALLERS)}"'
    assert f"status!~{callers}" in ALERTS["PredictionsFail"]["expr"]
    assert f"status=~{callers}" in ALERTS["PredictionsRefused"]["expr"]
    slow = ALERTS["PredictionsSlow"]["expr"]
    assert f"{traffic.REPLICA}_bucket" in slow and f"histogram_quantile({1 - traffic.SLOW:g}, " in slow
    assert f'{traffic.EDGE}_count{{job="edge", handler="{traffic.HELD}"' in ALERTS["EdgeFails"]["expr"]


# --- A real Prometheus ------------------------------------------------------------------------------------------------


class Prometheus:
    """A real one, which reads real replicas and a real edge."""

    def __init__(self, port: int) -> None:
        self._api = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, page: str, **given: str) -> dict:
        query = urllib.parse.urlencode(given)
        with urllib.request.urlopen(f"{self._api}/{page}?{query}", timeout=30) as answer:
            return json.loads(answer.read())["data"]

    def value(self, expression: str) -> list[dict]:
        return self.ask("query", query=expression)["result"]


@contextmanager
def prometheus_with(config: dict, folder):
    """A Prometheus with this configuration, which answers; it ends with the block."""
    program, port = which("prometheus"), free_port()
    if program is None:
        pytest.skip("prometheus is not installed; .ci/run does it")
    often = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump({"global": often} | config))
    words = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}"]
    with (
        open(folder / "log.txt", "w", encoding="utf-8") as log,
        subprocess.Popen([program, *words], cwd=folder, env=environment(), stdout=log, stderr=log) as process,
    ):
        try:
            found = Prometheus(port)

            def reads():
                assert process.poll() is None, (folder / "log.txt").read_text()
                try:
                    return found.ask("targets")["activeTargets"]
                except OSError:
                    return False

            until(reads, 60, "Prometheus does not answer")
            yield found
        finally:
            process.kill()


@pytest.fixture(scope="module")
def prometheus(bake, shared, tmp_path_factory):
    """It sees a replica and an edge that are asked for predictions, good ones and bad ones."""
    project, folder = bootstrap(bake(), shared), tmp_path_factory.mktemp("prometheus")
    bundle = project.path / "build" / "candidate"
    caddyfile = (project.path / "container" / "Caddyfile").read_text()
    log = folder / "log"
    log.mkdir()
    with (
        serving(project, settings(project, bundle), bundle, PREDICTION_LOG=str(log)) as server,
        edge(caddyfile, [server.port], folder) as front,
    ):
        caller = Server(front.process, front.port, server.golden)

        def ask():
            for row in (server.row(), server.row(carrier="unseen", distance=1e9, temp=None), {}):
                status, _ = caller.ask("POST", "/predict", {"rows": [row]}, JSON)
                assert status == (200 if row else 422)
            server.ask("GET", "/readyz")

        ask()  # before the first reading: a counter that begins at one would not be seen to rise
        jobs = [
            {
                "job_name": job,
                "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": {"environment": "production"}}],
            }
            for job, port in {"model": server.port, "edge": front.inside}.items()
        ]
        config = {"rule_files": [str(FOLDER / "alerts.yaml")], "scrape_configs": jobs}
        with prometheus_with(config, folder) as found:
            until(lambda: len(found.value("count_over_time(up[1m]) > 3")) == 2, 60, "Prometheus has read nothing")
            ask()
            until(lambda: float(found.value('sum(rows_total{job="model"})')[0]["value"][1]) == 4, 20, "not read again")
            yield found
        caller.connection.close()


@pytest.mark.parametrize("expression", expressions())
def test_every_selector_finds_what_a_replica_or_the_edge_tells(prometheus, expression):
    """Whatever its status: nothing has failed here."""
    expression = expression.replace("$environment", ".*")
    found = SELECTOR.findall(expression)
    assert found and len(found) == expression.count("{")
    labels = {"environment", "instance"}
    for metric, text in found:
        matchers = MATCHER.findall(text)
        assert [name for name, *_ in matchers][0] == "job" and ", ".join(f'{a}{b}"{c}"' for a, b, c in matchers) == text
        kept = ", ".join(f'{name}{how}"{value}"' for name, how, value in matchers if name not in ("status", "code"))
        series = prometheus.value(f"{metric}{{{kept}}}")
        assert series, f"no {metric}{{{kept}}}"
        told = {name for each in series for name in each["metric"]}
        assert {name for name, *_ in matchers} <= told, metric
        labels |= told
    rest = re.sub(r"\[[^\]]*\]|offset \w+", "", re.sub(r'"[^"]*"', "", SELECTOR.sub("", expression)))
    assert set(re.findall(r"[a-z_]+", rest)) <= WORDS | labels | {"class"}


def test_prometheus_evaluates_every_alert_and_a_sound_service_raises_none_at_once(prometheus):
    def evaluated():
        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        assert not [rule["lastError"] for rule in rules if rule.get("lastError")]
        return {rule["name"] for rule in rules if rule["health"] == "ok"} == ALERTS.keys()

    until(evaluated, 20, "not every alert was evaluated")
    # One replica, and a third of the requests and half of the rows are unlike training: these wait for their time.
    wanted = {"ReplicasMissing", "PredictionsRefused", "UnseenCategories", "OutOfRange"}

    def waiting():
        return {each["metric"]["alertname"] for each in prometheus.value('ALERTS{alertstate="pending"}')} == wanted

    until(waiting, 20, "other alerts wait than those whose cause is here")
    assert prometheus.value('ALERTS{alertstate="firing"}') == []


@pytest.mark.parametrize("name", SHOWN)
def test_every_panel_shows_something(prometheus, name):
    assert prometheus.value(SHOWN[name].replace("$environment", ".*")), SHOWN[name]


# --- The dashboard and the page ---------------------------------------------------------------------------------------


def test_panels_have_a_place_of_their_own_and_the_chosen_source():
    source = {"type": "prometheus", "uid": "${datasource}"}
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        assert panel["datasource"] == source and panel["targets"]
        assert all('environment=~"$environment"' in each["expr"] for each in panel["targets"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"]) == len(PANELS)
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["datasource", "environment"]


# What a Docker engine and a cluster say of targets, and the label `environment` of those that are to be read.
CONTAINER = "__meta_docker_network_name"
NAMESPACE, APP = "__meta_kubernetes_namespace", "__meta_kubernetes_pod_label_app_kubernetes_io_name"
TARGETS = {
    "docker_sd_configs": [
        ({CONTAINER: "night-trains-production"}, "production"),
        ({CONTAINER: "night-trains-staging-open"}, "staging"),
        ({CONTAINER: "bridge"}, None),
        ({CONTAINER: "late-night-trains-production"}, None),
    ],
    "kubernetes_sd_configs": [
        ({NAMESPACE: "night-trains-production", APP: "model"}, "production"),
        ({NAMESPACE: "night-trains-staging", APP: "model"}, "staging"),
        ({NAMESPACE: "night-trains-staging", APP: "another"}, None),
        ({NAMESPACE: "night-trains-staging"}, None),
        ({NAMESPACE: "other-production", APP: "model"}, None),
    ],
}


@pytest.fixture(scope="module")
def night_trains(bake):
    return bake(project="Night-Trains")


@pytest.fixture(scope="module")
def configured(night_trains):
    """How the page configures Prometheus: for a Docker host, and in a cluster."""
    page = (night_trains.path / "docs" / "prometheus.md").read_text()
    docker, cluster = (yaml.safe_load(text) for text in re.findall(r"(?ms)^```yaml\n(.*?)^```$", page))
    return {"docker_sd_configs": docker, "kubernetes_sd_configs": cluster}


def test_the_page_configures_prometheus_for_a_docker_host(configured, promtool, tmp_path):
    """Debian's Prometheus knows no clusters."""
    config = configured["docker_sd_configs"]
    (tmp_path / "alerts.yaml").write_bytes((FOLDER / "alerts.yaml").read_bytes())
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    done = promtool("check", "config", "prometheus.yml", folder=tmp_path)
    assert done.returncode == 0 and f"{len(ALERTS)} rules found" in done.stdout, done.stdout + done.stderr
    model, front = config["scrape_configs"]
    (found,) = model["docker_sd_configs"]
    assert found["filters"] == [{"name": "label", "values": ["night_trains.role=replica"]}]
    assert front == {
        "job_name": "edge",
        "static_configs": [{"targets": ["night-trains-production-edge:2020"], "labels": {"environment": "production"}}],
    }


@pytest.mark.parametrize("kind", TARGETS)
def test_of_all_targets_those_of_the_model_are_read_each_in_its_environment(configured, tmp_path, kind):
    (job,) = [each for each in configured[kind]["scrape_configs"] if each["job_name"] == "model"]
    assert job.pop(kind)
    static = [{"targets": [f"127.0.0.1:{9 + at}"], "labels": said} for at, (said, _) in enumerate(TARGETS[kind])]
    with prometheus_with({"scrape_configs": [job | {"static_configs": static}]}, tmp_path) as found:
        read = {each["labels"]["instance"]: each["labels"] for each in found.ask("targets")["activeTargets"]}
    wanted = {f"127.0.0.1:{9 + at}": name for at, (_, name) in enumerate(TARGETS[kind]) if name}
    assert {at: labels["environment"] for at, labels in read.items()} == wanted
    assert {labels["job"] for labels in read.values()} == {"model"}


@pytest.mark.parametrize(("name", "log"), [(None, None), ("ours", None), (None, "s3://bucket/log")], ids=str)
def test_networks_and_edge_have_the_names_that_the_page_tells(night_trains, configured, monkeypatch, name, log):
    monkeypatch.delenv("DEPLOY_NAME")
    for variable, value in {"DEPLOY_NAME": name, "PREDICTION_LOG": log}.items():
        if value:
            monkeypatch.setenv(variable, value)
    page = (night_trains.path / "docs" / "prometheus.md").read_text()
    for place in ("production", "staging"):
        host = Host(Project(night_trains.path), place, None, print)
        network = f"{name or 'night-trains'}-{place}{'-open' if log else ''}"
        assert host.network == network
        (kept, _) = configured["docker_sd_configs"]["scrape_configs"][0]["relabel_configs"]
        assert bool(re.fullmatch(kept["regex"], network)) == (name is None)
    assert "network connect night-trains-production prometheus\n" in page


def test_the_page_tells_what_to_do_about_each_alert(night_trains):
    page = (night_trains.path / "docs" / "prometheus.md").read_text()
    listed = [alert for cell in re.findall(r"(?m)^\| ([A-Z]\w+(?:, \w+)*) \|", page) for alert in cell.split(", ")]
    assert sorted(listed) == sorted(ALERTS) and len(set(listed)) == len(listed)


@pytest.mark.parametrize("deploy", OPTIONS["deploy"])
def test_what_the_page_names_is_the_same_in_every_repository(bake, deploy):
    folder = bake(deploy=deploy).path / "container" / "monitoring"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in FOLDER.iterdir()
    }
