"""Risk: a mistake in params.yaml is ignored, or ends in a traceback."""

import pytest
import yaml

MISTAKES = {
    "unparseable": (("data:\n", "data: [\n"), r"params.yaml:\d+: not YAML: .*; mend that line"),
    "a key twice": (
        ("seed: 7", "seed: 7\n  seed: 8"),
        r"params.yaml:\d+: not YAML: key 'seed' stands twice; mend that line",
    ),
    "unknown key": (
        ("margin: 0.001", "margn: 0.0"),
        "params.yaml: gate.margn: unknown key; did you mean margin\\? .and 1 more.",
    ),
    "unknown section": (("gate:", "gaet:"), "params.yaml: gaet: unknown key; did you mean gate\\? .and 1 more."),
    "wrong type": (("seed: 7", "seed: seven"), "params.yaml: model.seed: input should be a valid integer, not 'seven'"),
    "number as text": (
        ("holdout: 0.2", 'holdout: "0.2"'),
        "params.yaml: split.holdout: input should be a valid number, not '0.2'",
    ),
    "fraction of one": (
        ("holdout: 0.2", "holdout: 1.0"),
        "params.yaml: split.holdout: input should be less than 1, not 1.0",
    ),
    "fraction of zero": (
        ("holdout: 0.2", "holdout: 0"),
        "params.yaml: split.holdout: input should be greater than 0, not 0",
    ),
    "not a number": (("margin: 0.001", "margin: .nan"), "params.yaml: gate.margin: input should be .*, not nan"),
    "unknown metric": (
        ("metric: roc_auc", "metric: auc"),
        "params.yaml: gate.metric: no metric 'auc'; there are roc_auc, .*, r2",
    ),
    "floor of an unknown metric": (
        ("{roc_auc: 0.6}", "{auc: 0.65}"),
        "params.yaml: gate.floors: no metric 'auc'; there are roc_auc, .*, r2",
    ),
    "a metric of another task": (
        ("metric: roc_auc ", "metric: rmse "),
        "params.yaml: gate: rmse is no metric of data.task binary; use roc_auc, .*, f1",
    ),
    "a floor of another task": (
        ("{roc_auc: 0.6}", "{r2: 0.65}"),
        "params.yaml: gate: r2 is no metric of data.task binary; use roc_auc, .*, f1",
    ),
    "a threshold of zero": (
        ("threshold: 0.5 ", "threshold: 0 "),
        "params.yaml: gate.threshold: input should be greater than 0, not 0",
    ),
    "a threshold of one": (
        ("threshold: 0.5 ", "threshold: 1.0 "),
        "params.yaml: gate.threshold: input should be less than 1, not 1.0",
    ),
    "a threshold that is no number": (
        ("threshold: 0.5 ", "threshold: .nan "),
        "params.yaml: gate.threshold: input should be .*, not nan",
    ),
    "a threshold as text": (
        ("threshold: 0.5 ", 'threshold: "0.5" '),
        "params.yaml: gate.threshold: input should be a valid number, not '0.5'",
    ),
    "no such task": (
        ("task: binary ", "task: ranking "),
        "params.yaml: data.task: input should be 'binary', 'multiclass' or 'regression', not 'ranking'",
    ),
    "guards that cannot be sure": (
        ("confidence: 0.99 ", "confidence: 1.0 "),
        "params.yaml: gate.guards.confidence: input should be less than 1, not 1.0",
    ),
    "a segment that is no column": (
        ("segments: [origin, carrier]", "segments: [origin, carier]"),
        "params.yaml: gate.guards.segments: no column 'carier' in data/flights.csv.gz; it has scheduled, .*",
    ),
    "a private column that is none": (
        ("private: [] ", "private: [carier] "),
        "params.yaml: data.private: no column 'carier' in data/flights.csv.gz; it has scheduled, .*",
    ),
    "an address that is none": (
        ("bind: 127.0.0.1 ", "bind: localhost "),
        "params.yaml: deploy.bind: 'localhost' is no IP address; use 127.0.0.1, or 0.0.0.0 for all",
    ),
    "a memory that is no size": (
        ("memory: 512m ", "memory: lots "),
        "params.yaml: deploy.memory: 'lots' is no size of at least 6m; write it as 512m or 2g",
    ),
    "too little memory": (
        ("memory: 512m ", "memory: 1m "),
        "params.yaml: deploy.memory: '1m' is no size of at least 6m; write it as 512m or 2g",
    ),
    "a port that is none": (
        ("port: 8080\n", "port: 0\n"),
        "params.yaml: deploy.port: input should be greater than or equal to 1, not 0",
    ),
    "a share of the requests that is too small to tell anything": (
        ("canary: 0.5 ", "canary: 0.01 "),
        "params.yaml: deploy.canary: input should be greater than or equal to 0.05, not 0.01",
    ),
    "a share of the requests that is more than half": (
        ("canary: 0.5 ", "canary: 0.6 "),
        "params.yaml: deploy.canary: input should be less than or equal to 0.5, not 0.6",
    ),
    "a certificate without its key": (
        ("tls: null ", "tls: {certificate: /etc/ssl/model.pem} "),
        "params.yaml: deploy.tls: give certificate and key, two absolute paths on the host, or name, .*",
    ),
    "a certificate by a relative path": (
        ("tls: null ", "tls: {certificate: model.pem, key: /etc/ssl/model.key} "),
        "params.yaml: deploy.tls: give certificate and key, two absolute paths on the host, or name, .*",
    ),
    "a certificate twice": (
        ("tls: null ", "tls: {certificate: /a.pem, key: /a.key, name: model.example.com} "),
        "params.yaml: deploy.tls: give certificate and key, two absolute paths on the host, or name, .*",
    ),
    "a name that is an address": (
        ("tls: null ", "tls: {name: 10.0.0.1} "),
        "params.yaml: deploy.tls: give certificate and key, two absolute paths on the host, or name, .*",
    ),
    "a name that would be configuration": (
        ("tls: null ", 'tls: {name: "model.example.com {"} '),
        "params.yaml: deploy.tls: give certificate and key, two absolute paths on the host, or name, .*",
    ),
    "a group that is no column": (
        ("group: null ", "group: family "),
        "params.yaml: data.group: no column 'family' in data/flights.csv.gz; it has scheduled, .*",
    ),
    "the target as a group": (
        ("group: null ", "group: late "),
        "params.yaml: data.group: late is the target; name another column",
    ),
    "the target as a segment": (
        ("segments: [origin, carrier]", "segments: [origin, late]"),
        "params.yaml: gate.guards.segments: late is the target; name another column",
    ),
    "a name where a list is needed": (
        ("ignore: [flight] ", "ignore: flight "),
        r"params.yaml: data.ignore: input should be a list, such as \[one, two\], not 'flight'",
    ),
    "no key": (("key: [scheduled, carrier, flight, origin]", "key: []"), "params.yaml: data.key: the list .* empty.*"),
    "a number that YAML reads as text": (
        ("confidence: 0.95 ", "confidence: 9e-1 "),
        r"params.yaml: gate.confidence: a number needs a point before its exponent, such as 1.0e-5, not '9e-1'",
    ),
    "a block that is none": (
        ("block: day ", "block: 6 hours "),
        "params.yaml: gate.block: '6 hours' is no block; write day, week, row, or a number of hours such as 6",
    ),
    "no such rule": (
        ("promote_when: superior ", "promote_when: better "),
        "params.yaml: gate.promote_when: input should be 'superior' or 'non_inferior', not 'better'",
    ),
    "no such target": (
        ("target: late ", "target: delayed "),
        "params.yaml: data.target: no column 'delayed' in data/flights.csv.gz; it has scheduled, carrier, .*",
    ),
    "no such key column": (
        ("carrier, flight, origin]", "carrier, flight, orgin]"),
        "params.yaml: data.key: no column 'orgin' in .*",
    ),
    "a pin that is none": (
        ("sha256: b", "sha256: X"),
        "params.yaml: data.sha256: 'X.* is no sha256; run `make data-lock`, which writes it",
    ),
    "infinity for an option": (
        ("{C: 1.0,", "{C: -.inf,"),
        "params.yaml: model.params.logistic.C: input should be a finite number, not -inf",
    ),
    "a date": (
        ("{C: 1.0,", "{C: 2013-06-30,"),
        "params.yaml: model.params.logistic.C: input should be text, a number, .*, not a date; put text into quotes",
    ),
    "a date that is none": (("{C: 1.0,", "{C: 2013-06-31,"), r"params.yaml:\d+: not YAML: day .*; mend that line"),
    "a number as key": (
        ("{C: 1.0,", "{C: 1.0, 3: 4,"),
        "params.yaml: model.params.logistic: the key 3 should be text; put it into quotes",
    ),
    "a number as section": (("gate:", "7:"), "params.yaml: the key 7 should be text; put it into quotes"),
    "a list as key": (
        ("{C: 1.0,", "{? [C, D] : 1.0,"),
        r"params.yaml:\d+: not YAML: found unhashable key; mend that line",
    ),
    "keys as key": (
        ("{C: 1.0,", "{? {C: D} : 1.0,"),
        r"params.yaml:\d+: not YAML: found unhashable key; mend that line",
    ),
    "more digits than are read": (
        ("seed: 7", "seed: " + "7" * 5000),
        "params.yaml: model.seed: input should be a finite number, not inf",
    ),
    "more digits than a number has": (
        ("{C: 1.0,", "{C: " + "1" * 400 + ","),
        r"params.yaml: model.params.logistic.C: input should be a number of at most 64 bits, not 1{57}\.\.\.",
    ),
}


