"""Image encoder: a residual network whose upper part exists twice, shared and specific; of two
dimensions for pictures, of three for volumes.

Source       DFPL III-A ("share lower-layer parameters ... separate higher layers"), DrFuse
Deviations   where the branches part is not in the paper: after layer3 by default
"""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from dfpl.data.raw import ImageKind
from dfpl.encoders import EncodeMissing, Tokens, encode_present, encode_present_plainly

ImageNetwork = Literal["resnet50", "resnet18", "small"]
STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
ImageSplit = Literal["stem", "layer1", "layer2", "layer3"]
STRIDE: dict[ImageNetwork, int] = {"resnet50": 32, "resnet18": 32, "small": 16}
"""Pixels from one cell of the last map to the next."""
DIMENSIONS: dict[ImageKind, int] = {"picture": 2, "volume": 3}


class ImageEncoder(nn.Module):
    """Pixels to L = h w (of a volume h w d) tokens per branch: the cells of the last map, mapped to
    `width`."""

    def __init__(
        self,
        network: ImageNetwork,
        split: ImageSplit,
        width: int,
        missing: EncodeMissing,
        kind: ImageKind = "picture",
    ) -> None:
        super().__init__()
        self.missing: EncodeMissing = missing
        parted = STAGES.index(split) + 1
        stages, channels = _stages(network, kind)
        self.lower = nn.Sequential(*stages[:parted])
        self.shared = nn.Sequential(*stages[parted:])
        self.specific = nn.Sequential(*_stages(network, kind)[0][parted:])
        self.shared_map = nn.Linear(channels, width)
        self.specific_map = nn.Linear(channels, width)

    def forward(self, image: Float[Tensor, "B E *S"], present: Bool[Tensor, " B"]) -> Tokens:
        return encode_present(self._encode, (image,), present, self.missing)

    def _encode(self, image: Float[Tensor, "B E *S"]) -> Tokens:
        lower = self.lower(image)
        shared = self.shared(lower).flatten(2).mT  # (B, L, channels)
        specific = self.specific(lower).flatten(2).mT
        return Tokens(self.shared_map(shared), self.specific_map(specific))


class PlainImageEncoder(nn.Module):
    """The same network without branches: pixels to L tokens."""

    def __init__(
        self,
        network: ImageNetwork,
        width: int,
        missing: EncodeMissing,
        kind: ImageKind = "picture",
    ) -> None:
        super().__init__()
        self.missing: EncodeMissing = missing
        stages, channels = _stages(network, kind)
        self.network = nn.Sequential(*stages)
        self.map = nn.Linear(channels, width)

    def forward(
        self, image: Float[Tensor, "B E *S"], present: Bool[Tensor, " B"]
    ) -> Float[Tensor, "B L D"]:
        return encode_present_plainly(self._encode, (image,), present, self.missing)

    def _encode(self, image: Float[Tensor, "B E *S"]) -> Float[Tensor, "B L D"]:
        return self.map(self.network(image).flatten(2).mT)


def count_tokens(network: ImageNetwork, size: int, kind: ImageKind = "picture") -> int:
    """L for square pictures, or cubes, of `size` pixels a side: the cells of the last map."""
    return (-(-size // STRIDE[network])) ** DIMENSIONS[kind]


def _stages(network: ImageNetwork, kind: ImageKind) -> tuple[list[nn.Module], int]:
    """The five stages of a freshly initialised network, and the channels of the last."""
    from monai.networks.nets.resnet import ResNet  # slow to import: only where it is needed

    shape = {"spatial_dims": DIMENSIONS[kind], "n_input_channels": 3 if kind == "picture" else 1}
    match network:
        case "resnet50":
            net = ResNet("bottleneck", [3, 4, 6, 3], [64, 128, 256, 512], **shape, **_TORCHVISION)
            channels = 2048
        case "resnet18":
            net = ResNet("basic", [2, 2, 2, 2], [64, 128, 256, 512], **shape, **_TORCHVISION)
            channels = 512
        case "small":
            net = ResNet("basic", [1, 1, 1, 1], [16, 32, 64, 128], **shape, **_SMALL)
            channels = 128
    stem = [net.conv1, net.bn1, net.act] + ([] if net.no_max_pool else [net.maxpool])
    stages: list[nn.Module] = [nn.Sequential(*stem), net.layer1, net.layer2, net.layer3, net.layer4]
    return stages, channels


# torchvision's layout (25,557,032 parameters for resnet50 with its 1,000-way head)
_TORCHVISION = {
    "conv1_t_size": 7,
    "conv1_t_stride": 2,
    "bias_downsample": False,
    "feed_forward": False,
}
# for CPU work on small pictures: stride 16 in all, so 64 x 64 gives 4 x 4 tokens
_SMALL = {**_TORCHVISION, "conv1_t_size": 3, "no_max_pool": True}
