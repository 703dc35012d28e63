"""The calls of the service, each with the answer as an object."""

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

ACCEPTED = 202  # it goes on there

REPORTS = "/robustness-report"


class Client:
    """A Gauntlet service. Use it in a ``with`` block, or ``close`` it.

    Args:
        base_url: where it is.
        key: an API key, where the service asks for one.
        timeout: seconds that an answer may take.
        retries: how often a request is repeated that met a busy service (429, 503) or a broken connection.
        pause: seconds before the first repetition where the service does not say; then twice as long each time.
        transport: httpx's, as for a proxy or a Unix socket.

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

    # Models at work

    def classify(
        self, model: str, images: Sequence[Image], *, resize: bool = False, smoothing: dict[str, Any] | None = None
    ) -> answers.ClassifyResponse:
        """Predictions in the order of the images, each with what is proved of it.

        Args:
            model: a classifier.
            images: as ``gauntlet_client.images`` lists them.
            resize: fit images of another size or colour; otherwise they are refused.
            smoothing: ``{"sigma": 0.25}``, beside it ``samples``, ``alpha``, ``seed``: certify the smoothed classifier.
        """
        body = {"model": model, "images": [*map(encoded, images)], "resize": resize, "smoothing": smoothing}
        return self._post(answers.ClassifyResponse, "/classify", body)

    def pictures(
        self, model: str, images: Sequence[Image], *, resize: bool = False, invert: bool = False
    ) -> answers.PicturesResponse:
        """Images as the classifier sees them: base64 PNGs in its size and colours."""
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
        """Draw ``n`` images, or decode the latents given."""
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
        """Perturb images until the model errs: ``attacks()`` has the attacks, their norms and their ``params``.

        ``eps`` is in units of pixels in [0, 1], minimum-norm attacks need none. Without ``labels`` what the model says
        counts as right. The result is shown to the models of ``transfer_to`` as well.
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
        """Prove or refute, image by image, that nothing within ``eps`` has another class.

        Without ``eps`` the largest radius that can be certified of each image is searched for. Without ``labels`` the
        class is what the model says. ``method`` is one kind of bound, or ``auto`` for all, from cheap to dear.
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
        """Every attack, with the JSON schema of its ``params``."""
        return self._get(answers.AttackList, "/attacks").attacks

    # Reports

    def submit(
        self, models: Sequence[str], dataset: str, *, idempotency_key: str | None = None, **request: Any
    ) -> answers.ReportAccepted:
        """Ask for a robustness report. ``request``: ``n``, ``attacks``, ``threats``, ``seed``... as /openapi.json says.

        The same ``idempotency_key`` with the same request finds the first report again; without one a key is made up,
        so that a request that has to be repeated makes no second report.
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        body = {"models": list(models), "dataset": dataset, **request}
        return self._post(answers.ReportAccepted, REPORTS, body, headers=headers)

    def report(self, report_id: str) -> answers.ReportStatus:
        """Where a report stands, and the report itself once it has succeeded."""
        return self._get(answers.ReportStatus, f"{REPORTS}/{report_id}")

    def wait(
        self,
        report_id: str,
        *,
        timeout: float | None = None,
        every: float = 1.0,
        progress: Callable[[answers.ReportStatus], None] | None = None,
    ) -> answers.Report:
        """The report, when it is done.

        Args:
            report_id: what ``submit`` gave.
            timeout: seconds; None: as long as it takes.
            every: seconds between two looks.
            progress: called with where it stands at every look.

        Raises:
            ReportNotDone: it failed, was cancelled, or took longer.
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
        """All reports, newest first, of a status or of any."""
        cursor = None
        while True:
            page = self._get(answers.ReportList, REPORTS, status=status, cursor=cursor)
            yield from page.items
            if (cursor := page.next_cursor) is None:
                return

    def report_html(self, report_id: str) -> str:
        """The report as one self-contained page."""
        return self._transport.ask("GET", f"{REPORTS}/{report_id}/html").text

    def cancel(self, report_id: str) -> answers.ReportItem:
        """Stop a report; its status is ``cancelled`` once nothing computes any more."""
        return self._post(answers.ReportItem, f"{REPORTS}/{report_id}/cancel", {})

    def delete_report(self, report_id: str) -> None:
        """Forget a report that has ended."""
        self._transport.ask("DELETE", f"{REPORTS}/{report_id}", repeatable=False)

    # What is there, and what is brought

    def not_ready(self) -> dict[str, str]:
        """What keeps the service from being ready, with the reason; empty: it is ready."""
        try:
            self._transport.ask("GET", "/readyz", patient=False)
        except ServiceError as error:
            if error.code != "not_ready":
                raise
            return dict(error.details.get("components", {"service": error.message}))
        return {}

    def models(self) -> list[Manifest]:
        """The manifests of all models."""
        return self._get(answers.ModelList, "/models").models

    def model(self, name: str) -> Model:
        """The manifest of a model, or how far an upload is: its ``state`` is ready, opening or failed."""
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
        """Bring an ONNX classifier, and wait until it has been opened.

        Args:
            onnx: the file, or its content. A file is sent as it is read.
            weights: the files in which it keeps its weights, where they are not in the ONNX file itself.
            class_names: a file that names its classes, one a line, or a ``config.json`` with ``id2label``.
            timeout: seconds that opening may take once it has been sent; None: as long as it takes.
            every: seconds between two looks.
            progress: called with where it stands at every look.
            settings: ``name``, ``classes``, ``layout``... what is left out is guessed.

        Raises:
            ServiceError: it was refused at once.
            ModelNotReady: it was refused later, or takes longer.
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
        """Forget an uploaded model."""
        self._transport.ask("DELETE", f"/models/{name}", repeatable=False)

    def evalsets(self, samples: int = 0) -> list[answers.EvalSetInfo]:
        """Every evaluation set that a report can name, with its first images."""
        return self._get(answers.EvalSetList, "/evalsets", samples=samples).evalsets

    def add_evalset(self, file: Path | bytes, **settings: Any) -> answers.EvalSetInfo:
        """Bring labelled images: an .npz with images and labels, or a zip of one folder per class."""
        return answers.EvalSetInfo.model_validate_json(self._upload("/evalsets", file, settings).content)

    def delete_evalset(self, name: str) -> None:
        """Forget an uploaded evaluation set."""
        self._transport.ask("DELETE", f"/evalsets/{name}", repeatable=False)

    def _upload(
        self, path: str, file: Path | bytes, settings: dict[str, Any], more: Sequence[tuple[str, Path]] = ()
    ) -> httpx.Response:
        """The answer. Files are sent as they are read."""
        with ExitStack() as opened:
            content = opened.enter_context(file.open("rb")) if isinstance(file, Path) else file
            beside = [(part, (one.name, opened.enter_context(one.open("rb")))) for part, one in more]
            files = [("file", ("file", content)), *beside]
            parts: dict[str, Any] = {"files": files, "data": {"settings": json.dumps(settings)}}
            return self._transport.ask("POST", path, repeatable=False, **parts)
