"""What Gemma 3n and 4 add to a decoder: embeddings of their own for each layer, and 3n's low-rank and parallel streams."""

from dataclasses import dataclass

from vllm_operator.fit.architectures import Family
from vllm_operator.fit.fields import Fields


@dataclass(frozen=True, slots=True)
class PerLayer:
    """Embeddings for each layer: rows and width. `low_rank` and `streams` are Gemma 3n's laurel and altup, 0 without."""

    rows: int
    width: int
    low_rank: int
    streams: int


def read_per_layer(text: Fields, rules: Family) -> PerLayer | None:
    """The embeddings, or None where the family has none or the config switches them off."""
    told = text.whole("hidden_size_per_layer_input", least=0)
    width = rules.defaults.get("hidden_size_per_layer_input", 0) if told is None else told
    if "hidden_size_per_layer_input" not in rules.reads or not width:
        return None
    rows = text.need("vocab_size_per_layer_input", default=rules.defaults.get("vocab_size_per_layer_input"))
    low_rank = text.whole("laurel_rank") or rules.defaults.get("laurel_rank", 0)
    streams = text.whole("altup_num_inputs") or rules.defaults.get("altup_num_inputs", 0)
    return PerLayer(rows, width, low_rank, streams)
