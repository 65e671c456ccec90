"""Risk: GitHub does not take a workflow or a dev container, or cannot draw a chart, that every other judge finds sound.

GitHub's own parser, the reader of dev containers and Mermaid come from npm. In tests/node,
`npm install --package-lock-only --omit-lockfile-registry-resolved` writes the lock of package.json anew.
"""

import json
import re
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import ROOT, once, run
from markdown_it import MarkdownIt
from test_workflows_static import BIN, COMBINATIONS

from conveyor.report import mermaid

NODE = ROOT / "tests/node"
INVALID = "Context access might be invalid: "
# What is broken -> the file, its words, those of somebody who was not careful, and what has to be found at that line.
MISTAKES = {
    "event": ("ci", "event.pull_request.number", "event.pull_request.numbr", f"{INVALID}numbr"),
    "other-event": ("deliver", "event.before", "event.pull_request.number", f"{INVALID}pull_request"),
    "github": ("compare", "github.ref", "github.reff", f"{INVALID}reff"),
    "input": ("rollback", "inputs.because", "inputs.becaus", f"{INVALID}becaus"),
    "step": ("compare", "steps.data.outputs", "steps.date.outputs", f"{INVALID}date"),
    "output": ("deliver", "needs.image.outputs.digest", "needs.image.outputs.digset", f"{INVALID}digset"),
    "not-needed": ("deliver", "needs.image.outputs.digest", "needs.accept.outputs.digest", f"{INVALID}accept"),
    "needs": ("compare", "[challenger]", "[chalenger]", "Job 'decide' depends on unknown job 'chalenger'."),
    "context": ("compare", "secrets.DATA", "secret.DATA", "Unrecognized named-value: 'secret'"),
    "function": ("compare", "!cancelled()", "!canceled()", "Unrecognized function: 'canceled'"),
    "if": ("compare", "always()", "always(", "Unexpected end of expression: '('"),
    "trigger": ("compare", "pull_request:", "pull_reqest:", "Unexpected value 'pull_reqest'"),
    "permission": ("compare", "contents: read", "content: read", "Unexpected value 'content'"),
    "right": ("compare", "contents: read", "contents: reed", "Unexpected value 'reed'"),
    "key": ("compare", "timeout-minutes:", "timeout-minute:", "Unexpected value 'timeout-minute'"),
    "twice": ("compare", "name: decide\n", "name: decide\n    name: d\n", "'name' is already defined"),
    "tab": ("compare", "    timeout-minutes:", "\ttimeout-minutes:", "Tabs are not allowed as indentation at line"),
    "queue": ("deliver", "queue: max", "queue: maximum", "Unexpected value 'maximum'"),
    "cron": ("monitor", "17 5", "17 25", "Invalid cron expression."),
    "version": ("compare", "actions/checkout@", "actions/checkout#", "Expected format {owner}/{repo}[/path]@{ref}."),
    "own-action": ("compare", "actions/setup\n", "actions/set-up\n", "Unable to resolve action `$/.github/"),
    "in-action": ("setup", "shell: bash", "shel: bash", "Unexpected value 'shel'"),
}
HOSTILE = {
    "quotes": '"a" \'b\' \\"c\\"',
    "backticks": "```\n`a`",
    "lines": "a\nline [9]\r\nb\u2028c",
    "brackets": "a] [b",
    "comment": '%% a %%{init: {"theme": "x"}}%%',
    "unicode": "Zürich 東京 \u202eabc 🛫",
    "markup": "<b>a</b> &amp; #quot; $$a$$",
    "signs": "a --> b; c, d",
    "long": "a" * 200,
    "empty": "",
    "keyword": "xychart-beta",
    "dashes": "---",
}
SVG = {"svg": "http://www.w3.org/2000/svg"}


