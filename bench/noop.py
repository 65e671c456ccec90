"""The least that a service on FastAPI can do: it reads the JSON of a request and answers with a constant.

    python bench/noop.py PORT

Its uvicorn is set as the product's is.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

SAID = {"id": "00000000-0000-4000-8000-000000000000", "model": "0" * 64, "predictions": [0.5]}
app = FastAPI()


@app.post("/predict")
async def predict(request: Request) -> dict[str, Any]:
    """What the service says in form, and nothing in substance."""
    await request.json()
    return SAID


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
    )
