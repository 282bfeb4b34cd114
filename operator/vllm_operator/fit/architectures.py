"""The families of models the fit knows, from architectures.yaml: what config.json itself does not say."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

MULTI_HEAD_LATENT = frozenset(
    {
        *(
            "axk1",
            "bailing_hybrid",
            "deepseek_v2",
            "deepseek_v3",
            "deepseek_v32",
            "deepseek_vl_v2",
            "glm4_moe_lite",
            "glm5_next",
            "glm5_next_text",
            "glm_moe_dsa",
            "hy_v4",
            "kimi_k2",
            "kimi_linear",
        ),
        *("longcat_flash", "mistral4", "pangu_ultra_moe", "sarvam_mla"),
    }
)
"""Model types whose attention vLLM caches as one latent vector once `kv_lora_rank` is set (its is_deepseek_mla)."""

NO_FLOAT16 = frozenset({"gemma2", "gemma3", "gemma3_text", "plamo2", "glm4"})
"""Model types that vLLM refuses in float16 for numerical instability."""

NEW_RUNNER_EXPERTS = frozenset({"DeepseekV2ForCausalLM", "GraniteMoeForCausalLM", "Qwen2MoeForCausalLM"})
"""Mixture-of-experts architectures that run on vLLM 0.26's second model runner, as all plain decoders do."""

NEW_RUNNER_SPECULATION = frozenset({"eagle", "eagle3", "mtp", "dflash", "dspark"})
"""Methods of speculation that run on it; n-grams, drafts of their own and the rest keep the model on the first."""


POOLING = (
    *(
        "ForTextEncoding",
        "EmbeddingModel",
        "ForSequenceClassification",
        "ForTokenClassification",
        "ForAudioClassification",
    ),
    *(
        "ForImageClassification",
        "ForVideoClassification",
        "ClassificationModel",
        "ForRewardModeling",
        "RewardModel",
        "Model",
    ),
)
"""How the names of architectures end that vLLM serves as pooling models unless told otherwise (its _SUFFIX_TO_DEFAULTS)."""

GENERATING = ("ChatModel", "LMHeadModel")


class Window(BaseModel):
    """Which layers slide when the config has a window but no layer_types. `ends_full`: the last one never does."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    every: int = 1
    switch: str | None = None
    ends_full: bool = False


class Family(BaseModel):
    """One model type. `own_heads`: the fields that tell a kind of layer's heads (query, kv, dim, value) where they differ.

    `own_values`: values may be of another width than keys. `unfolded`: keys and values are made through a latent and
    kept whole. `crossed`: every layer attends to an encoder's output, too. `reads`: fields that the fit refuses of other families.
    `own_head`: vLLM makes an output head of its own whatever the config says of ties.
    `streams`: several residual streams, mixed once more at the `ended` model's end. `index`: how sparse attention keeps what it
    chooses by. `plain_positions`: the rotary table is no longer for images. `shared_blocks`: layers take turns with few transformers.
    `convolved`: short convolutions beside attention. `tower`: hidden size, width and layers of an encoder of images that no config tells of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    mlp: Literal["gated", "plain", "none"]
    tied: bool = False
    own_head: bool = False
    defaults: Mapping[str, int] = {}
    nested: Mapping[str, int] = {}
    window: Window = Window()
    positions: Literal["rotary", "learned", "alibi"] = "rotary"
    two_ropes: bool = False
    rope_each_layer: bool = False
    multi_query: bool = False
    encoder: bool = False
    gated_attention: bool = False
    recurrent: Literal["mamba1", "mamba2", "conv"] | None = None
    own_heads: Mapping[str, Mapping[str, str]] = {}
    own_values: bool = False
    unfolded: bool = False
    crossed: bool = False
    streams: Literal["", "open", "ended"] = ""
    index: Literal["", "beside", "pooled", "compressed"] = ""
    plain_positions: bool = False
    shared_blocks: bool = False
    convolved: bool = False
    tower: tuple[int, int, int] | None = None
    reads: frozenset[str] = frozenset()

    def within(self, nested: bool) -> "Family":
        """The family, with the defaults of a text_config, which is published without what equals them."""
        return self.model_copy(update={"defaults": {**self.nested, **self.defaults}}) if nested else self


@cache
def families() -> Mapping[str, Family]:
    """All known model types; read once."""
    data = yaml.safe_load(files(__package__).joinpath("architectures.yaml").read_text("utf-8"))
    return {name: Family.model_validate(entry) for name, entry in data.items()}
