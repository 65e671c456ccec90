"""The team's function that makes the pipeline, as model.build of params.yaml names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from conveyor.core.errors import Misuse, at_fault
from conveyor.core.frozen import checked
from conveyor.core.project import Project


@dataclass(frozen=True)
class Builder:
    """What the module of the model gives.

    Attributes:
        file: the module, for what is told of it.
        build: (params, seed) -> an unfitted pipeline.
        params: model.params of params.yaml, as the module's own ``Params``.
    """

    file: Path
    build: Callable[[Any, int], Any]
    params: Any

    @classmethod
    def of(cls, project: Project) -> Builder:
        """The function of a project, with its parameters.

        Raises:
            Misuse: there is no such module or function, it does not load, or its parameters are refused.
        """
        named, _, function = project.params.model.build.partition(":")
        where = f"params.yaml: model.build: {named}"
        try:
            spec = find_spec(named)
        except ModuleNotFoundError:
            spec = None
        except (Exception, SystemExit) as error:
            # To find a module Python runs the packages around it, and they are the team's own code, too.
            raise Misuse(f"{where}: {type(error).__name__}: {' '.join(str(error).split())[:300]}; mend it") from error
        if spec is None or not spec.origin:
            raise Misuse(f"{where}: no such module; write it as package.module:function")
        file = Path(spec.origin)
        try:
            module = import_module(named)
        except (Exception, SystemExit) as error:
            raise at_fault(error, file, "mend that line, or add a library that it needs to requirements") from error
        for name in ("Params", function):
            if not hasattr(module, name):
                raise Misuse(f"{file.name}: has no `{name}`, which training calls; define it")
        params = checked(module.Params, project.params.model.params, "params.yaml: model.params.")
        return cls(file, getattr(module, function), params)

    def pipeline(self, seed: int) -> Any:
        """An unfitted pipeline.

        Raises:
            Misuse: what ``build`` gives cannot be fitted.
        """
        built = self.build(self.params, seed)
        if not hasattr(built, "fit"):
            line = f":{self.build.__code__.co_firstlineno}" if hasattr(self.build, "__code__") else ""
            raise Misuse(f"{self.file.name}{line}: build returns {built!r:.80}; return an unfitted pipeline")
        return built