@pytest.fixture(scope="session")
def node(shared):
    """node(script, *arguments) -> the JSON lines that a script of tests/node prints."""

    def install(fresh):
        shutil.copytree(NODE, fresh, dirs_exist_ok=True)
        quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--prefer-offline", "--loglevel=error")
        run(BIN / "npm", "ci", "--ignore-scripts", *quiet, cwd=fresh)

    place = once(shared, "node", install)

    def node(script, *arguments):
        done = run(BIN / "node", place / script, *arguments, cwd=place)
        return [json.loads(line) for line in done.stdout.split("\n") if line]

    node.place = place
    return node


def test_what_comes_from_npm_is_locked_by_its_content_and_from_no_address():
    locked = json.loads((NODE / "package-lock.json").read_text())["packages"]
    asked = json.loads((NODE / "package.json").read_text())["dependencies"]
    assert locked.pop("")["dependencies"] == asked
    assert all(locked[f"node_modules/{name}"]["version"] == version for name, version in asked.items())
    for package in locked.values():
        assert package["integrity"].startswith("sha512-") and "resolved" not in package


# --- The parser -------------------------------------------------------------------------------------------------------


def read_by_github(repository):
    """What GitHub Actions reads of a repository, as it names the files."""
    found = [*(repository / ".github/workflows").iterdir(), *(repository / ".github").rglob("action.yml")]
    return sorted(str(path.relative_to(repository)) for path in found)


@pytest.mark.parametrize("answers", COMBINATIONS, ids=lambda answers: "-".join(answers.values()))
def test_githubs_parser_finds_nothing_in_any_generated_file(bake, node, answers):
    project = bake(**answers).path
    paths = read_by_github(project)
    assert len(paths) > 7 and ".github/actions/setup/action.yml" in paths
    assert node("workflows.mjs", project, *paths) == []


def test_githubs_parser_finds_nothing_in_the_templates_own_workflows(node):
    paths = read_by_github(ROOT)
    assert ".github/workflows/ci.yml" in paths
    assert node("workflows.mjs", ROOT, *paths) == []


# Codespaces and editors read a dev container as this reader does. It takes a key that it does not know, and ignores it.
READER = "node_modules/@devcontainers/cli"


def unknown(node, project):
    """Keys of a project's devcontainer.json, and of its parts, that the reader's code does not name."""
    words = ("read-configuration", "--docker-path", shutil.which("true"), "--workspace-folder")
    (read,) = node(f"{READER}/devcontainer.js", *words, project)
    written = json.loads((project / ".devcontainer/devcontainer.json").read_text())
    configuration = read["configuration"]
    del configuration["configFilePath"]
    assert configuration == written
    code = (node.place / READER / "dist/spec-node/devContainersSpecCLI.js").read_text()
    return [key for key in [*written, *written["build"]] if not re.search(rf"\b{key}\b", code)]


def test_the_reader_of_dev_containers_takes_each_key_and_finds_a_mistake(bake, node):
    project = bake().path
    assert unknown(node, project) == []
    file = project / ".devcontainer/devcontainer.json"
    for key in ("postCreateCommand", "forwardPorts", "dockerfile"):
        sound = file.read_text()
        file.write_text(sound.replace(f'"{key}"', f'"{key}d"'))
        assert unknown(node, project) == [f"{key}d"]
        file.write_text(sound)


@pytest.fixture(scope="module")
def broken(bake, node):
    """mistake -> what is found in its line."""
    project, at = bake().path, {}
    for mistake, (name, old, new, _) in MISTAKES.items():
        sound = f".github/actions/{name}/action.yml" if name == "setup" else f".github/workflows/{name}.yml"
        before, found, after = (project / sound).read_text().partition(old)
        assert found, f"{sound} does not say {old}"
        path = sound.replace(name, mistake)
        (project / path).parent.mkdir(exist_ok=True)
        (project / path).write_text(before + new + after)
        at[mistake] = path, (before + new.rstrip("\n")).count("\n") + 1
    findings = node("workflows.mjs", project, *(path for path, _ in at.values()))
    return {
        mistake: [each["message"] for each in findings if (each["path"], each["line"]) == place]
        for mistake, place in at.items()
    }


@pytest.mark.parametrize("mistake", MISTAKES)
def test_githubs_parser_finds_a_mistake(broken, mistake):
    expected = MISTAKES[mistake][-1]
    assert any(message.startswith(expected) for message in broken[mistake]), broken[mistake]


