"""Quantization: which method a model will be served with, whether the accelerator has it, and bytes per weight."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import yaml
from pydantic import BaseModel, ConfigDict

from vllm_operator.fit.fields import Fields
from vllm_operator.fit.values import Accelerator, Arguments, Problem

MXFP4 = 0.5 + 1 / 32
"""Bytes of a weight: 4 bits, and one byte of scale for 32 of them."""


class Making(BaseModel):
    """What a method asks for while it is made from a 16-bit checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    least: int
    dtypes: tuple[str, ...]


class Method(BaseModel):
    """One method of quantization.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    least: int
    vendors: tuple[str, ...]
    dtypes: tuple[str, ...]
    same: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    online: bool = False
    bytes: float | None = None
    experts: bool = False
    making: Making | None = None
    deprecated: bool = False
    absent: str | None = None

    def asks(self, online: bool) -> Making:
        """The least capability and the dtypes: for a checkpoint, or for making it while the weights load."""
        return self.making if online and self.making else Making(least=self.least, dtypes=self.dtypes)


@dataclass(frozen=True, slots=True)
class Scheme:
    """How weights are stored. `weight_bytes` is None where the config does not tell (the files have to).

    `file_bytes` differs from it where loading re-packs. `steps`: what the kernel rounds the experts' width on one GPU
    and the hidden size up to. `expert_bytes`: of the experts' weights, where they are kept narrower than the rest.
    """

    method: str = ""
    weight_bytes: float | None = None
    file_bytes: float | None = None
    experts_only: bool = False
    group: int = 0
    online: bool = False
    quantized: bool = False
    steps: tuple[int, int] = (1, 1)
    expert_bytes: float | None = None

    def bytes_of(self, *, experts: bool) -> float | None:
        """Bytes of a quantized weight in memory."""
        return self.expert_bytes if experts and self.expert_bytes is not None else self.weight_bytes


@cache
def methods() -> Mapping[str, Method]:
    """All methods by canonical name; read once."""
    data = yaml.safe_load(files(__package__).joinpath("quantization.yaml").read_text("utf-8"))
    return {name: Method.model_validate(entry) for name, entry in data.items()}


@cache
def canonical(name: str) -> str:
    """The one name of a method that has several (awq_marlin is awq); unknown names come back as they are."""
    name = name.strip().lower().replace("compressed_tensors", "compressed-tensors")
    return next((known for known, method in methods().items() if name in method.same), name)


def checkpoint_method(config: Mapping[str, object]) -> str:
    """The method a quantization_config names, "" for none. NVIDIA ModelOpt files name a producer instead."""
    fields = Fields(config)
    producer = fields.part("producer").text("name")
    algorithm = (fields.part("quantization").text("quant_algo") or fields.text("quant_algo")).upper()
    named = fields.text("quant_method")
    if algorithm and (producer == "modelopt" or named in ("", "modelopt")):
        return "modelopt_fp4" if "NVFP4" in algorithm else "modelopt_mixed" if "MIXED" in algorithm else "modelopt"
    if not named and (fields.flag("load_in_4bit") or fields.flag("load_in_8bit")):
        return "bitsandbytes"
    return canonical(named)


def left_out(config: Mapping[str, object]) -> bool:
    """Whether the checkpoint names matrices of its layers that it leaves unquantized (not norms, gates or the head)."""
    fields = Fields(config)
    inner = fields.part("quantization")
    names = ("ignore", "ignored_layers", "modules_to_not_convert", "exclude_modules", "exclude")
    listed = [text.lower() for part in (fields, inner) for name in names for text in part.texts(name)]
    return any(
        part in text and not text.rstrip("*.$").endswith((".gate", "norm", "router"))
        for text in listed
        for part in ("attn", "attention", "_proj", "mlp", "experts", "layers.")
    )


def resolve(config: Mapping[str, object], arguments: Arguments, accelerator: Accelerator) -> Scheme | Problem:
    """The scheme in force, or why vLLM would refuse it (unknown, contradicting the checkpoint, or not on this GPU)."""
    stored = checkpoint_method(config)
    asked = canonical(arguments.quantization or "")
    if asked in ("", "none", "auto"):
        asked = stored
    refused = _nameless(stored, config) or _contradiction(stored, asked) or _unknown(asked, arguments)
    refused = refused or _unsupported(asked, accelerator, config, online=not stored)
    if refused is not None:
        return refused
    if not asked:
        return Scheme()
    if not stored:
        entry = methods()[asked]
        return Scheme(asked, entry.bytes, experts_only=entry.experts, online=True, quantized=True)
    scheme = _stored_scheme(stored, asked, Fields(config))
    return replace(scheme, steps=_steps(accelerator)) if stored == "mxfp4" or scheme.expert_bytes == MXFP4 else scheme


def _steps(accelerator: Accelerator) -> tuple[int, int]:
    """(width, hidden size) that MXFP4's kernels are laid out in.

    Source: vLLM's mxfp4_round_up_hidden_size_and_intermediate_size, with the kernel each kind of GPU is given: Triton's on
    Hopper, TensorRT-LLM's on data-center Blackwell, Marlin's on the others. Measured on two H200 (GPT-OSS: 1440 become 1472).
    """
    capability = accelerator.capability or 0
    if accelerator.vendor == "amd" or (accelerator.vendor == "nvidia" and 100 <= capability < 110):
        return 256, 256
    if accelerator.vendor == "nvidia" and capability // 10 != 9:
        return 128, 256
    return 64, 1


def _nameless(stored: str, config: Mapping[str, object]) -> Problem | None:
    """MLX's checkpoints tell bits and groups and name no method; vLLM knows none of that name."""
    if stored or "bits" not in Fields(config):
        return None
    message = "the checkpoint's quantization_config names no quant_method, as MLX's do, and vLLM does not read those"
    return Problem("QuantizationUnknown", message)


