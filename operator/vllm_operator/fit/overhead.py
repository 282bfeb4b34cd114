"""What the engine takes beside weights and KV cache: activations, CUDA graphs, libraries, and the sampler's warm-up.

Formulas fitted on vLLM 0.26.0 on an H200 (25 dense runs within 0.3 % of the KV memory; always a cold compile cache,
which is what a new pod has), and held against 70 runs that came later, on up to four GPUs. B is max_num_batched_tokens,
S max_num_seqs, h and I hidden and intermediate size, V the vocabulary. Figures outside NVIDIA are allowances; `spread`
says how far to trust them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vllm_operator.fit.allowances import UNMEASURED, buffers, is_unmeasured
from vllm_operator.fit.architectures import NEW_RUNNER_EXPERTS, NEW_RUNNER_SPECULATION
from vllm_operator.fit.experts import Experts
from vllm_operator.fit.latents import unfolded
from vllm_operator.fit.shape import ModelShape
from vllm_operator.fit.trial import Trial, trial
from vllm_operator.fit.values import GIB, MIB, Accelerator, Arguments

NON_TORCH = 240 * MIB
"""Measured 230 to 246 MiB on one GPU."""

PARALLEL_NON_TORCH = 72 * MIB
"""Measured 66 and 68 MiB on each of two GPUs: NCCL takes its own before vLLM first looks at the card."""

COMMUNICATOR = 488 * MIB
"""Measured on two and four H200: what compiling takes beside the workspace of fused all-reduces (NCCL once more)."""

FUSED_ALL_REDUCE: Mapping[int, Mapping[int, float]] = {
    90: {2: 64, 4: 2, 8: 0.5},
    100: {2: 64, 4: 32, 8: 1, 16: 64},
    103: {2: 64, 4: 64, 8: 4, 16: 64},
}
"""Largest message in MiB that the compiler fuses into an all-reduce, by compute capability and tensor parallel size.

Source: FI_ALLREDUCE_FUSION_MAX_SIZE_MB of vLLM's allreduce_rms_fusion.py (0.26 and 0.33); other GPUs do not fuse.
"""

SAMPLED = 3.72
"""Copies of the logits in 32 bits that the older runner's profile holds while it samples."""

SPECULATED = 7.72
"""The same with speculation, whose profile samples two tokens a request (measured with n-grams and a draft model)."""

DRAFTED, DRAFTED_AND_COMPILED = 4, 10
"""Hidden states of a batch that EAGLE 3's draft is fed with: of three middle layers and the last one; and those that it
brings together while a cold compiler copies the embeddings once more (each measured once: 4 and 9.4)."""

CONTEXT = int(0.51 * GIB)
"""CUDA's context, outside the budget. With NCCL it was 1.43 to 1.53 GiB on two H200, which says little of other cards."""

SPREAD = {"nvidia": 0, "amd": GIB, "intel": 2 * GIB, "gaudi": 4 * GIB, "tpu": 2 * GIB, "cpu": 2 * GIB}
"""How much more another vendor's engine may take than these formulas say; within it the verdict is unknown."""

MEASURED_SEQS = 1024


@dataclass(frozen=True, slots=True)
class Overhead:
    """Bytes on one GPU.

    `spread` may be missing or to spare; `uncounted` may be needed on top (the trial run of an encoder that is not known, a compiler's copy of Gemma's embeddings of each layer).
    `warm_up` may be needed outside the budget, for the sampler's first run and the CUDA context; that it is, is sure only
    for as many requests at once as were measured (4096 of them ran in 7 GiB where this formula says 17).
    """

    activations: int
    non_torch: int
    cuda_graphs: int
    warm_up: int
    warm_up_is_sure: bool
    spread: int
    uncounted: int


