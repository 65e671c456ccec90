"""The description of the server, /openapi.json: FastAPI makes it from the models of the answers."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field, create_model

from conveyor.serving.problem import STATUSES, Told
from conveyor.serving.service import Service


class Status(BaseModel):
    """A probe's answer."""

    status: Literal["ok"]


class Taken(BaseModel):
    """The answer to labels."""

    taken: int = Field(description="how many labels")


class Info(BaseModel):
    """Which model answers."""

    key: str
    digest: str
    commit: str = Field(description="of the serving code")
    form: Literal["compiled", "arrays", "frame"]
    task: Literal["binary", "multiclass", "regression"]
    target: str
    classes: list[str]
    threshold: float | None = Field(description="the least probability of the second class at which it is chosen")
    features: dict[str, str]


REQUEST = {
    "X-Request-Id": {
        "description": "The id of the request: the caller's, if it is 1 to 128 of A-Z a-z 0-9 . _ ~ : / + = @ -",
        "schema": {"type": "string"},
    }
}


def described(service: Service, token: bool) -> dict[str, Any]:
    """The OpenAPI document of a service.

    Args:
        token: whether /predict and /feedback want one.
    """
    said = {
        "binary": (list[float], "of each row the probability of the second class"),
        "multiclass": (list[list[float]], "of each row the probability of each class, in the order of `classes`"),
        "regression": (list[float], "of each row the number"),
    }[service.task]
    fields: dict[str, Any] = {"id": (str, ...), "model": (str, Field(description="its key"))}
    fields["predictions"] = (said[0], Field(description=said[1]))
    if service.classes:
        rule = f"the second one from a probability of {service.settings.threshold:g} on"
        rule = rule if service.task == "binary" else "the likeliest one"
        fields["chosen"] = (list[str], Field(description=f"of each row the class: {rule}"))
    if service.task == "multiclass":
        fields["classes"] = (list[str], ...)
    problem: dict[str, Any] = {"model": Told, "headers": REQUEST}
    again = {"headers": REQUEST | {"Retry-After": {"description": "in seconds", "schema": {"type": "integer"}}}}

    def asked(model: type[BaseModel], schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
        responses: dict[int | str, dict[str, Any]] = {200: {"model": model, "headers": REQUEST}}
        for status, description in STATUSES.items():
            if token or status != 401:
                responses[status] = problem | {"description": description} | (again if status in (429, 503) else {})
        media = {"schema": schema, "example": example}
        extra: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": media}}}
        if token:
            extra["security"] = [{"bearer": []}]
        return {"responses": responses, "openapi_extra": extra, "response_class": JSONResponse, "response_model": None}

    predictions = create_model("Predictions", **fields)
    app = FastAPI(
        title=f"Predictions of {service.target}",
        version=service.settings.key[:12],
    )

    # These functions are for the description alone: routes.py answers.

    @app.post("/predict", **asked(predictions, service.signature.schema(), {"rows": [service.example]}))
    async def predict() -> None:
        """Ask the model."""

    if service.feedback:

        @app.post("/feedback", **asked(Taken, service.feedback.schema(), service.feedback.example))
        async def feedback() -> None:
            """Send the true values of predicted rows."""

    @app.get("/healthz", response_model=Status)
    async def healthz() -> None:
        """Ask whether the process lives."""

    @app.get("/readyz", response_model=Status, responses={503: problem})
    async def readyz() -> None:
        """Ask whether it answers as in training, and is not about to end."""

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> None:
        """What was counted, for Prometheus."""

    @app.get("/info", response_model=Info)
    async def info() -> None:
        """Ask which model this is."""

    made = app.openapi()
    if token:
        made["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    return made