def _contradiction(stored: str, asked: str) -> Problem | None:
    entry = methods().get(asked)
    if stored and asked != stored and not (entry and stored in entry.over):
        message = f"quantization {asked} contradicts the checkpoint, which is quantized with {stored}"
        return Problem("QuantizationMismatch", message, ({"quantization": None},))
    if asked and not stored and entry is not None and not entry.online and entry.absent is None:
        message = f"quantization {asked} needs a checkpoint quantized with it, and this one is not quantized"
        return Problem("QuantizationMismatch", message, ({"quantization": None}, {"quantization": "fp8"}))
    return None


def _unknown(asked: str, arguments: Arguments) -> Problem | None:
    entry = methods().get(asked)
    wanted = entry is not None and (not entry.deprecated or arguments.allow_deprecated_quantization)
    if not asked or (entry is not None and entry.absent is None and wanted):
        return None
    if entry is None:
        message = f"quantization {asked} is not a method of vLLM"
    elif entry.deprecated:
        message = f"quantization {asked} is deprecated; extraArgs: [--allow-deprecated-quantization] lets vLLM take it"
        return Problem("QuantizationUnknown", message)
    else:
        message = f"quantization {asked} is not in the stock vLLM image any more: it takes {entry.absent}"
    return Problem("QuantizationUnknown", message, ({"quantization": None},))


def _unsupported(asked: str, accelerator: Accelerator, config: Mapping[str, object], *, online: bool) -> Problem | None:
    entry = methods().get(asked)
    if not asked or entry is None or accelerator.vendor in ("cpu", "gaudi", "tpu"):
        return None
    if accelerator.vendor not in entry.vendors:
        message = f"quantization {asked} is not supported on {accelerator.vendor} by vLLM"
        return Problem("QuantizationUnsupportedByGPU", message, ({"quantization": None},))
    have = accelerator.capability
    least = _scheme_least(Fields(config)) if asked == "compressed-tensors" else entry.asks(online).least
    if have is None or have >= least:
        return None
    message = (
        f"quantization {asked} needs compute capability {least / 10:.1f}, "
        f"{accelerator.name} has {accelerator.compute_capability}"
    )
    return Problem("QuantizationUnsupportedByGPU", message, ({"quantization": None},))


