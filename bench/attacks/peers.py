"""Attacks of other libraries. Each gets the twin, parameters frozen, and a number of steps.

A step is one forward and one backward pass. If a library's defaults were made for other images, it runs twice: with its
defaults, and with the settings that work best here.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import foolbox
import pyautoattack
import torch
import torchattacks
from adv_lib import attacks as adv_lib
from art.attacks.evasion import CarliniL2Method
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from bench.attacks.task import Contender, Task

SEARCHES = 6  # values of c that a Carlini-Wagner attack tries
FEWEST = 10  # steps per search: adv-lib divides by a tenth of them
TUNED = "rate and c 0.1"  # for images with much black, in tanh space
STANDARD = 100  # steps of AutoAttack's gradient attacks ...
QUERIES = 5000  # ... and queries of its random search


def searched(steps: int) -> int:
    """Return the steps of one search over c."""
    return max(FEWEST, steps // SEARCHES)


def _foolbox(make: Callable[[int], Any], task: Task) -> Tensor:
    model = foolbox.PyTorchModel(task.twin, bounds=(0, 1), device=task.model.device)
    return task.by_batch(lambda x, y: make(task.steps)(model, x, y, epsilons=None)[1])


def _adv_lib(attack: Callable[..., Tensor], task: Task) -> Tensor:
    return task.by_batch(lambda x, y: attack(task.twin, x, y, task.steps))


def _foolbox_cw(steps: int, **options: float) -> Any:
    return foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=SEARCHES, steps=searched(steps), **options)


def _adv_lib_cw(twin: nn.Module, x: Tensor, y: Tensor, steps: int, **options: float) -> Tensor:
    limits = {"binary_search_steps": SEARCHES, "max_iterations": searched(steps)}
    return adv_lib.carlini_wagner_l2(twin, x, y, **limits, **options)


def _torchattacks_cw(task: Task, **options: float) -> Tensor:
    return task.by_batch(torchattacks.CW(task.twin, steps=task.steps, **options))


def _art_cw(task: Task) -> Tensor:
    classifier = PyTorchClassifier(
        model=task.twin,
        loss=nn.CrossEntropyLoss(),
        input_shape=task.model.manifest.input_shape,
        nb_classes=len(task.model.manifest.classes),
        clip_values=(0, 1),
        device_type="cpu" if task.model.device.type == "cpu" else "gpu",
    )
    steps = max(1, task.steps // SEARCHES)
    attack = CarliniL2Method(
        classifier, binary_search_steps=SEARCHES, max_iter=steps, batch_size=task.batch, verbose=False
    )
    return torch.from_numpy(attack.generate(task.x.numpy(), task.y.numpy()))


CW = (
    Contender("foolbox cw", partial(_foolbox, _foolbox_cw)),
    Contender(f"foolbox cw, {TUNED}", partial(_foolbox, partial(_foolbox_cw, stepsize=0.1, initial_const=0.1))),
    Contender("adv-lib cw", partial(_adv_lib, _adv_lib_cw)),
    Contender(f"adv-lib cw, {TUNED}", partial(_adv_lib, partial(_adv_lib_cw, learning_rate=0.1, initial_const=0.1))),
    Contender("torchattacks cw", _torchattacks_cw),
    Contender("torchattacks cw, c 10", partial(_torchattacks_cw, c=10)),  # its c is fixed
)
SLOW_CW = (Contender("art cw", _art_cw), Contender("art cw, all steps", _art_cw, capped=False))


def _foolbox_ddn(steps: int) -> Any:
    return foolbox.attacks.DDNAttack(steps=steps)


def _foolbox_fmn(steps: int, **options: float) -> Any:
    return foolbox.attacks.L2FMNAttack(steps=steps, **options)


def _foolbox_deepfool(steps: int) -> Any:
    """Return DeepFool with a ninth of the steps: each takes a forward and a backward pass for each other class."""
    return foolbox.attacks.L2DeepFoolAttack(steps=max(1, steps // 9))


def _adv_lib_ddn(twin: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    return adv_lib.ddn(twin, x, y, steps=steps, levels=None)  # without rounding to 8 bits


def _adv_lib_fmn(twin: nn.Module, x: Tensor, y: Tensor, steps: int, **options: float) -> Tensor:
    return adv_lib.fmn(twin, x, y, norm=2, steps=steps, **options)


def _adv_lib_alma(twin: nn.Module, x: Tensor, y: Tensor, steps: int, **options: float) -> Tensor:
    return adv_lib.alma(twin, x, y, num_steps=steps, **options)


def _adv_lib_deepfool(twin: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    return adv_lib.df(twin, x, y, steps=steps)


def _adv_lib_superdeepfool(twin: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    return adv_lib.sdf(twin, x, y, steps=steps)


MINIMAL = (
    Contender("foolbox ddn", partial(_foolbox, _foolbox_ddn)),
    Contender("foolbox fmn", partial(_foolbox, _foolbox_fmn)),
    Contender("foolbox fmn, first step 0.1", partial(_foolbox, partial(_foolbox_fmn, max_stepsize=0.1))),
    Contender("foolbox deepfool", partial(_foolbox, _foolbox_deepfool)),
    Contender("adv-lib ddn", partial(_adv_lib, _adv_lib_ddn)),
    Contender("adv-lib fmn", partial(_adv_lib, _adv_lib_fmn)),
    Contender("adv-lib fmn, first step 0.1", partial(_adv_lib, partial(_adv_lib_fmn, α_init=0.1))),
    Contender("adv-lib alma", partial(_adv_lib, _adv_lib_alma)),
    Contender("adv-lib alma, first step 0.1", partial(_adv_lib, partial(_adv_lib_alma, init_lr_distance=0.1))),
    Contender("adv-lib deepfool", partial(_adv_lib, _adv_lib_deepfool)),
    Contender("adv-lib superdeepfool", partial(_adv_lib, _adv_lib_superdeepfool)),
    *(contender for contender in CW if contender.name.startswith(("foolbox", "adv-lib"))),
)


def _torchattacks_auto(task: Task) -> Tensor:
    classes = len(task.model.manifest.classes)
    whole = torchattacks.AutoAttack(task.twin, norm="Linf", eps=task.eps, n_classes=classes, seed=task.seed)
    *gradient, square = whole._autoattack.attacks  # noqa: SLF001 - its constructor takes no steps
    for attack in gradient:
        attack.steps = task.steps
    square.n_queries = QUERIES * task.steps // STANDARD
    return task.by_batch(whole)


def _pyautoattack(task: Task) -> Tensor:
    place = task.model.device
    whole = pyautoattack.AutoAttack(task.twin, norm="Linf", eps=task.eps, seed=task.seed, device=place)
    for attack in (whole.apgd, whole.apgd_targeted, whole.fab):
        attack.n_iter = task.steps
    whole.square.n_queries = QUERIES * task.steps // STANDARD
    found, _ = whole.run_standard_evaluation(task.x.to(place), task.y.to(place), batch_size=task.batch)
    return torch.as_tensor(found).cpu()


AUTO = (
    Contender("torchattacks autoattack", _torchattacks_auto, capped=False, tried=4),
    Contender("pyautoattack", _pyautoattack, capped=False, tried=4),
)
