"""The decoder: embedding, a scan over blocks, a final norm."""

from typing import Any, cast

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Int

from agentprm_jax.models.attention import Context, Past
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.layers import SAVED, Block, RMSNorm
from agentprm_jax.models.parameters import declare
from agentprm_jax.models.placement import Constrain, unconstrained


class Decoder(nn.Module):
    """Tokens to hidden states; parameters of all blocks are stacked along a leading `layers` axis."""

    config: DecoderConfig
    constrain: Constrain = unconstrained

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b t"], past: Past | None, context: Context
    ) -> tuple[Float[Array, "b t d"], Past]:
        """Run the decoder.

        Args:
            tokens: token ids in [0, vocab_size).
            past: keys and values `[l, b, k, s, e]` of earlier tokens, or None.
            context: rotation, segments and visible lengths, shared by all layers.

        Returns:
            Hidden states after the final norm, and keys and values `[l, b, k, t, e]` of the call's own tokens.
        """
        c = self.config
        init = nn.initializers.normal(0.02)
        embedding = declare(self, "embedding", init, (c.vocab_size, c.embed), ("vocab", "embed"), c.param_dtype)
        hidden, present = self._blocks()(self._embedded(embedding, tokens), past, context)
        return RMSNorm(c, name="final_norm")(hidden), present

    def _embedded(self, embedding: Float[Array, "v d"], tokens: Int[Array, "b t"]) -> Float[Array, "b t d"]:
        """Rows of the table, looked up where its columns lie and only then sent to where their tokens belong.

        Left to itself the partitioner looks up every token of all devices on each.
        """
        rows = embedding[self.constrain(tokens, ("replica", None))].astype(self.config.dtype)
        return self.constrain(self.constrain(rows, ("replica", None, "embed")), ("batch", None, None))

    def _blocks(self) -> nn.Module:
        policies = jax.checkpoint_policies
        policy = policies.nothing_saveable if self.config.remat else policies.save_only_these_names(*SAVED)
        scanned = nn.scan(
            nn.remat(Block, prevent_cse=False, policy=policy),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=cast(Any, (0, nn.broadcast)),
            length=self.config.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        return scanned(self.config, self.constrain, name="layers")
