"""The weight matrices of a model, from its shape: how large, how often, how they split, what can be quantized.

Biases and norms are left out (under 0.1 %). Fused as vLLM fuses them (query/key/value, gate/up, all experts of a
layer), since memory is handed out per fused tensor.
"""

from collections import Counter
from collections.abc import Iterator

from vllm_operator.fit.compressed import Compressed
from vllm_operator.fit.encoders import Encoder
from vllm_operator.fit.experts import Experts
from vllm_operator.fit.gemma import PerLayer
from vllm_operator.fit.heads import Heads, Latent
from vllm_operator.fit.matrix import Matrix, Split
from vllm_operator.fit.shape import ModelShape
from vllm_operator.fit.streams import ngram_matrices, stream_matrices


def matrices(shape: ModelShape) -> tuple[Matrix, ...]:
    """All matrices of the model. Exact for the families in architectures.yaml; vision towers are an estimate."""
    found = [*_ends(shape), *_attention(shape), *_recurrent(shape), *_mlps(shape)]
    if shape.per_layer is not None:
        found += _per_layer(shape, shape.per_layer)
    if shape.experts is not None:
        found += _experts(shape, shape.experts)
    if shape.index is not None:
        found += shape.index.matrices(shape.hidden)
    if shape.streams is not None:
        found += stream_matrices(shape.streams, shape.hidden, shape.layers)
    if shape.ngrams is not None:
        found += ngram_matrices(shape.ngrams, shape.hidden, shape.streams)
    for encoder in shape.encoders:
        found += _tower(encoder)
    return tuple(matrix for matrix in found if matrix.total > 0)


def _tower(encoder: Encoder) -> Iterator[Matrix]:
    """An encoder's layers, and what joins it to the language model."""
    attention = encoder.attention_parameters
    looking: Split = "none" if encoder.whole else "tensor"
    rest: Split = "none" if encoder.whole == "tower" else "tensor"
    yield Matrix(attention, encoder.layers, "vision", looking, linear=False)
    yield Matrix(encoder.layer_parameters - attention, encoder.layers, "vision", rest, linear=False)
    yield Matrix(encoder.joins, 1, "vision", looking, linear=False)


