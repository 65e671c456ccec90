"""The team's function that makes the pipeline, by model.build of params.yaml."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conveyor.core.errors import Misuse
from conveyor.core.frozen import Frozen, checked
from conveyor.core.project import Project
from conveyor.core.team import imported


@dataclass(frozen=True)
class Builder:
    """The team's model module.

    Attributes:
        file: the module, for messages.
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
            Misuse: the module or function does not exist, does not load, or refuses its parameters.
        """
        named, _, function = project.params.model.build.partition(":")
        file, module = imported(named, "model.build")
        if not callable(getattr(module, function, None)):
            what = "is no function" if hasattr(module, function) else "is not there"
            raise Misuse(f"{file.name}: `{function}`, which model.build of params.yaml names, {what}; define it")
        if not hasattr(module, "Params"):
            raise Misuse(f"{file.name}: has no `Params`, which training calls; define it")
        if not isinstance(module.Params, type) or not issubclass(module.Params, Frozen):
            raise Misuse(f"{file.name}: `Params` is none that training can check; derive it from conveyor.api.Frozen")
        params = checked(module.Params, project.params.model.params, "params.yaml: model.params.")
        return cls(file, getattr(module, function), params)

    def pipeline(self, seed: int) -> Any:
        """An unfitted pipeline.

        Raises:
            Misuse: the result of ``build`` cannot be fitted.
        """
        built = self.build(self.params, seed)
        if not hasattr(built, "fit") or isinstance(built, type):
            line = f":{self.build.__code__.co_firstlineno}" if hasattr(self.build, "__code__") else ""
            raise Misuse(f"{self.file.name}{line}: build returns {built!r:.80}; return an unfitted pipeline")
        return built


def unused(pipeline: Any, given: list[str]) -> list[str]:
    """The columns that a pipeline drops, where its first step names the columns that it takes; else nobody can tell."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    first = pipeline.steps[0][1] if isinstance(pipeline, Pipeline) else pipeline
    if not isinstance(first, ColumnTransformer) or not isinstance(first.remainder, str) or first.remainder != "drop":
        return []
    taken: set[str] = set()
    for _, transformer, columns in first.transformers:
        named = [columns] if isinstance(columns, str) else columns
        if not isinstance(named, list | tuple) or not all(isinstance(column, str) for column in named):
            return []  # places, masks or functions
        taken |= set(named) if transformer != "drop" else set()
    return [column for column in given if column not in taken]
