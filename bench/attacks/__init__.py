"""``python -m bench.attacks``: our attacks beside their peers', on the same network, images and threads, in one run."""

import sys
from types import ModuleType

sys.modules.setdefault("visdom", ModuleType("visdom"))  # adv-lib imports it to plot a run, which nothing here asks for