def _scheme_least(fields: Fields) -> int:
    """Compressed-tensors asks by scheme: 7.5, MXFP4 8.0, 4-bit weights with 8-bit float activations 9.0."""
    if "mxfp4" in fields.text("format"):
        return 80
    weights, inputs = _first_group(fields).part("weights"), _first_group(fields).part("input_activations")
    if weights.number("num_bits") == 4 and inputs.number("num_bits") == 8 and inputs.text("type") == "float":
        return 90
    return 75


def _first_group(fields: Fields) -> Fields:
    groups = fields.raw("config_groups")
    return Fields(next(iter(groups.values()), None) if isinstance(groups, Mapping) else None)


def _stored_scheme(stored: str, asked: str, fields: Fields) -> Scheme:
    group = fields.whole("group_size") or 0
    bits = fields.number("bits", "w_bit", "weight_bits")
    match stored:
        case "awq":
            # vLLM turns the packed zero points into 16 bits on Hopper (measured: 73 MiB on 7B), so 2 bytes each.
            group = group or fields.whole("q_group_size") or 128
            packed = (bits or 4) / 8
            filed = packed + (2 + packed) / group
            # Those of experts stay packed (measured on Mixtral, on one GPU and on two).
            return Scheme(asked, packed + 4 / group, filed, group=group, quantized=True, expert_bytes=filed)
        case "gptq" | "inc":
            per_group = (2 + (bits or 4) / 8) / group if group else 0.0
            return Scheme(asked, bits / 8 + per_group if bits else None, group=group, quantized=True)
        case "fp8" | "deepseek_v4_fp8":
            block = fields.wholes("weight_block_size")
            scale = 4 / (block[0] * block[1]) if len(block) == 2 and min(block) > 0 else 0.0
            # DeepSeek V4 has its experts in 4 bits.
            experts = MXFP4 if fields.text("expert_dtype") == "fp4" else None
            return Scheme(asked, 1.0 + scale, group=block[0] if scale else 0, quantized=True, expert_bytes=experts)
        case "modelopt" | "fbgemm_fp8":
            return Scheme(asked, 1.0, quantized=True)
        case "modelopt_fp4":
            return Scheme(asked, 0.5 + 1 / 16, quantized=True)
        case "mxfp4":
            return Scheme(asked, MXFP4, experts_only=True, quantized=True)
        case "compressed-tensors":
            return _compressed(asked, fields)
        case _:
            return Scheme(asked, None, quantized=True)


def _compressed(asked: str, fields: Fields) -> Scheme:
    """The first config group's weights: bits, plus a 2-byte (fp4: 1-byte) scale for every group."""
    groups = fields.raw("config_groups")
    weights = _first_group(fields).part("weights")
    bits = weights.number("num_bits")
    group = weights.whole("group_size") or 0
    if bits is None or (isinstance(groups, Mapping) and len(groups) > 1):
        return Scheme(asked, None, group=group, quantized=True)
    scale = (1 if weights.text("type") == "float" and bits == 4 else 2) / group if group else 0.0
    return Scheme(asked, bits / 8 + scale, experts_only=_only_experts(fields), group=group, quantized=True)


def _only_experts(fields: Fields) -> bool:
    """Whether attention, shared experts and dense MLPs are all named as left out (Kimi's checkpoints from K2 Thinking on)."""
    named = " ".join(fields.texts("ignore"))
    return all(part in named for part in ("re:.*self_attn", "re:.*shared_experts", "re:.*mlp"))
