"""``python -m bench.attacks``: our attacks against other libraries', with the same network, images and threads."""

import sys
from types import ModuleType

sys.modules.setdefault("visdom", ModuleType("visdom"))  # adv-lib imports it to plot runs, which is not used here
