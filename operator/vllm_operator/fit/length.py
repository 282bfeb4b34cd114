"""The context length a model was made for, and the rows of its rotary table, as vLLM derives them."""

from vllm_operator.fit.architectures import Family
from vllm_operator.fit.fields import Fields

KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
DEFAULT_LENGTH = 2048
"""What vLLM assumes, with a warning, when the config names no length."""

SCALED_ALREADY = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling", "default", "mrope", "")


def context_lengths(text: Fields, rules: Family, model_type: str) -> tuple[int, int]:
    """(longest, default) max_model_len in tokens. Source: vLLM's _get_and_verify_max_len.

    The smallest of the keys counts, and linear and dynamic rope scaling multiply it. With yarn, releases up to 0.26 take
    factor × original length and 0.32 takes the key as it stands: the larger is not refused here, the default is the
    newer one. Longrope's default is the original length.
    """
    plain, scaled = yarn_lengths(text, rules)
    if scaled:
        return max(plain, scaled), plain
    longest = _longest(text, rules, model_type)
    if _scaling(text)[1] == "longrope":
        return longest, min(longest, text.whole("original_max_position_embeddings") or longest)
    return longest, longest


def yarn_lengths(text: Fields, rules: Family) -> tuple[int, int]:
    """(length that the config states, factor × original length); the second is 0 where there is no yarn."""
    scaling, kind, factor = _scaling(text)
    original = scaling.whole("original_max_position_embeddings")
    return _stated(text, rules), int(original * factor) if kind == "yarn" and original else 0


def _longest(text: Fields, rules: Family, model_type: str) -> int:
    length = _stated(text, rules)
    _, kind, factor = _scaling(text)
    if "gemma3" in model_type:
        return length
    return length if kind in SCALED_ALREADY else int(length * factor)


def _stated(text: Fields, rules: Family) -> int:
    found = [value for key in KEYS if (value := text.whole(key)) is not None]
    length = min(found) if found else rules.defaults.get("max_position_embeddings", DEFAULT_LENGTH)
    return text.whole("model_max_length") or length


def rope_rows(text: Fields, rules: Family) -> tuple[int, int]:
    """Rows of the rotary tables that every GPU keeps: positions of the config, not of max_model_len.

    Measured: positions × factor for linear scaling, original × factor for yarn, two tables for Gemma 3 (the second for
    its sliding layers).
    """
    if rules.positions != "rotary" or text.text("position_embedding_type") in ("nope", "alibi", "absolute"):
        return 0, 0
    rows = text.whole("max_position_embeddings", "n_positions", "seq_length", "max_seq_len") or rules.defaults.get(
        "max_position_embeddings", 0
    )
    scaling, kind, factor = _scaling(text)
    # Positions in images and videos: vLLM makes the table of these four times as long (MRotaryEmbedding).
    rows *= 4 if ("mrope_section" in scaling and not rules.plain_positions) or rules.rope_each_layer else 1
    second = rows if rules.two_ropes else 0
    if kind == "linear":
        return int(rows * factor), second
    if kind == "yarn":
        first = int((scaling.whole("original_max_position_embeddings") or rows) * factor)
        # DeepSeek 3.2's index has a table of its own.
        return first, first if rules.two_ropes and "index_head_dim" in text else 0
    return rows, second


def _scaling(text: Fields) -> tuple[Fields, str, float]:
    scaling = Fields(text.raw("rope_scaling"))
    if "rope_scaling" not in text:
        scaling = Fields(text.raw("rope_parameters"))
        if "full_attention" in scaling:
            scaling = Fields(scaling.raw("full_attention"))
    return scaling, scaling.text("rope_type", "type"), scaling.number("factor") or 1.0
