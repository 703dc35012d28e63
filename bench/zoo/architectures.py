"""The architectures to export and open. No weights are downloaded: only the architectures are tested."""

from dataclasses import dataclass
from typing import Literal

Library = Literal["torchvision", "timm"]


@dataclass(frozen=True)
class Architecture:
    """A classifier of 1,000 classes, by its name in the library, for images of ``side`` pixels."""

    library: Library
    name: str
    side: int = 224


TORCHVISION = (
    "alexnet",
    "vgg11_bn",
    "vgg16",
    "squeezenet1_1",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "densenet121",
    "googlenet",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "mnasnet1_0",
    "shufflenet_v2_x1_0",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "swin_v2_t",
    "maxvit_t",
)
TIMM = (
    "convmixer_768_32",
    "deit_tiny_patch16_224",
    "dla34",
    "edgenext_xx_small",
    "eca_nfnet_l0",
    "fastvit_t8",
    "ghostnet_100",
    "gmlp_s16_224",
    "hrnet_w18_small",
    "lcnet_050",
    "levit_128s",
    "mixer_s32_224",
    "mobilenetv4_conv_small",
    "mobilevit_xxs",
    "poolformer_s12",
    "pvt_v2_b0",
    "regnety_002",
    "repvgg_a0",
    "res2net50_14w_8s",
    "resmlp_12_224",
    "tinynet_e",
    "xcit_nano_12_p16_224",
)
SIDES = {"fastvit_t8": 256, "edgenext_xx_small": 256, "mobilevit_xxs": 256, "tinynet_e": 106}

ARCHITECTURES = (
    *(Architecture("torchvision", name) for name in TORCHVISION),
    Architecture("torchvision", "inception_v3", 299),
    *(Architecture("timm", name, SIDES.get(name, 224)) for name in TIMM),
)
FEW = ("mobilenet_v2", "resnet18", "squeezenet1_1", "efficientnet_b0")
"""The default architectures of a run."""
