"""The client: one method per call of the service, which returns the answer as an object."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter

from gauntlet_client import answers
from gauntlet_client.errors import ModelNotReady, ReportNotDone, ServiceError
from gauntlet_client.images import Image, encoded
from gauntlet_client.transport import Transport

Answer = TypeVar("Answer", bound=BaseModel)
Format = Literal["png", "array"]
Norm = Literal["linf", "l2", "l1", "l0"]
Ball = Literal["linf", "l2"]
Manifest = answers.ClassifierManifest | answers.GeneratorManifest
Model = answers.ReadyClassifier | answers.ReadyGenerator | answers.ModelOpening
MODEL: TypeAdapter[Model] = TypeAdapter(Model)

ACCEPTED = 202  # the service continues to open the model

REPORTS = "/robustness-report"


class Client:
    """A Gauntlet service. Use it in a ``with`` block, or ``close`` it.

    Args:
        base_url: address of the service.
        key: an API key, if the service requires one.
        timeout: seconds that an answer may take.
        retries: how often a request is repeated if the service is busy (429, 503) or the connection breaks.
        pause: seconds before the first retry if the service sends no Retry-After; doubled for each further retry.
        transport: a transport of httpx, for example for a proxy or a Unix socket.

    Every call raises ServiceError if the service refuses, and ClientError if it cannot be reached.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:3000",
        *,
        key: str | None = None,
        timeout: float = 120.0,
        retries: int = 4,
        pause: float = 0.5,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        client = httpx.Client(base_url=base_url, headers=headers, timeout=timeout, transport=transport)
        self._transport = Transport(client, retries, pause)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def _get(self, answer: type[Answer], path: str, **params: Any) -> Answer:
        chosen = {name: value for name, value in params.items() if value is not None}
        return answer.model_validate_json(self._transport.ask("GET", path, params=chosen).content)

    def _post(self, answer: type[Answer], path: str, body: dict[str, Any], **options: Any) -> Answer:
        chosen = {name: value for name, value in body.items() if value is not None}
        return answer.model_validate_json(self._transport.ask("POST", path, json=chosen, **options).content)

    # Predictions, attacks and certificates

    def classify(
        self, model: str, images: Sequence[Image], *, resize: bool = False, smoothing: dict[str, Any] | None = None
    ) -> answers.ClassifyResponse:
        """Classify images; return predictions in the same order, each with its certificate, if the model has one.

        Args:
            model: name of a classifier.
            images: in one of the forms of ``gauntlet_client.images.Image``.
            resize: convert images of another size or colour mode; otherwise they are refused.
            smoothing: certify the smoothed classifier: ``{"sigma": 0.25}``, and optionally ``samples``, ``alpha`` and
                ``seed``.
        """
        body = {"model": model, "images": [*map(encoded, images)], "resize": resize, "smoothing": smoothing}
        return self._post(answers.ClassifyResponse, "/classify", body)

    def pictures(
        self, model: str, images: Sequence[Image], *, resize: bool = False, invert: bool = False
    ) -> answers.PicturesResponse:
        """Return images as the classifier sees them: base64 PNGs in its size and colour mode."""
        body = {"model": model, "images": [*map(encoded, images)], "resize": resize, "invert": invert}
        return self._post(answers.PicturesResponse, "/pictures", body)

    def generate(
        self,
        model: str,
        n: int | None = None,
        *,
        seed: int | None = None,
        latents: Sequence[Sequence[float]] | None = None,
        format: Format = "png",
    ) -> answers.GenerateResponse:
        """Generate ``n`` images, or decode the given latents."""
        body = {"model": model, "n": n, "seed": seed, "latents": latents, "format": format}
        return self._post(answers.GenerateResponse, "/generate", body)

    def attack(
        self,
        model: str,
        attack: str,
        images: Sequence[Image],
        norm: Norm,
        *,
        eps: float | None = None,
        labels: Sequence[int] | None = None,
        target_labels: Sequence[int] | None = None,
        seed: int = 0,
        params: dict[str, Any] | None = None,
        transfer_to: Sequence[str] = (),
        format: Format = "png",
        resize: bool = False,
    ) -> answers.AttackResponse:
        """Attack images; ``attacks()`` lists the attacks, their norms and their ``params``.

        ``eps`` is in units of pixels in [0, 1]; minimum-norm attacks need none. Without ``labels`` the model's
        prediction counts as right. The models of ``transfer_to`` classify the resulting images as well.
        """
        body = {
            "model": model,
            "attack": attack,
            "images": [*map(encoded, images)],
            "norm": norm,
            "eps": eps,
            "labels": labels,
            "target_labels": target_labels,
            "seed": seed,
            "params": params,
            "transfer_to": list(transfer_to),
            "format": format,
            "resize": resize,
        }
        return self._post(answers.AttackResponse, "/attack", body)

    def certify(
        self,
        model: str,
        images: Sequence[Image],
        norm: Ball = "linf",
        *,
        eps: float | None = None,
        labels: Sequence[int] | None = None,
        method: str = "auto",
        budget_seconds: float = 10.0,
        seed: int = 0,
        format: Format = "png",
        resize: bool = False,
    ) -> answers.CertifyResponse:
        """Prove or refute for each image that every image within ``eps`` has the same class.

        Without ``eps`` the largest radius that can be certified is searched for each image. Without ``labels`` the
        class is the model's prediction. ``method`` is one kind of bound, or ``auto`` for all, from cheap to expensive.
        """
        body = {
            "model": model,
            "images": [*map(encoded, images)],
            "norm": norm,
            "eps": eps,
            "radius": "largest" if eps is None else None,
            "labels": labels,
            "method": method,
            "budget_seconds": budget_seconds,
            "seed": seed,
            "format": format,
            "resize": resize,
        }
        return self._post(answers.CertifyResponse, "/certify", body)

    def attacks(self) -> list[answers.AttackInfo]:
        """Return every attack, with the JSON schema of its ``params``."""
        return self._get(answers.AttackList, "/attacks").attacks

    # Reports

    def submit(
        self, models: Sequence[str], dataset: str, *, idempotency_key: str | None = None, **request: Any
    ) -> answers.ReportAccepted:
        """Submit a robustness report. ``request``: ``n``, ``attacks``, ``threats``, ``seed``... as in /openapi.json.

        The same ``idempotency_key`` with the same request returns the first report; without one a random key is used,
        so that a retry of the request does not create a second report.
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        body = {"models": list(models), "dataset": dataset, **request}
        return self._post(answers.ReportAccepted, REPORTS, body, headers=headers)

    def report(self, report_id: str) -> answers.ReportStatus:
        """Return the status of a report, with the report itself once it has succeeded."""
        return self._get(answers.ReportStatus, f"{REPORTS}/{report_id}")

    def wait(
        self,
        report_id: str,
        *,
        timeout: float | None = None,
        every: float = 1.0,
        progress: Callable[[answers.ReportStatus], None] | None = None,
    ) -> answers.Report:
        """Wait until the report is done, and return it.

        Args:
            report_id: ``id`` of the answer of ``submit``.
            timeout: seconds; None: no limit.
            every: seconds between two polls.
            progress: called with the status at every poll.

        Raises:
            ReportNotDone: the report failed, was cancelled, or was not done in time.
        """
        end = time.monotonic() + timeout if timeout is not None else None
        while True:
            status = self.report(report_id)
            if progress is not None:
                progress(status)
            if status.report is not None:
                return status.report
            if status.status in ("failed", "cancelled"):
                raise ReportNotDone(status, status.status + (f": {status.error}" if status.error else ""))
            if end is not None and time.monotonic() + every > end:
                raise ReportNotDone(status, f"is {status.status} after {timeout} s")
            time.sleep(every)

    def reports(self, status: str | None = None) -> Iterator[answers.ReportItem]:
        """Yield all reports, newest first; only those with the given status, if any."""
        cursor = None
        while True:
            page = self._get(answers.ReportList, REPORTS, status=status, cursor=cursor)
            yield from page.items
            if (cursor := page.next_cursor) is None:
                return

    def report_html(self, report_id: str) -> str:
        """Return the report as a self-contained HTML page."""
        return self._transport.ask("GET", f"{REPORTS}/{report_id}/html").text

    def cancel(self, report_id: str) -> answers.ReportItem:
        """Cancel a report; its status is ``cancelled`` once its computation has stopped."""
        return self._post(answers.ReportItem, f"{REPORTS}/{report_id}/cancel", {})

    def delete_report(self, report_id: str) -> None:
        """Delete a report that has ended."""
        self._transport.ask("DELETE", f"{REPORTS}/{report_id}", repeatable=False)

    # Readiness, models and evaluation sets

    def not_ready(self) -> dict[str, str]:
        """Return the components that are not ready, with the reason; empty if the service is ready."""
        try:
            self._transport.ask("GET", "/readyz", patient=False)
        except ServiceError as error:
            if error.code != "not_ready":
                raise
            return dict(error.details.get("components", {"service": error.message}))
        return {}

    def models(self) -> list[Manifest]:
        """Return the manifests of all models."""
        return self._get(answers.ModelList, "/models").models

    def model(self, name: str) -> Model:
        """Return the manifest of a model, or the progress of an upload; ``state`` is ready, opening or failed."""
        return MODEL.validate_json(self._transport.ask("GET", f"/models/{name}").content)

    def add_model(
        self,
        onnx: Path | bytes,
        *,
        weights: Sequence[Path] = (),
        class_names: Path | None = None,
        timeout: float | None = None,
        every: float = 0.5,
        progress: Callable[[answers.ModelOpening], None] | None = None,
        **settings: Any,
    ) -> answers.ModelAdded:
        """Upload an ONNX classifier, and wait until the service has opened it.

        Args:
            onnx: the file, or its content. A file is streamed.
            weights: the external files with its weights, if they are not in the ONNX file itself.
            class_names: a file with the class names, one a line, or a ``config.json`` with ``id2label``.
            timeout: seconds that opening may take after the upload; None: no limit.
            every: seconds between two polls.
            progress: called with the status at every poll.
            settings: ``name``, ``classes``, ``layout``... settings that are left out are guessed.

        Raises:
            ServiceError: the service refused it at once.
            ModelNotReady: the service refused it later, or it was not open in time.
        """
        more = [("weights", one) for one in weights] + ([] if class_names is None else [("classes", class_names)])
        answer = self._upload("/models", onnx, settings, more)
        if answer.status_code == ACCEPTED:
            return self._opened(answers.ModelOpening.model_validate_json(answer.content), timeout, every, progress)
        return answers.ModelAdded.model_validate_json(answer.content)

    def _opened(
        self,
        found: Model,
        timeout: float | None,
        every: float,
        progress: Callable[[answers.ModelOpening], None] | None,
    ) -> answers.ModelAdded:
        end = time.monotonic() + timeout if timeout is not None else None
        while isinstance(found, answers.ModelOpening):
            if progress is not None:
                progress(found)
            if found.error is not None:
                raise ModelNotReady(found, f"failed: {found.error.message} ({found.error.code})")
            if end is not None and time.monotonic() + every > end:
                raise ModelNotReady(found, f"is still {found.stage} after {timeout} s")
            time.sleep(every)
            found = self.model(found.name)
        fields = found.model_dump()
        return answers.ModelAdded.model_validate({"manifest": fields, "certificate": fields["certificate"]})

    def delete_model(self, name: str) -> None:
        """Delete an uploaded model."""
        self._transport.ask("DELETE", f"/models/{name}", repeatable=False)

    def evalsets(self, samples: int = 0) -> list[answers.EvalSetInfo]:
        """Return every evaluation set that a report can name, with its first ``samples`` images."""
        return self._get(answers.EvalSetList, "/evalsets", samples=samples).evalsets

    def add_evalset(self, file: Path | bytes, **settings: Any) -> answers.EvalSetInfo:
        """Upload labelled images: an .npz with images and labels, or a zip with one folder per class."""
        return answers.EvalSetInfo.model_validate_json(self._upload("/evalsets", file, settings).content)

    def delete_evalset(self, name: str) -> None:
        """Delete an uploaded evaluation set."""
        self._transport.ask("DELETE", f"/evalsets/{name}", repeatable=False)

    def _upload(
        self, path: str, file: Path | bytes, settings: dict[str, Any], more: Sequence[tuple[str, Path]] = ()
    ) -> httpx.Response:
        """Send the files, streamed, and return the answer."""
        with ExitStack() as opened:
            content = opened.enter_context(file.open("rb")) if isinstance(file, Path) else file
            companions = [(part, (one.name, opened.enter_context(one.open("rb")))) for part, one in more]
            files = [("file", ("file", content)), *companions]
            parts: dict[str, Any] = {"files": files, "data": {"settings": json.dumps(settings)}}
            return self._transport.ask("POST", path, repeatable=False, **parts)
