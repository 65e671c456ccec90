"""Which operations of GitHub's API the code asks for, from its text alone, and which jobs run that code.

Requests are recognised by their form: `github(METHOD, PATH)`, `github.pages(PATH)` and `github.upload(...)` of a client
of that name; and what goes through `gh` for a person: `Setting(WHAT, METHOD, PATH)`, `make(WHAT, METHOD, PATH)`,
`ask(PATH)` and `gh([...])`. A request whose method or path cannot be read is an error, as is a client of another name.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from github_needs import COMMANDS, NEEDS

HOLE = "{}"  # what is filled in at run time
NUMBER = re.compile(r"(?<!workflow)_(id|number)\}$")  # a part of a path that no word in the code can be
# The functions through which requests are made: what they do inside is no request of its own.
MAKERS = ("ask", "gh", "make", "GitHub")


class Unread(Exception):
    """A request that cannot be read from the text; the line names its place."""


@dataclass(frozen=True)
class Call:
    """One request in the code: its operation, or command of gh, and the function or constant at top level around it."""

    operation: str
    where: str


def operation(method: str, path: str) -> str:
    """The name of a request in the table.

    Raises:
        Unread: there is no such operation in it, or more than one.
    """
    asked = path.partition("?")[0].strip("/").split("/")
    found = [name for name in NEEDS if name.partition(" ")[0] == method and _fits(name, asked)]
    if len(found) != 1:
        raise Unread(f"{method} {path}: {'no' if not found else 'more than one'} operation of tools/github_needs.py")
    return found[0]


def _fits(name: str, asked: list[str]) -> bool:
    template = name.partition(" ")[2].strip("/").split("/")
    return len(template) == len(asked) and all(
        there == here or there.startswith("{") and (here == HOLE or here != "" and not NUMBER.search(there))
        for there, here in zip(template, asked, strict=True)
    )


class Module:
    """One module of Python, and the requests in it.

    Attributes:
        imported: what its names of other modules stand for, dotted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.around: dict[ast.AST, ast.AST] = {
            inner: outer for outer in ast.walk(self.tree) for inner in ast.iter_child_nodes(outer)
        }
        self.imported = {
            each.asname or each.name: f"{node.module}.{each.name}"
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom)
            for each in node.names
        }
        self.top = {name: node for node in self.tree.body for name in _names(node)}
        self.settings: list[tuple[str, str, ast.AST | None]] = []
        self.calls = list(self._calls())

    def reached(self, start: str) -> set[str]:
        """The names at top level that one of them leads to, itself included, and those of other modules, dotted."""
        found: set[str] = set()
        left = [start]
        while left:
            name = left.pop()
            if name in self.top and name not in found:
                found.add(name)
                left += [node.id for node in ast.walk(self.top[name]) if isinstance(node, ast.Name)]
            elif name in self.imported:
                found.add(self.imported[name])
        return found

    # What is asked

    def _calls(self) -> Iterator[Call]:
        nodes = [node for node in ast.walk(self.tree) if isinstance(node, ast.Call) and not self._inside(node)]
        by_gh = "Setting" in self.top or "setup" in self.imported  # elsewhere these names mean something else
        for node in nodes:
            named = _name(node.func)
            if by_gh and named == "Setting":
                for method, path in self._pairs(node, *node.args[1:3]):
                    self.settings.append((method, path, node.args[3] if len(node.args) > 3 else None))
                    yield self._call(node, operation(method, path))
            elif by_gh and named == "make":
                yield from (self._call(node, operation(*pair)) for pair in self._pairs(node, *node.args[1:3]))
            elif named == "bounded" and self._is_gh(node.args[0]) or by_gh and named == "gh":
                yield from (self._call(node, each) for each in self._commands(node))
            elif _client(node.func):
                yield from (self._call(node, operation(*pair)) for pair in self._pairs(node, *node.args[:2]))
            elif isinstance(node.func, ast.Attribute) and _client(node.func.value):
                if named not in ("pages", "upload"):
                    raise self._unread(node, f"{named} is no request that is known")
                paths = self._texts(node.args[0], {}) if named == "pages" else [f"releases/{HOLE}/assets"]
                method = {"pages": "GET", "upload": "POST"}[named]
                yield from (self._call(node, operation(method, path)) for path in paths)
            elif named == "GitHub":
                self._named_so(node)
        for node in nodes:  # once the settings are known
            if by_gh and _name(node.func) == "ask":
                yield from (self._call(node, operation("GET", path)) for path in self._asked(node))

    def _call(self, node: ast.AST, name: str) -> Call:
        within = node
        while not isinstance(self.around[within], ast.Module):
            within = self.around[within]
        return Call(name, next(iter(_names(within)), ""))

    def _inside(self, node: ast.AST) -> bool:
        """Whether this is inside one of MAKERS."""
        while node in self.around:
            node = self.around[node]
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in MAKERS:
                return True
        return False

    def _asked(self, node: ast.Call) -> Iterable[str]:
        path = node.args[0]
        if isinstance(path, ast.Attribute) and path.attr == "path":  # what was set is read back
            kept = [each for each in self.settings if each[0] in ("PUT", "PATCH") and isinstance(each[2], ast.Dict)]
            return {each[1] for each in kept}
        return self._texts(path, {})

    def _is_gh(self, words: ast.expr) -> bool:
        """Whether a list of words begins with the name of GitHub's command line."""
        words = self._assigned(words) if isinstance(words, ast.Name) else words
        first = words.elts[0] if isinstance(words, ast.List) and words.elts else None
        return isinstance(first, ast.Constant) and first.value == "gh"

    def _commands(self, node: ast.Call) -> Iterator[str]:
        """The command of gh. The requests of a Setting are found where it is made."""
        for words in node.args:
            if isinstance(words, ast.Call) and _name(words.func) == "words":
                return
            words = self._assigned(words) if isinstance(words, ast.Name) else words
            if isinstance(words, ast.List):
                given = {each.value for each in words.elts if isinstance(each, ast.Constant)}
                if found := [command for command in COMMANDS if given.issuperset(command.split())]:
                    yield from found
                    return
        raise self._unread(node, "no command of gh that tools/github_needs.py names")

    def _named_so(self, node: ast.Call) -> None:
        """Check that a new client is called `github`, or used or handed on at once."""
        outer = self.around[node]
        if isinstance(outer, ast.Tuple):
            place, outer = outer.elts.index(node), self.around[outer]
            targets = [t.elts[place] for t in outer.targets] if isinstance(outer, ast.Assign) else []
        else:
            targets = outer.targets if isinstance(outer, ast.Assign) else []
        if not (isinstance(outer, ast.Call) or targets and {_name(each) for each in targets} == {"github"}):
            raise self._unread(node, "a client of another name than github")

    # What a text is

    def _pairs(self, node: ast.AST, *parts: ast.expr) -> Iterator[list[str]]:
        """Each method with its path. What hangs on the same name is taken together."""
        tested = sorted({name for part in parts for name in _tested(part)})
        for values in itertools.product((True, False), repeat=len(tested)):
            given = dict(zip(tested, values, strict=True))
            yield from map(list, itertools.product(*(sorted(self._texts(part, given)) for part in parts)))

    def _texts(self, node: ast.expr, given: dict[str, bool]) -> set[str]:
        """All texts that an expression can be."""
        match node:
            case ast.Constant(value=str(text)):
                return {text}
            case ast.Constant(value=None):
                return set()
            case ast.JoinedStr(values=parts):
                pieces = [self._texts(part, given) for part in parts]
                return {"".join(each) for each in itertools.product(*pieces)}
            case ast.FormattedValue(value=value):
                try:
                    return self._texts(value, given) or {HOLE}
                except Unread:
                    return {HOLE}
            case ast.IfExp(test=test, body=yes, orelse=no):
                branches = {True: [yes], False: [no]}.get(given.get(_name(test)), [yes, no])
                return set().union(*(self._texts(each, given) for each in branches))
            case ast.BoolOp(op=ast.Or(), values=[first, *others]):
                chosen = {True: [first], False: others}.get(given.get(_name(first)), [first, *others])
                return set().union(*(self._texts(each, given) for each in chosen))
            case ast.Name():
                return self._named(node, given)
        raise self._unread(node, "a text that cannot be read from the code")

    def _named(self, node: ast.Name, given: dict[str, bool]) -> set[str]:
        """All texts that a name can be: by the last assignment before, or by what its function is given."""
        if (value := self._assigned(node)) is not None:
            added = self.around[value]
            if isinstance(added, ast.AugAssign):
                before = ast.copy_location(ast.Name(node.id), added)
                self.around[before] = self.around[added]
                return {old + new for old in self._named(before, given) for new in self._texts(value, given)}
            return self._texts(value, given)
        function = self._function(node)
        names = [each.arg for each in function.args.args] if function else []
        if function is None or node.id not in names:
            raise self._unread(node, f"{node.id} is not assigned where it can be read")
        found: set[str] = set()
        for call in ast.walk(self.tree):
            if isinstance(call, ast.Call) and _name(call.func) == function.name:
                handed = {each.arg: each.value for each in call.keywords}
                place = names.index(node.id)
                found |= self._texts(call.args[place] if place < len(call.args) else handed[node.id], given)
        return found

    def _assigned(self, node: ast.Name) -> ast.expr | None:
        """What was last assigned to a name before, in its function or else at top level."""
        inside = self._function(node)
        for scope, before in ((inside, node.lineno), (None, None)):
            found = None
            for each in ast.walk(scope or self.tree):
                if not isinstance(each, ast.Assign | ast.AugAssign) or self._function(each) is not scope:
                    continue
                for target, value in _targets(each):
                    if _name(target) == node.id and (before is None or each.lineno < before):
                        found = value
            if found is not None:
                return found
        return None

    def _function(self, node: ast.AST) -> ast.FunctionDef | None:
        while node in self.around:
            node = self.around[node]
            if isinstance(node, ast.FunctionDef):
                return node
        return None

    def _unread(self, node: ast.AST, why: str) -> Unread:
        return Unread(f"{self.path.name}:{getattr(node, 'lineno', 0)}: {why}")


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _names(node: ast.AST) -> list[str]:
    """What a statement at top level makes."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    return [_name(target) for target in node.targets] if isinstance(node, ast.Assign) else []


def _client(node: ast.AST) -> bool:
    """Whether this is the client of GitHub's API, or a new one."""
    new = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "GitHub"
    return new or isinstance(node, ast.Name) and node.id == "github"


def _targets(node: ast.Assign | ast.AugAssign) -> Iterator[tuple[ast.expr, ast.expr]]:
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            yield from zip(target.elts, node.value.elts, strict=True)
        else:
            yield target, node.value


def _tested(node: ast.AST) -> Iterator[str]:
    """The names on which a conditional expression hangs."""
    for each in ast.walk(node):
        if isinstance(each, ast.IfExp):
            yield _name(each.test)
        if isinstance(each, ast.BoolOp):
            yield _name(each.values[0])