def _ends(shape: ModelShape) -> Iterator[Matrix]:
    """Embedding and output head, padded to 64 rows as vLLM pads them; neither is quantized by default."""
    rows, wide = -(-shape.vocab // 64) * 64, shape.embedding or shape.hidden
    yield Matrix(rows * wide, 1, "embedding", linear=False)
    own_head = shape.family is not None and shape.family.own_head
    if (not shape.tied or own_head) and not shape.is_encoder:
        yield Matrix(rows * wide, 1, "head", linear=False, made=shape.tied)
    if wide != shape.hidden:
        yield Matrix(2 * wide * shape.hidden, 1, "embedding", "none", linear=False)
    if shape.family is not None and shape.family.positions == "learned":
        yield Matrix(shape.longest * shape.hidden, 1, "embedding", "none", linear=False)


def _attention(shape: ModelShape) -> Iterator[Matrix]:
    if shape.compressed is not None:
        yield from _compressed(shape, shape.compressed)
        return
    if shape.blocks is not None:
        yield from shape.blocks.matrices(shape.hidden, shape.kinds.count("both"))
        return
    pairs = list(zip(shape.kinds, shape.attention, strict=True))
    with_attention = [heads for kind, heads in pairs if kind not in ("recurrent", "none")]
    if shape.convolutions is not None:
        for heads, layers in Counter(with_attention).items():
            yield Matrix(heads.query * shape.convolutions.relative * shape.hidden, layers, inputs=shape.hidden)
    # The attention to an encoder's output is made as the other is.
    with_attention += [heads for kind, heads in pairs if kind == "crossed"]
    for heads, layers in Counter(with_attention).items():
        if shape.made_through is not None:
            yield from _latent(shape, shape.made_through, layers)
        elif heads.query:
            yield from _heads(shape, heads, layers)


def _heads(shape: ModelShape, heads: Heads, layers: int) -> Iterator[Matrix]:
    """Queries, keys and values in one matrix, and the outputs'."""
    query, hidden = heads.query * heads.dim, shape.hidden
    # Qwen3-Next and its like carry an output gate as wide as the query.
    wide = 2 * query if shape.family is not None and shape.family.gated_attention else query
    both = 0 if heads.shared else heads.kv * (heads.dim + heads.value) * hidden
    values = heads.kv * heads.value * hidden if heads.joined and both else 0
    if heads.rank:
        # Step 3 makes its queries through a narrower width; that and the keys are whole on every GPU.
        yield Matrix(heads.rank * query, layers, inputs=heads.rank)
        wide = heads.rank
    yield Matrix(wide * hidden + both - values, layers, kv_elements=both - values, inputs=hidden, kv_heads=heads.kv)
    yield Matrix(values, layers, kv_elements=values, inputs=hidden, kv_heads=heads.kv, made=True)
    yield Matrix(heads.query * heads.value * hidden, layers, inputs=heads.query * heads.value, across=True)


def _latent(shape: ModelShape, latent: Latent, layers: int) -> Iterator[Matrix]:
    """Multi-head latent attention: the down projections are whole on every GPU, the up projections split by heads."""
    query = shape.heads * (latent.nope_dim + latent.rope_dim)
    down = latent.kv_rank + latent.rope_dim
    if latent.query_rank:
        yield Matrix((latent.query_rank + down) * shape.hidden, layers, split="none", inputs=shape.hidden)
        yield Matrix(query * latent.query_rank, layers, inputs=latent.query_rank)
    else:
        yield Matrix(down * shape.hidden, layers, split="none", inputs=shape.hidden)
        yield Matrix(query * shape.hidden, layers, inputs=shape.hidden)
    yield Matrix(shape.heads * (latent.nope_dim + latent.value_dim) * latent.kv_rank, layers, inputs=latent.kv_rank)
    yield Matrix(
        shape.heads * latent.value_dim * shape.hidden, layers, inputs=shape.heads * latent.value_dim, across=True
    )
    if latent.gates:
        yield Matrix(latent.gates * shape.hidden, layers, inputs=shape.hidden)
    if latent.indexer_width and latent.query_rank:
        # The sparse indexer is whole on every GPU, and small beside the rest.
        wide = latent.indexer_heads * latent.indexer_width
        rows = latent.indexer_width + latent.indexer_heads
        indexed = layers - len(latent.unindexed)
        yield Matrix(wide * latent.query_rank + rows * shape.hidden, indexed, split="none")


def _compressed(shape: ModelShape, held: Compressed) -> Iterator[Matrix]:
    """DeepSeek V4: one key for all heads, outputs brought together in groups, and compressors where a layer has one."""
    hidden, layers, wide = shape.hidden, shape.layers, held.width
    grouped = held.groups * held.output_rank
    yield Matrix((held.query_rank + wide) * hidden, layers, split="none", inputs=hidden)
    yield Matrix(shape.heads * wide * held.query_rank, layers, inputs=held.query_rank)
    yield Matrix(shape.heads * wide * held.output_rank, layers, inputs=shape.heads * wide // max(held.groups, 1))
    yield Matrix(grouped * hidden, layers, inputs=grouped, across=True)
    for rows, count in held.rows():
        yield Matrix(rows * hidden, count, split="none", linear=False)
    queries = held.index_heads * held.index_width * held.query_rank
    yield Matrix(queries, held.indexed, split="none", inputs=held.query_rank)
    yield Matrix(held.index_heads * hidden, held.indexed, split="none", linear=False)


def _recurrent(shape: ModelShape) -> Iterator[Matrix]:
    held = shape.recurrent
    layers = sum(kind in ("recurrent", "both") for kind in shape.kinds)
    if held is None or not layers:
        return
    hidden, inner = shape.hidden, held.inner
    match held.kind:
        case "conv":
            yield Matrix(3 * inner * hidden, layers, inputs=hidden)
        case "mamba1":
            yield Matrix(2 * inner * hidden, layers, inputs=hidden)
            yield Matrix((held.rank + 2 * held.state) * inner + held.rank * inner, layers, linear=False)
            # The state matrix A is kept in 32 bits whatever the model's dtype.
            yield Matrix(inner * held.state * 2 + inner * held.kernel, layers, linear=False)
        case "mamba2":
            channels = 2 * inner + 2 * held.groups * held.state + held.heads
            yield Matrix(channels * hidden, layers, inputs=hidden)
        case "delta":
            keys = held.groups * held.state
            yield Matrix((2 * keys + 2 * inner + 2 * held.heads) * hidden, layers, inputs=hidden)
        case "kimi":
            # Of the two gates, those that go through the width of one head have that whole on every GPU.
            narrow = 2 - held.whole_gates
            yield Matrix(((3 + held.whole_gates) * inner + held.heads) * hidden, layers, inputs=hidden)
            yield Matrix(narrow * hidden * held.head_dim, layers, split="none", inputs=hidden)
            yield Matrix(narrow * held.head_dim * inner, layers, inputs=held.head_dim)
        case "lightning":
            # Queries, keys, values and the output's gate.
            yield Matrix(4 * inner * hidden, layers, inputs=hidden)
    yield Matrix(inner * hidden, layers, inputs=inner, across=True)


def _mlps(shape: ModelShape) -> Iterator[Matrix]:
    """The dense MLPs: in every layer that has no experts (and, where a pattern places them, only in those layers)."""
    if shape.family is None or shape.family.mlp == "none" or not shape.intermediate or shape.blocks is not None:
        return
    with_experts = shape.experts.layers if shape.experts is not None else frozenset()
    layers = shape.layers - len(with_experts)
    if shape.model_type == "nemotron_h":
        layers = sum(kind == "none" for kind in shape.kinds) - len(with_experts)
    times = Counter(shape.widths) or {shape.intermediate: layers}
    wide = 2 if shape.family.mlp == "gated" else 1
    for inner, count in times.items():
        yield Matrix(wide * inner * shape.hidden, count, inputs=shape.hidden)
        yield Matrix(inner * shape.hidden, count, inputs=inner, across=True)


def _per_layer(shape: ModelShape, own: PerLayer) -> Iterator[Matrix]:
    """The embeddings of each layer, and Gemma 3n's further streams; all but the first two whole on every GPU."""
    hidden, streams = shape.hidden, own.streams
    yield Matrix(-(-own.rows // 64) * 64 * shape.layers * own.width, 1, "embedding", linear=False)
    yield Matrix(hidden * shape.layers * own.width, 1, "embedding", linear=False)
    yield Matrix(2 * hidden * (own.width + own.low_rank), shape.layers, split="none", inputs=hidden)
    if streams:
        yield Matrix(hidden * streams + streams**2 + streams**3, shape.layers, split="none", linear=False)
        yield Matrix(2 * (streams - 1) * hidden**2, 1, "embedding", "none", linear=False)


def _experts(shape: ModelShape, experts: Experts) -> Iterator[Matrix]:
    layers = len(experts.layers)
    wide = 1 if shape.model_type == "nemotron_h" else 2
    worked = experts.latent or shape.hidden
    each = experts.intermediate * worked
    yield Matrix(wide * experts.count * each, layers, split="expert", experts=True, inputs=worked)
    yield Matrix(experts.count * each, layers, split="expert", experts=True, inputs=experts.intermediate, across=True)
    yield Matrix(experts.count * shape.hidden, layers, split="none", linear=False)
    if experts.latent:
        yield Matrix(2 * experts.latent * shape.hidden, layers, split="none", inputs=shape.hidden)
    if experts.shared_intermediate:
        shared = experts.shared_intermediate * shape.hidden
        yield Matrix(wide * shared, layers, inputs=shape.hidden)
        yield Matrix(shared, layers, inputs=experts.shared_intermediate, across=True)
