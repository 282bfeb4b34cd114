"""How wide the dense MLPs are, in each layer."""

from vllm_operator.fit.architectures import Family
from vllm_operator.fit.experts import Experts
from vllm_operator.fit.fields import Fields

NAMES = (
    "intermediate_size_mlp",
    "dense_intermediate_size",
    "block_ff_dim",
    "intermediate_size",
    "ffn_dim",
    "ffn_hidden_size",
    "n_inner",
)


def read_width(text: Fields, rules: Family, hidden: int, model_type: str, experts: Experts | None) -> int:
    """Width of the dense MLP, the widest where layers differ. Llama 4 names it beside its experts' width; LFM2 states
    1.5 times what it uses.

    Granite's hybrids without experts have their shared MLP alone.
    """
    if model_type == "granitemoehybrid" and experts is None and "shared_intermediate_size" in text:
        return text.need("shared_intermediate_size")
    listed = text.wholes("mlp_widths") or text.wholes("intermediate_size")
    if listed:
        return max(listed)
    found = text.whole(*NAMES)
    if found is not None and model_type == "lfm2" and text.flag("block_auto_adjust_ff_dim", default=True):
        step = text.whole("block_multiple_of") or 256
        return -(-int(2 * found / 3 * (text.number("block_ffn_dim_multiplier") or 1.0)) // step) * step
    if found is not None:
        return found
    return _untold(text, rules, hidden, model_type, experts)


def _untold(text: Fields, rules: Family, hidden: int, model_type: str, experts: Experts | None) -> int:
    told = any(name in text for name in NAMES)
    if rules.mlp == "none":
        return 0
    if rules.mlp == "plain" and not told:
        # GPT-2, GPT-J, BLOOM, MPT and Falcon are four times as wide as the hidden size unless told otherwise.
        return 4 * hidden
    if experts is not None and (model_type == "nemotron_h" or "moe_intermediate_size" in text) and not told:
        return 0
    return text.need("intermediate_size", default=rules.defaults.get("intermediate_size"))


def read_widths(text: Fields, layers: int, width: int) -> tuple[int, ...]:
    """The width of each layer's MLP, 0 for none; empty where all are alike."""
    told = text.wholes("mlp_widths")
    if told:
        return told
    shared = text.whole("num_kv_shared_layers") or 0
    if not text.flag("use_double_wide_mlp") or not 0 < shared < layers:
        return ()
    return (width,) * (layers - shared) + (2 * width,) * shared
