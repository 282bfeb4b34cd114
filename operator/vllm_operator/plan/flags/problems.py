"""What stands against a model's `extraArgs`, and against fields that its release of vLLM does not know.

The CRD refuses most of it at the API server; this holds for objects that were stored before a rule was there, for flags
and values that a known release of vLLM does not have, and for flags that the platform keeps to itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from vllm_operator.api import Spec, camel
from vllm_operator.plan.args import FLAGS, field_words
from vllm_operator.plan.flags.refusals import flag_name, is_flag, refusals
from vllm_operator.plan.flags.releases import (
    KnownFlag,
    is_stock,
    known_flags,
    known_keys,
    known_names,
    release_of,
)
from vllm_operator.plan.types import Problem, ProblemReason

_REMEDY = "Change extraArgs as the message says, or leave it out."


def may_mean(word: str, flag: str) -> bool:
    """Whether vLLM's parser could take the word for that flag: any spelling, any unambiguous beginning."""
    name = flag_name(word)
    return is_flag(word) and len(name) > len("--") and flag.startswith(name)


def extra_args_problems(extra_args: Sequence[str], image: str, kept: Iterable[str] = ()) -> list[Problem]:
    """One problem for each refused word. `kept` are flags that the platform sets itself."""
    found = [f"extraArgs: {refusal.message}." for refusal in refusals(extra_args, release_of(image))]
    found += [
        f'extraArgs: "{word}": the platform sets {flag}.'
        for flag in kept
        for word in extra_args
        if may_mean(word, flag)
    ]
    return [Problem(ProblemReason.INVALID_SPEC, message, _REMEDY) for message in found]


def field_problems(spec: Spec, image: str) -> list[Problem]:
    """One problem for each field whose flag, value, name or key the image's release does not have; none for an unknown one."""
    release = release_of(image)
    if release is None:
        return []
    known = known_flags(release)
    words = ((name, word, known.get(FLAGS[name].flag)) for name, word in field_words(spec).items())
    found = [_unknown(camel(name), word, flag, release) for name, word, flag in words]
    found += _unknown_keys(spec, release)
    found += _unknown_names(spec, release) if is_stock(image) else ()
    return [problem for problem in found if problem is not None]


def _unknown(field: str, word: str, flag: KnownFlag | None, release: str) -> Problem | None:
    if flag is None:
        remedy = f"Leave {field} out, or set image to a release that has it."
        return Problem(ProblemReason.INVALID_SPEC, f"{field}: vLLM {release}, the image's release, lacks it.", remedy)
    value = word.partition("=")[2]
    if not flag.choices or not value or value in flag.choices:
        return None
    remedy = f"Set image to a release that has it, or use one of {', '.join(flag.choices)}."
    return Problem(
        ProblemReason.INVALID_SPEC, f'{field}: vLLM {release}, the image\'s release, has no "{value}".', remedy
    )


def _unknown_names(spec: Spec, release: str) -> Iterator[Problem]:
    """Words of a registry that the release does not have: the server would end for them, after everything was loaded."""
    for name, flag in FLAGS.items():
        value, names = getattr(spec, name), known_names(release).get(flag.flag)
        if value is not None and names is not None and value not in names and value.upper() not in names:
            yield _no_such(f'{camel(name)}: vLLM {release}, the image\'s release, has no "{value}".', value, names)


def _unknown_keys(spec: Spec, release: str) -> Iterator[Problem]:
    """Keys of vLLM's own objects that the release does not have, and methods of speculation."""
    for name, flag in FLAGS.items():
        value, keys = getattr(spec, name), known_keys(release).get(flag.flag)
        for key in value or () if keys is not None else ():
            if keys is not None and key not in keys:
                yield _no_such(f'{camel(name)}: vLLM {release}, the image\'s release, has no key "{key}".', key, keys)
    method = (spec.speculative_config or {}).get("method")
    methods = known_flags(release)["--spec-method"].choices
    if isinstance(method, str) and method not in methods:
        message = f'speculativeConfig.method: vLLM {release}, the image\'s release, has no "{method}".'
        yield _no_such(message, method, methods)


def _no_such(message: str, wish: str, names: Sequence[str]) -> Problem:
    near = get_close_matches(wish, names, n=3, cutoff=0.0)
    return Problem(ProblemReason.INVALID_SPEC, message, f"Did you mean {' or '.join(near)}?")
