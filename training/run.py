"""One training run: epochs with a progress bar, a log, a checkpoint after each, and resuming from it."""

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from gauntlet.artifacts.manifest import Frozen, Name, Positive

CHECKPOINT_FILE = "checkpoint.pt"
_CHECK_EVERY = 25  # steps between two checks of the loss: each check waits for the device


class RunError(Exception):
    """A run cannot start or continue; the message says why and what to do."""


class Stateful(Protocol):
    """An object whose state a checkpoint can store: a network, an optimiser, a schedule."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class JobConfig(Frozen):
    """The fields that every job has. The whole configuration is saved with the checkpoint and with the artefact."""

    name: Name
    dataset: str
    epochs: Positive
    seed: int = 0

    @property
    def builds_on(self) -> tuple[str, ...]:
        """The artefacts that must exist before the job starts."""
        return ()

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """Return the fields in which a saved configuration differs; fields that it lacks count as their defaults."""
        now = self.model_dump(mode="json")
        before = {name: field.default for name, field in type(self).model_fields.items() if not field.is_required()}
        before.update(saved)
        return sorted(key for key in before.keys() | now.keys() if (before.get(key) or None) != (now.get(key) or None))


class Run:
    """The bookkeeping of a training loop: ``for epoch in run.epochs(...)`` around ``run.step`` and ``run.log``.

    Attributes:
        device: where to compute.
        artifacts: the folder of finished artefacts, for jobs that build on one.
        history: one record of metrics per finished epoch.
        best_epoch: number (from 1) of the epoch with the highest score so far.
        best: that epoch's weights, on the CPU.
        seconds: time spent in epochs so far, including those before a resume.
        epoch_seconds: time spent in each epoch of this process.

    ``limit``: seconds of this process; an epoch is not started if it would end later, assuming the longest duration
    so far.
    """

    def __init__(
        self,
        folder: Path,
        config: JobConfig,
        *,
        device: torch.device,
        artifacts: Path,
        resume: bool = False,
        limit: float = math.inf,
    ) -> None:
        self.folder = folder
        self.config = config
        self.device = device
        self.artifacts = artifacts
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best: dict[str, Tensor] = {}
        self.seconds = 0.0
        self.epoch_seconds: list[float] = []
        self._resume = resume
        self._limit = limit
        self._best_score = -math.inf

    def epochs(self, parts: Mapping[str, Stateful], model: nn.Module, steps: int) -> Iterator[int]:
        """Yield the epoch numbers, from 1 or after the last finished epoch; save a checkpoint after each.

        Args:
            parts: everything that changes during training.
            model: the network whose weights are kept when an epoch has the best score.
            steps: how many times ``step`` is called in an epoch.

        Raises:
            RunError: an unfinished checkpoint exists but ``resume`` is not set, ``resume`` is set but there is none,
                or the checkpoint has another configuration.
        """
        done = self._restore(parts)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{self.folder} cannot be made ({error.strerror}): name another folder with --runs"
            ) from error
        self._save(parts, done)
        total = self.config.epochs
        log = SummaryWriter(str(self.folder), purge_step=done + 1)
        begun = time.monotonic()
        bar = tqdm(total=total * steps, initial=done * steps, unit="step", file=sys.stderr, mininterval=1.0)
        with bar as self._bar, log as self._log:
            for epoch in range(done + 1, total + 1):
                started = time.monotonic()
                if self.history and started - begun + max(self.epoch_seconds, default=0.0) > self._limit:
                    break
                self._bar.set_description(f"{self.config.name} {epoch}/{total}")
                yield epoch
                self.epoch_seconds.append(time.monotonic() - started)
                self.seconds += self.epoch_seconds[-1]
                if self._improved:
                    self.best = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
                    self.best_epoch = epoch
                self._save(parts, epoch)

    def step(self, loss: Tensor) -> None:
        """Count one step, and stop the run if the loss has become NaN or infinite (checked every 25 steps)."""
        self._bar.update()
        if self._bar.n % _CHECK_EVERY == 0:
            _refuse_nan("loss", loss.item(), len(self.history) + 1)
            self._bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)

    def log(self, metrics: dict[str, float], score: float) -> None:
        """Record an epoch's metrics; the epoch with the highest score is the one that is exported."""
        epoch = len(self.history) + 1
        for name, value in metrics.items():
            _refuse_nan(name, value, epoch)
            self._log.add_scalar(name, value, epoch)
        self.history.append(metrics)
        self._improved = score > self._best_score
        self._best_score = max(score, self._best_score)
        words = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        tqdm.write(f"epoch {epoch}/{self.config.epochs}  {words}", file=sys.stderr)

    def _save(self, parts: Mapping[str, Stateful], epoch: int) -> None:
        state = {
            "epoch": epoch,
            "config": self.config.model_dump_json(),
            "parts": {name: part.state_dict() for name, part in parts.items()},
            "history": self.history,
            "best": (self.best_epoch, self._best_score, self.best),
            "seconds": self.seconds,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        temporary = self.folder / f"{CHECKPOINT_FILE}.{os.getpid()}"
        try:
            torch.save(state, temporary)
            temporary.replace(self.folder / CHECKPOINT_FILE)
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError if the disk is full
            temporary.unlink(missing_ok=True)
            raise RunError(
                f"{temporary} cannot be written ({error}): make room or mend the folder, then go on with --resume"
            ) from error

    def _restore(self, parts: Mapping[str, Stateful]) -> int:
        """Load the checkpoint if the run is to be resumed; return the number of finished epochs."""
        path = self.folder / CHECKPOINT_FILE
        if not path.is_file():
            if self._resume:
                raise RunError(f"there is no checkpoint {path} to resume from: leave --resume out")
            return 0
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file can fail in any part of the unpickler
            raise RunError(f"{path} cannot be read ({error}): delete it and start again") from error
        if not self._resume:
            if 0 < state["epoch"] < json.loads(state["config"])["epochs"]:
                raise RunError(
                    f"{path} holds an unfinished run ({state['epoch']} epochs done): "
                    "go on with --resume, or delete it to start again"
                )
            return 0
        self._refuse_another_config(json.loads(state["config"]), path)
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
        self.history = state["history"]
        self.best_epoch, self._best_score, self.best = state["best"]
        self.seconds = state["seconds"]
        torch.set_rng_state(state["random"])
        if state["random_cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random_cuda"])
        return int(state["epoch"])

    def _refuse_another_config(self, saved: dict[str, Any], path: Path) -> None:
        different = self.config.differences(saved)
        if different:
            key = different[0]
            raise RunError(
                f"{path} was trained with {key}={saved.get(key)}, this run asks for {getattr(self.config, key, None)}: "
                "ask for the same, or delete it to start again"
            )


def _refuse_nan(name: str, value: float, epoch: int) -> None:
    if not math.isfinite(value):
        raise RunError(
            f"{name} became {value} in epoch {epoch}: training has diverged; "
            "the last checkpoint is from before; try a lower learning rate"
        )