def batch_defaults(arguments: Arguments, accelerator: Accelerator, shape: ModelShape) -> tuple[int, int]:
    """(max_num_batched_tokens, max_num_seqs) in force; vLLM's server defaults depend on the GPU.

    Source: EngineArgs.get_batch_defaults: 16384/1024 from 160 GiB, 8192/1024 from 70 GiB (but not on an A100),
    otherwise 2048/256; never more tokens than max_num_seqs requests of the whole length have, and for an encoder, which
    takes no prompt in pieces, no fewer than one has.
    """
    memory = accelerator.memory_bytes or 0
    if memory >= 160 * GIB:
        tokens, seqs = 16384, 1024
    elif memory >= 70 * GIB and "a100" not in accelerator.name:
        tokens, seqs = 8192, 1024
    else:
        tokens, seqs = 2048, 256
    length = arguments.max_model_len if (arguments.max_model_len or 0) > 0 else shape.usual
    if shape.is_encoder:
        tokens = max(tokens, length or 0)
    tokens = min(max(tokens, arguments.max_num_seqs or 0), (arguments.max_num_seqs or seqs) * max(length or 1, 1))
    tokens = arguments.max_num_batched_tokens or tokens
    return tokens, min(arguments.max_num_seqs or seqs, tokens)


def overhead(
    shape: ModelShape, arguments: Arguments, accelerator: Accelerator, dtype_bytes: int, block: int = 0
) -> Overhead:
    """The overhead of one GPU. `block`: tokens in a block of the KV cache."""
    tokens, seqs = batch_defaults(arguments, accelerator, shape)
    parallel = arguments.tensor_parallel_size * arguments.pipeline_parallel_size > 1
    old = uses_old_runner(shape, arguments)
    logits = 4 * seqs * shape.vocab
    length = arguments.max_model_len if (arguments.max_model_len or 0) > 0 else shape.usual
    tried = trial(shape, arguments, (tokens, seqs), length or 0, accelerator.memory_bytes or 0, old=old)
    activations = _forward(shape, arguments, (tokens, seqs), dtype_bytes, block)
    if old and arguments.runner != "pooling" and not shape.is_encoder:
        copies = SPECULATED if arguments.speculative_method else SAMPLED
        beside = _workspace(shape, arguments, tokens) + _states(shape, arguments, tokens)
        activations = max(activations, int(copies * logits) + tokens * shape.hidden * 2 + beside)
    if not old:
        activations = max(activations, _sampling(shape, arguments, tokens, seqs, dtype_bytes))
    activations = max(activations + tried.kept, tried.peak)
    libraries = _non_torch(shape, arguments, accelerator, tokens * dtype_bytes) if parallel else NON_TORCH
    return Overhead(
        activations=activations,
        non_torch=libraries + tried.libraries,
        cuda_graphs=_graphs(shape, arguments, seqs, old),
        # Up to 7.5 copies of the logits were measured, beyond the peak of the profile.
        warm_up=0 if old else CONTEXT + int(7.5 * logits) - activations // 2,
        # An encoder's trial run leaves memory behind that the sampler takes, how much is not known.
        warm_up_is_sure=seqs <= MEASURED_SEQS and not shape.encoders,
        spread=SPREAD.get(accelerator.vendor, 2 * GIB) + tried.spread,
        uncounted=_uncounted(shape, arguments, tried, dtype_bytes),
    )


def _uncounted(shape: ModelShape, arguments: Arguments, tried: Trial, dtype_bytes: int) -> int:
    if shape.encoders:
        return tried.doubt
    return UNMEASURED if is_unmeasured(shape) else _per_layer_copy(shape, arguments, dtype_bytes)


def _per_layer_copy(shape: ModelShape, arguments: Arguments, dtype_bytes: int) -> int:
    """A second copy of the layers' own embeddings, which a cold compiler may make as it does of the usual ones.

    Not measured, and so in doubt; behind a vision tower they are looked up before the compiled part.
    """
    own = shape.per_layer
    if own is None or arguments.enforce_eager:
        return 0
    return own.rows * shape.layers * own.width * dtype_bytes // arguments.tensor_parallel_size


