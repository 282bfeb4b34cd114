"""The case of the fit: a model that surely does not fit takes no volume, no download and no GPU."""

from __future__ import annotations

from collections.abc import Mapping

from vllm_operator.api import ConditionType, FitStatus
from vllm_operator.decide.annotations import IGNORE_FIT
from vllm_operator.decide.devices import alone_on, among
from vllm_operator.decide.finding import Fact, Finding, Outcome, Truth
from vllm_operator.decide.question import answer_to, overridden, question_of, with_draft, without_draft
from vllm_operator.decide.reasons import StateReason
from vllm_operator.decide.situation import Situation
from vllm_operator.decide.trust import model_part
from vllm_operator.decide.types import DeviceSeen
from vllm_operator.fit import Verdict, WeightsSummary
from vllm_operator.plan import Plan
from vllm_operator.plan.parts import DRAFT
from vllm_operator.settings import Profile

GIB, MIB = 1 << 30, 1 << 20
LATE = 60.0  # seconds: nodes are not watched, and a larger one may have come


def fit(here: Situation) -> Finding:
    """Done when the model fits, or nobody can tell, or the user wants to try, or this version runs already."""
    verdicts = [judge_on(here, name, profile) for name, profile in here.plan.profiles]
    verdict = _best(verdicts)
    if verdict is None:
        return Finding(Outcome.DONE, facts=(_fact("Unknown", StateReason.FIT_UNKNOWN, _why_unknown(here)),))
    status = fit_status(verdict)
    if verdict.fits is None:
        missing = (verdict.note or "a number is missing").replace("missing: ", "missing is ", 1)
        message = f"Nobody can tell beforehand: {missing}.{_but_not_on(verdicts)}"
        return Finding(Outcome.DONE, facts=(_fact("Unknown", StateReason.FIT_UNKNOWN, message),), fit=status)
    if verdict.fits:
        return Finding(
            Outcome.DONE,
            facts=(_fact("True", StateReason.FITS, _numbers(verdict) + _but_not_on(verdicts)),),
            fit=status,
        )
    reason = verdict.reason or StateReason.FIT_UNKNOWN
    message = _sentence(verdict.message) + _nor_on(verdicts, verdict)
    asked = here.annotations.get(IGNORE_FIT, "").strip()
    if asked.lower() == "true":
        fact = _fact("False", reason, f"{message} This is ignored, as the annotation {IGNORE_FIT} asks.")
        return Finding(Outcome.DONE, facts=(fact,), fit=status)
    if here.deployed:
        fact = _fact("False", reason, f"{message} The server that runs already is left alone.")
        return Finding(Outcome.DONE, facts=(fact,), fit=status)
    now = f' (it is "{asked[:40]}")' if asked else ""
    anyway = f'{message} To go on all the same, set the annotation {IGNORE_FIT} to "true"{now}.'
    fact = _fact("False", reason, anyway)
    return Finding(Outcome.STUCK, reason, anyway, facts=(fact,), fit=status, look_again_after=LATE)


def judge_on(here: Situation, name: str, profile: Profile) -> Verdict | None:
    """The verdict for one accelerator; None where nothing was inspected, or the devices come by a claim."""
    answer = here.seen.inspect.answer
    if here.plan.inspect is None or answer is None or here.model.spec.resource_claim_template is not None:
        return None
    part = model_part(here.plan, answer)
    config = part.get("config")
    if not isinstance(config, Mapping):
        return None
    files, draft = overridden(config, here.model.spec.hf_overrides or {}), _draft(here.plan, answer)
    judged = []
    for device in here.seen.devices.get(name) or (DeviceSeen(),):
        question = question_of(here.model.spec, here.plan.settings, name, profile, device)
        verdict = answer_to(with_draft(question, *draft) if draft is not None else question, files, _summary(part))
        if draft is None and any(part.role == DRAFT and not part.is_adapter for part in here.plan.parts):
            verdict = without_draft(verdict)  # it lies where only the server looks
        judged.append((device, alone_on(device, verdict)))
    return among(judged)


