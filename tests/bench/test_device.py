"""The check of a device runs on any."""

import re

import pytest
import torch

from bench import device


@pytest.mark.slow
def test_the_cpu_agrees_with_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert device.main(["--device", "cpu", "--n", "16", "--seconds", "0.01"]) == 0
    said = capsys.readouterr().out
    assert said.count("differs by 0 ") == 3
    assert all(float(speed.replace(",", "")) > 0 for speed in re.findall(r"([\d,]+) images/s", said))


def test_another_answer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    name = device.CLASSIFIERS[0]
    opened = []

    def other(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        return answer(model, x) * (1.01 if model in opened[:1] else 1.0)

    answer, opening = device.OnnxClassifier.predict, device._open
    monkeypatch.setattr(device, "_open", lambda *words: opened.append(opening(*words)) or opened[-1])
    monkeypatch.setattr(device.OnnxClassifier, "predict", other)
    gap = device.check_classifier(name, "cpu", 8, 0.01)
    assert gap > device.ALLOWED
    assert gap == pytest.approx(0.01, rel=1e-3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert device.main(["--device", "cuda"]) == 2
    assert "no usable CUDA device" in capsys.readouterr().err