def _non_torch(shape: ModelShape, arguments: Arguments, accelerator: Accelerator, batch: int) -> int:
    """What libraries take of the budget on each of several GPUs. `batch`: bytes of a batch that is one element wide.

    The compiler fuses all-reduces with the norms after them: a workspace of 4 × GPUs × the largest message, and one
    more communicator. Source: FlashInfer's trtllm_create_ipc_workspace_for_all_reduce_fusion (its other kind, which
    needs NVLink multicast, takes 6 messages); within 50 MiB in nine runs on two and four GPUs. Pipeline stages do not.
    """
    ways = arguments.tensor_parallel_size
    messages = FUSED_ALL_REDUCE.get(accelerator.capability or 0, {}) if accelerator.vendor == "nvidia" else {}
    if arguments.enforce_eager or ways not in messages:
        return PARALLEL_NON_TORCH
    message = min(int(messages[ways] * MIB), batch * shape.hidden)
    return PARALLEL_NON_TORCH + COMMUNICATOR + min(4 * ways, 32) * message


def _sampling(shape: ModelShape, arguments: Arguments, tokens: int, seqs: int, dtype_bytes: int) -> int:
    """The newer runner's profile after the forward pass: hidden states, and the logits of S requests in the model's dtype.

    With tensor parallelism each GPU has its share of the logits, all of them as they are gathered, and those put in
    order (vLLM's all_gather). Exact for Gemma 3 on two GPUs; within 10 MiB for 4096 requests of Qwen2.5 on one.
    """
    ways = arguments.tensor_parallel_size
    logits = dtype_bytes * seqs * shape.vocab
    gathered = 2 * logits + logits // ways if ways > 1 else logits
    return gathered + dtype_bytes * (tokens + seqs) * shape.hidden + 32 * MIB


def uses_old_runner(shape: ModelShape, arguments: Arguments) -> bool:
    """Whether vLLM 0.26 runs this model on its first model runner: experts, recurrent layers, pooling, n-grams, drafts.

    Source: VllmConfig.use_v2_model_runner, where the environment has the first word.
    """
    if arguments.old_runner is not None:
        return arguments.old_runner
    if shape.recurrent is not None or shape.is_encoder or arguments.runner == "pooling":
        return True
    if arguments.speculative_method and arguments.speculative_method not in NEW_RUNNER_SPECULATION:
        return True
    return shape.experts is not None and not NEW_RUNNER_EXPERTS.intersection(shape.architectures)