@pytest.mark.parametrize("edit, message", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_that_names_the_key(project, one_line, edit, message):
    project.edit("params.yaml", *edit)
    one_line(project.cli("pipeline", check=False), 2, message)


@pytest.mark.parametrize(
    "content", [b"", b"\n# nothing\n", b"- a\n- list\n"], ids=["empty", "only a comment", "a list"]
)
def test_a_file_without_keys_is_named(project, one_line, content):
    (project.path / "params.yaml").write_bytes(content)
    one_line(
        project.cli("train", check=False), 2, "params.yaml: holds no keys; `git checkout params.yaml` brings it back"
    )


def test_text_that_is_not_utf8_is_named(project, one_line):
    (project.path / "params.yaml").write_bytes(b"data: \xff\xfe")
    one_line(project.cli("train", check=False), 2, "params.yaml: not UTF-8 text; save it as UTF-8")


def test_a_missing_file_is_named(project, one_line):
    (project.path / "params.yaml").unlink()
    one_line(project.cli("train", check=False), 2, "params.yaml: missing; run this in the root of the repository")


MODEL_MISTAKES = {
    "unknown estimator": (
        "model.params.estimator=svm",
        "params.yaml: model.params.estimator: input should be 'logistic', 'forest' or 'boosting', not 'svm'",
    ),
    "unknown key": ("model.params.trees=3", "params.yaml: model.params.trees: unknown key; remove it"),
    "unknown option": (
        "model.params.logistic.depth=3",
        r"model.py:\d+: LogisticRegression.__init__\(\) got an unexpected keyword argument 'depth'; mend .*",
    ),
    "impossible value": (
        "model.params.logistic.C=-1",
        "model.py: The 'C' parameter of LogisticRegression must be .*; mend .*",
    ),
}


@pytest.mark.parametrize("change, message", MODEL_MISTAKES.values(), ids=MODEL_MISTAKES)
def test_a_mistake_in_the_models_own_parameters_is_named_before_anything_is_logged(sound, one_line, change, message):
    # `sound` has validated its data: only training is left to go wrong.
    key, value = change.split("=")
    sound.set_param(key, int(value) if value.lstrip("-").isdigit() else value)
    one_line(sound.cli("train", check=False), 2, message)
    assert not (sound.path / "build" / "candidate").exists() and not (sound.path / "mlruns").exists()


def test_an_empty_tracking_uri_counts_as_unset(sound):
    sound.cli("train", MLFLOW_TRACKING_URI="", GITHUB_TOKEN="")
    assert (sound.path / "mlruns" / "mlflow.db").is_file()


def test_a_tracking_server_that_is_down_fails_the_run_and_nothing_is_logged_elsewhere(sound, one_line):
    done = sound.cli(
        "train", check=False, MLFLOW_TRACKING_URI="http://127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"
    )
    one_line(done, 2, "MLFLOW_TRACKING_URI: the server did not take the run: .*; mend that and train again")
    assert not (sound.path / "mlruns").exists() and not (sound.path / "build" / "candidate").exists()


@pytest.mark.parametrize("value", [".nan", "2013-06-30", "{1: 2}", "7" * 5000])
def test_a_value_that_is_tried_is_checked_as_one_of_the_file(project, one_line, value):
    done = project.cli("try", f"model.params.logistic.C={value}", check=False)
    one_line(done, 2, "params.yaml: model.params.logistic.C: .* should be .*")


@pytest.mark.parametrize("pin", ["", '""', "X", "null", "[1, 2]", "\"a 'quoted' one\""])
def test_data_lock_writes_a_pin_where_none_can_be_read(project, one_line, pin):
    before = (project.path / "params.yaml").read_text()
    right = yaml.safe_load(before)["data"]["sha256"]
    project.edit("params.yaml", f" {right}", f" {pin}")
    message = "params.yaml: data.sha256: .* is no sha256; run `make data-lock`, which writes it"
    one_line(project.cli("validate", check=False), 2, message)
    assert project.cli("data-lock").stdout == f"data-lock pinned: data/flights.csv.gz {right}\n"
    assert (project.path / "params.yaml").read_text().split() == before.split()


def test_data_lock_needs_the_key_of_the_pin(project, one_line):
    project.edit("params.yaml", "  sha256:", "  # sha256:")
    one_line(project.cli("data-lock", check=False), 2, "params.yaml: data.sha256: missing; add it, with any value")
