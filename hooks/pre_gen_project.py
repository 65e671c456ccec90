"""Refuse answers that cannot become a repository, a line each. They are JSON in a raw string: none is read as Python.
The folder is made before this runs: that of an illegal answer is `illegal-project`, and `__project` keeps it."""

import json
import keyword
import re
import sys
import unicodedata

given, answers = json.loads(r"""<< [_cookiecutter | default({}), cookiecutter] | tojson >>""")
answers["project"], libraries = answers["__project"], " ".join(answers["_libraries"]).split()  # see the locks and tests
windows = ["con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))]
words, bad = "[A-Za-z0-9]+(-[A-Za-z0-9]+)*", {}
marks = [text for name, text in answers["_jinja2_env_vars"].items() if name.endswith(("start_string", "prefix"))]
if not re.fullmatch(rf"(?=[A-Za-z])(?=.{{1,60}}\Z){words}", answers["project"]):
    bad["project"] = "use letters, digits and single hyphens, first a letter, last no hyphen, at most 60 characters"
elif answers["__package"] in {*sys.stdlib_module_names, *keyword.kwlist, *libraries, *windows, "conveyor", "copier"}:
    bad["project"] = f"a name of Python, Windows, a library or the machinery, add a word: '{answers['project']}-model'"
if not re.fullmatch(rf"(?=.{{1,39}}\Z){words}", answers["owner"]):
    bad["owner"] = "use a GitHub account name: letters, digits and single hyphens inside, at most 39 characters"
kinds = {unicodedata.category(character) for character in answers["description"].strip(" ")}
if not kinds or kinds & {"Cc", "Cs", "Zl", "Zp"}:
    bad["description"] = "write one line of text, without control characters"
for key, text in (*given.items(), *answers.items()):  # as given too: Cookiecutter rendered what a command line gave it
    if key in ("project", "description", "owner") and any(mark in text for mark in marks):
        answers[key], bad[key] = text, f"leave out {', '.join(marks)}: they mark the template's own parts"
sys.exit("\n".join(f"{key} {answers[key]!r}: {mend}" for key, mend in bad.items()) or None)