# --- Mermaid ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def draw(node, tmp_path):
    """draw(*charts) -> for each what Mermaid makes of it, as ``svg`` or ``error``."""

    def draw(*charts):
        (tmp_path / "charts.json").write_text(json.dumps(charts))
        return node("mermaid.mjs", tmp_path / "charts.json")

    return draw


def chart_of(markdown):
    """The one chart that GitHub finds in a text."""
    (chart,) = [token.content for token in MarkdownIt().parse(markdown) if token.info == "mermaid"]
    return chart


def gains(*names, scale=1.0, metric="roc_auc"):
    """The chart of a decision with segments of these names, whose gains are of this size."""

    def gain(n):
        return {"gain_low": n * scale, "gain": (n + 1) * scale, "gain_high": (n + 3) * scale}

    guard = {"kind": "segment", "holds": True, "doubted": False, "p": 0.5, "margin": 0.02 * scale}
    guards = [{**guard, **gain(n), "name": str(n)} for n in range(len(names))]
    judged = {"metric": metric, "margin": scale, "metrics": [{"name": metric, **gain(0)}], "guards": guards}
    return chart_of("\n".join(mermaid.gains(judged, {str(n): name for n, name in enumerate(names)})))


def texts(picture, part):
    return ["".join(text.itertext()) for text in picture.iterfind(f".//svg:g[@class='{part}']//svg:text", SVG)]


def paths(picture, part):
    return picture.findall(f".//svg:g[@class='{part}']//svg:path", SVG)


def heights(path):
    return [float(y) for y in re.findall(r"[ML] ?[\d.]+,([\d.]+)", path.get("d"))]


def test_every_chart_is_drawn_as_it_is_meant(draw):
    charts = [
        chart_of((ROOT / "tests/golden/report.md").read_text()),
        gains(mermaid, *list(HOSTILE.values())[: mermaid.SHOWN]),
        *(gains(mermaid, name) for name in HOSTILE.values()),
        *(gains(mermaid, "a", metric=name) for name in HOSTILE.values()),
        *(gains(mermaid, "a", "b", scale=scale) for scale in (0.0, 1e-9, 1e-4, 1e9)),
    ]
    for chart, drawn in zip(charts, draw(*charts), strict=True):
        assert "svg" in drawn, f"{drawn}\n{chart}"
        picture = ElementTree.fromstring(drawn["svg"])
        title, names, axis, *lines = re.findall("^  (?:title|x-axis|y-axis|line) (.*)$", chart, re.M)
        assert texts(picture, "chart-title") == [json.loads(title)]
        assert texts(picture, "bottom-axis") == json.loads(names)
        assert texts(picture, "left-axis")[-1] == "gain"
        low, high = map(float, axis.removeprefix('"gain" ').split(" --> "))
        top, bottom = heights(*paths(picture, "axisl-line"))
        values = np.array([json.loads(line) for line in lines])
        assert values.shape == (4, len(json.loads(names)))
        plots = paths(picture, "plot")
        assert [plot.get("stroke") for plot in plots] == list(mermaid.COLOURS.values())
        meant = bottom + (values - low) / (high - low) * (top - bottom)
        assert np.allclose([heights(plot) for plot in plots], meant, atol=0.01), chart


def test_a_broken_chart_is_refused(draw):
    chart = 'xychart-beta\n  x-axis ["a", "b"]\n  line [1, 2]\n'
    refused = {
        chart.replace('"b"', "b]"): "Parse error on line 2",
        chart.replace('"b"', '"b""'): "Parse error on line 2",
        chart.replace('"b"', '"b'): "Parse error",
        chart.replace("2", "nan"): "Parse error on line 3",
        chart.replace("xychart", "xychat"): "No diagram type detected",
    }
    sound, *broken = draw(chart, *refused)
    assert "svg" in sound
    for drawn, reason in zip(broken, refused.values(), strict=True):
        assert drawn["error"].startswith(reason), drawn
