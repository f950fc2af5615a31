"""What a method's config says of its encoders and of its classification loss: the same fields,
under the same names, in all methods that have them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dfpl.config import MethodConfig
from dfpl.encoders import EncodeMissing
from dfpl.encoders.image import ImageNetwork, ImageSplit
from dfpl.encoders.tabular import check_heads


class EncoderConfig(MethodConfig):
    """What the encoder of either modality needs to know."""

    width: Annotated[int, Field(ge=8)] = 512
    """D, size of every token."""
    task_loss: Literal["ce", "bce"] = "ce"
    """Softmax cross-entropy, or binary cross-entropy per class; multi-label data takes the latter
    in any case."""
    encode_missing: EncodeMissing = "zeros"
    """Encode a zero input for an absent modality, or skip it."""


class ImageEncoderConfig(EncoderConfig):
    """An encoder of images."""

    image_network: ImageNetwork = "resnet50"
    """Image encoder; `small` is for CPU work on small pictures."""


class TabularEncoderConfig(EncoderConfig):
    """An encoder of tables."""

    tabular_heads: Annotated[int, Field(ge=1)] = 8
    """Attention heads of the tabular encoder, and of what other transformer blocks there are."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "TabularEncoderConfig":
        check_heads(self.width, self.tabular_heads)
        return self


class PlainTabularEncoderConfig(TabularEncoderConfig):
    """An encoder of tables without branches."""

    tabular_depth: Annotated[int, Field(ge=1)] = 4
    """Transformer blocks of the tabular encoder."""


class PlainEncodersConfig(ImageEncoderConfig, PlainTabularEncoderConfig):
    """Encoders of both modalities without branches."""


class BranchedEncodersConfig(ImageEncoderConfig, TabularEncoderConfig):
    """Encoders of both modalities with a shared and a specific branch each."""

    image_split: ImageSplit = "stem"
    """Last stage that the shared and the specific image branch have in common."""
    tabular_shared_depth: Annotated[int, Field(ge=0)] = 2
    """Transformer blocks that the branches of the tabular encoder have in common."""
    tabular_branch_depth: Annotated[int, Field(ge=1)] = 2
    """Transformer blocks of each branch of the tabular encoder."""