def _forward(shape: ModelShape, arguments: Arguments, batch: tuple[int, int], dtype_bytes: int, block: int) -> int:
    """Peak of one forward pass over B tokens, in a 16-bit dtype unless wider.

    Dense: 6 × B × (I + h) + 96 MiB (xIELU in torch's own operations, which nothing fuses: twice that), or 2 × V × h + 4 × B × h where the cold compiler's copy of the embedding is
    larger. Recurrent layers: 24 bytes × B × inner width (one measurement). Experts add their workspace.
    """
    tokens, ways = batch[0], arguments.tensor_parallel_size
    wide = shape.intermediate if shape.experts is None else max(shape.experts.shared_intermediate, shape.hidden)
    each = 12 if shape.model_type == "apertus" and arguments.enforce_eager else 6
    peak = each * tokens * (wide // ways + shape.hidden) + 96 * MIB
    if shape.recurrent is not None:
        peak = max(peak, 24 * tokens * shape.recurrent.inner // ways + 48 * MIB)
    if shape.per_layer is not None:
        # The layers' own embeddings of a batch: looked up, projected, and their sum, which all layers read from. Behind
        # an encoder they are looked up into a buffer that is made with the model.
        held = (4 if shape.per_layer.streams else 2) if shape.encoders else 6
        peak += held * tokens * shape.layers * shape.per_layer.width
    if shape.latent is not None:
        peak = unfolded(shape, shape.latent, batch, ways, block) + 40 * MIB
    # Behind an encoder the embeddings are looked up before the compiled part (measured on Qwen3 VL, Gemma 3 and 4).
    looked_up = any(not encoder.hears for encoder in shape.encoders)
    if not (arguments.enforce_eager or looked_up) and shape.experts is None and shape.recurrent is None:
        extra = tokens * shape.hidden if arguments.quantization == "fp8" else 0
        peak = max(peak, 2 * shape.vocab * shape.hidden // ways + 4 * tokens * shape.hidden + extra)
    if arguments.speculative_method == "eagle3":
        peak += 2 * tokens * shape.hidden * (DRAFTED if arguments.enforce_eager else DRAFTED_AND_COMPILED)
    if arguments.enable_lora:
        peak += 60 * MIB
    length = arguments.max_model_len if (arguments.max_model_len or 0) > 0 else shape.usual
    peak += buffers(shape, tokens, length or 0)
    return (peak + _workspace(shape, arguments, tokens)) * max(dtype_bytes, 2) // 2


def _workspace(shape: ModelShape, arguments: Arguments, tokens: int) -> int:
    """The two buffers of vLLM's fused experts: B × experts per token × the widest of their shapes, in 16 bits.

    Data parallel engines gather one another's tokens for their experts (measured: twice the buffers with two engines).
    """
    experts: Experts | None = shape.experts
    if experts is None:
        return 0
    engines = arguments.data_parallel_size
    ways = 1 if arguments.enable_expert_parallel else arguments.tensor_parallel_size * engines
    wide = max(1, experts.intermediate // ways)
    return 2 * engines * tokens * experts.per_token * (max(wide, shape.hidden) + max(2 * wide, shape.hidden))


def _states(shape: ModelShape, arguments: Arguments, tokens: int) -> int:
    """What Mamba 2 layers among experts keep while the older runner samples (measured once, on Nemotron 3 Nano)."""
    if shape.experts is None or shape.recurrent is None or shape.recurrent.kind != "mamba2":
        return 0
    return 24 * tokens * shape.recurrent.inner // arguments.tensor_parallel_size


def _graphs(shape: ModelShape, arguments: Arguments, seqs: int, old: bool) -> int:
    """What the budget gives up for CUDA graphs.

    The older runner's estimate grows with the number of batch sizes captured, each in pieces and (but for pooling)
    whole. The newer one's is only taken off by later releases: 1 GiB, 2 GiB from 60 layers on.
    """
    if arguments.enforce_eager or shape.is_encoder:
        return 0
    if old:
        times = 1 if arguments.runner == "pooling" else 2
        return int(times * _captured(seqs) * _graph_mib(shape, arguments) * MIB)
    if arguments.estimates_cuda_graphs:
        return GIB if shape.layers < 60 else 2 * GIB
    return 0


def _graph_mib(shape: ModelShape, arguments: Arguments) -> float:
    """MiB a graph, the most that was measured of its kind (in brackets, how many runs)."""
    if arguments.data_parallel_size > 1 and shape.experts is not None:
        return 21.3  # (1) the gathering of the other engines' tokens is part of each graph
    if shape.latent is not None:
        return 16.5  # (1)
    if shape.experts is not None:
        return 8.4  # (20) 2.8 to 8.4
    if arguments.draft_weights_bytes:
        return 8.5  # (1) two models
    if "both" in shape.kinds:
        return 8.2  # (1)
    if shape.recurrent is not None and shape.recurrent.kind == "delta":
        return 10.7  # (1)
    return 5.6 if shape.recurrent is not None else 6.1  # (6) 2.7 to 5.6 and (4) 4.2 to 6.1


def _captured(seqs: int) -> int:
    """Number of batch sizes captured: 1, 2, 4, then by 8 below 256 and by 16 up to min(2 × S, 512)."""
    largest = min(2 * seqs, 512)
    return sum(size <= largest for size in (1, 2, 4)) + min(largest, 255) // 8 + max(0, largest - 240) // 16