def _draft(plan: Plan, answer: Mapping[str, object]) -> tuple[int, Mapping[str, object]] | None:
    """Bytes and configuration of the draft model's repository, where one was inspected."""
    parts = answer.get("parts")
    pulled = [part for part in plan.parts if part.source.is_pulled]
    index = next((i for i, part in enumerate(pulled) if part.role == DRAFT and not part.is_adapter), None)
    if index is None or not isinstance(parts, list | tuple) or index >= len(parts):
        return None
    part = parts[index] if isinstance(parts[index], Mapping) else {}
    size, config = part.get("bytes"), part.get("config")
    return (size if isinstance(size, int) else 0), (config if isinstance(config, Mapping) else {})


def fit_status(verdict: Verdict) -> FitStatus:
    """`status.fit`."""
    return FitStatus(
        fits=verdict.fits,
        accelerator=verdict.accelerator,
        weights_bytes=verdict.weights_bytes,
        kv_bytes_per_token=verdict.kv_bytes_per_token,
        kv_cache_tokens=verdict.kv_cache_tokens,
        largest_max_model_len=verdict.largest_max_model_len,
        smallest_tensor_parallel_size=verdict.smallest_tensor_parallel_size,
        remedies=verdict.remedies[:16],
        note=verdict.note or None,
    )


def _best(verdicts: list[Verdict | None]) -> Verdict | None:
    """Of several accelerators the first that fits; else the first that may; a misfit is sure when none of them fits."""
    known = [verdict for verdict in verdicts if verdict is not None]
    for wanted in (True, None, False):
        found = next((verdict for verdict in known if verdict.fits is wanted), None)
        if found is not None:
            return found
    return None


def _but_not_on(verdicts: list[Verdict | None]) -> str:
    names = ", ".join(verdict.accelerator for verdict in verdicts if verdict is not None and verdict.fits is False)
    return f" It does not fit on {names}, which the spec names, too." if names else ""


def _nor_on(verdicts: list[Verdict | None], told: Verdict) -> str:
    names = ", ".join(verdict.accelerator for verdict in verdicts if verdict is not None and verdict is not told)
    return f" Nor does it fit on {names}." if names else ""


def _why_unknown(here: Situation) -> str:
    if here.plan.inspect is None:
        missing = "its config.json and the size of its weights are missing"
        return f"Nobody can tell beforehand: {missing}, for only the server looks into {here.model.spec.model}."
    if here.model.spec.resource_claim_template is not None:
        return "Nobody can tell beforehand: which devices the claim brings is not known."
    return "Nobody can tell beforehand: the model's config.json is not known."


def _summary(part: Mapping[str, object]) -> WeightsSummary | None:
    weights = part.get("weights")
    if not isinstance(weights, Mapping):
        return None
    total, parameters = weights.get("totalBytes"), weights.get("parameters")
    if not isinstance(total, int) or total <= 0:
        return None
    by_dtype = parameters if isinstance(parameters, Mapping) else {}
    return WeightsSummary(total, {str(key): value for key, value in by_dtype.items() if isinstance(value, int)})


def _numbers(verdict: Verdict) -> str:
    pieces = []
    if verdict.weights_bytes is not None:
        pieces.append(f"{_size(verdict.weights_bytes)} of weights")
    if verdict.kv_cache_tokens:
        pieces.append(f"a KV cache of about {verdict.kv_cache_tokens} tokens")
    what = " and ".join(pieces) or "The model"
    where = (
        "into the pod" if verdict.budget is None or verdict.accelerator == "cpu" else f"on each {verdict.accelerator}"
    )
    return f"{what} fit {where}."


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB // 10 else f"{count / MIB:.0f} MiB"


def _sentence(text: str) -> str:
    """With a capital and a full stop; a field of the spec keeps its own spelling."""
    text = text.strip().rstrip(".")
    is_field = any(letter.isupper() for letter in text.partition(" ")[0])
    return f"{text if is_field else text[:1].upper() + text[1:]}." if text else "It does not fit."


def _fact(status: Truth, reason: str, message: str) -> Fact:
    return Fact(ConditionType.FITS, status, str(reason), message)
