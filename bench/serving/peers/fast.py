# mypy: disable-error-code="untyped-decorator"
"""FastAPI and ONNX Runtime: `uvicorn bench.serving.peers.fast:app`."""

import os

import orjson
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict

from bench.serving.peers.model import Model

app = FastAPI()
model = Model()
IN_THREAD = os.environ["PEER_IN_THREAD"] == "1"


class Asked(BaseModel):
    """The body of /classify."""

    model_config = ConfigDict(extra="forbid")

    model: str
    images: list[str]
    resize: bool = False


def answer(asked: Asked) -> Response:
    if asked.model != model.name:
        raise HTTPException(404)
    try:
        content = orjson.dumps(model.classify(model.stack(asked.images)))
    except (OSError, ValueError) as error:
        raise HTTPException(422, str(error)) from error
    return Response(content, media_type="application/json")


@app.post("/classify")
async def classify(asked: Asked) -> Response:
    return await run_in_threadpool(answer, asked) if IN_THREAD else answer(asked)


@app.post("/raw")
async def raw(request: Request) -> Response:
    body = await request.body()
    content, length = await run_in_threadpool(model.raw, body) if IN_THREAD else model.raw(body)
    headers = {"Inference-Header-Content-Length": str(length)}
    return Response(content, media_type="application/octet-stream", headers=headers)
