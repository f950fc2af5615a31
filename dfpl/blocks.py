"""Building blocks that several encoders and methods share. B samples, L tokens, D width."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class FeedForward(nn.Sequential):
    """Linear D -> r D, GELU, Linear r D -> D."""

    def __init__(self, width: int, ratio: int = 4) -> None:
        inner = ratio * width
        super().__init__(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))


class TransformerBlock(nn.Module):
    """Pre-norm block: x + attention(norm x), then x + feed_forward(norm x)."""

    def __init__(self, width: int, heads: int, ratio: int = 4) -> None:
        """`ratio`: how many times as wide as the tokens the feed-forward part is inside."""
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, ratio)

    def forward(
        self, tokens: Float[Tensor, "B L D"], visible: Bool[Tensor, "B L L"]
    ) -> Float[Tensor, "B L D"]:
        """`visible[b, q, k]`: whether token q may look at token k."""
        tokens = tokens + self._attend(self.attention_norm(tokens), visible)
        return tokens + self.feed_forward(self.feed_forward_norm(tokens))

    def _attend(
        self, tokens: Float[Tensor, "B L D"], visible: Bool[Tensor, "B L L"]
    ) -> Float[Tensor, "B L D"]:
        B, L, D = tokens.shape
        heads = self.qkv(tokens).view(B, L, 3, self.heads, D // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, heads, L, D / heads)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=visible[:, None])
        return self.project(mixed.transpose(1, 2).reshape(B, L, D))


class CrossAttention(nn.Module):
    """One-head attention of learned queries over tokens, scaled by sqrt(D) (Eqs. 2 and 9).

    The queries are the same for all samples, so the key map is applied to them and not to every
    token, and the value map to what was mixed: q . (W_k t) = (W_k^T q) . t, and
    sum_l a_l W_v t_l = W_v sum_l a_l t_l. The same numbers up to rounding, for fewer products.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)

    def weights(
        self,
        queries: Float[Tensor, "Q D"],
        tokens: Float[Tensor, "B L D"],
        visible: Bool[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B Q L"]:
        """The attention weights; invisible tokens get exactly 0."""
        asked = self.query(queries) @ self.key.weight / queries.shape[1] ** 0.5  # (Q, D)
        scores = asked @ tokens.mT  # (B, Q, L)
        if visible is not None:
            scores = scores.masked_fill(~visible[:, None], float("-inf"))
        return scores.softmax(dim=-1)

    def forward(
        self,
        queries: Float[Tensor, "Q D"],
        tokens: Float[Tensor, "B L D"],
        visible: Bool[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        return self.value(self.weights(queries, tokens, visible) @ tokens)
