"""What `extraArgs` may not hold, in every spelling that vLLM's parser takes.

The parser reads "_" as "-", values behind "=" or in the next word, JSON keys behind a dot, unambiguous beginnings of
flags, short aliases and negations. A name is brought to one form first and then looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

from vllm_operator.plan.flags.owners import (
    DANGEROUS_FLAGS,
    FIELD_OF_FLAG,
    FORBIDDEN_TEXT,
    OLD_FLAGS,
    OLD_SWITCHES,
    OPERATOR_FLAGS,
    SWITCHES,
    negations,
)
from vllm_operator.plan.flags.releases import KnownFlag, all_known_flags, known_flags

# A negative number with a dot is none: vLLM's parser reads "-0.5" as the key 5 of a flag "-0".
_NUMBER = re.compile(r"-[0-9]+[kKmMgGtT]?")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One word of `extraArgs` and why it is refused, with what to do instead."""

    word: str
    message: str


@cache
def answers() -> Mapping[str, str]:
    """Every refused flag in its long form, negations included, with the answer."""
    found = {flag: f"is the field {field}; set that" for flag, field in FIELD_OF_FLAG.items()}
    found |= {flag: f"is refused: {reason}" for flag, reason in {**OPERATOR_FLAGS, **DANGEROUS_FLAGS}.items()}
    for flag in tuple(found):
        known = all_known_flags().get(flag)
        also = known.also if known else ()
        opposite = negations(flag) if flag in SWITCHES or (known and known.takes == 0) else ()
        found |= {other: found[flag] for other in (*also, *opposite) if other.startswith("--") and other not in found}
    gone = {flag: f"does not exist: {answer}" for flag, answer in OLD_FLAGS.items()}
    gone |= {f"--no-{flag.removeprefix('--')}": gone[flag] for flag in OLD_SWITCHES}
    return found | {flag: answer for flag, answer in gone.items() if flag not in found}


@cache
def refused_aliases() -> Mapping[str, str]:
    """Short aliases (`-tp`) of refused flags, with the answer."""
    found = {
        alias: answers()[known.flag]
        for known in all_known_flags().values()
        for alias in known.also
        if known.flag in answers() and not alias.startswith("--")
    }
    return found | {"-O": answers()["--optimization-level"], "-h": answers()["--help"]}


@cache
def free_aliases() -> tuple[str, ...]:
    """Short aliases of flags that anybody may set."""
    short = {alias for known in all_known_flags().values() for alias in known.also if not alias.startswith("--")}
    return tuple(sorted(short - refused_aliases().keys()))


@cache
def free_flags_inside_refused() -> tuple[str, ...]:
    """Free flags that a refused one begins with: whole names, not beginnings."""
    return tuple(
        sorted(
            name
            for name in all_known_flags()
            if name.startswith("--") and name not in answers() and any(flag.startswith(name) for flag in answers())
        )
    )


def flag_name(word: str) -> str:
    """A word's flag in the one form that is looked up: no value, no JSON keys, dashes only."""
    return word.split("=", 1)[0].split(".", 1)[0].replace("_", "-")


def refusals(extra_args: Sequence[str], release: str | None = None) -> tuple[Refusal, ...]:
    """All words that are refused; empty when the list may be passed on.

    With a release of vLLM (`release_of(image)`), a flag that it does not have and a value that no flag takes are
    refused, too.
    """
    named = (_refusal(word) for word in extra_args)
    found = [*_shape(extra_args), *(refusal for refusal in named if refusal is not None)]
    if release is not None and not found:
        found += _against(extra_args, known_flags(release), release)
    return tuple(found)


def is_flag(word: str) -> bool:
    """Whether the parser takes the word for a flag, not for a value."""
    return word.startswith("-") and word != "-" and not _NUMBER.fullmatch(word)


def _shape(words: Sequence[str]) -> Iterator[Refusal]:
    if words and not is_flag(words[0]):
        yield Refusal(words[0], f'"{words[0]}" follows no flag; begin with one such as "--max-logprobs=5"')
    for word in words:
        if "$(" in word:
            yield Refusal(word, f'"{word}" holds "$(", which Kubernetes would expand; write the value itself')
        for text, reason in FORBIDDEN_TEXT.items():
            if text in word:
                yield Refusal(word, f'"{word}" holds "{text}": {reason}')


def _refusal(word: str) -> Refusal | None:
    if not is_flag(word):
        return None
    if word == "--" or word.startswith("---"):
        return Refusal(word, f'"{word}" is no flag')
    if not word.startswith("--"):
        return _short_refusal(word)
    name = flag_name(word)
    answer = answers().get(name)
    if answer is None and name not in all_known_flags():
        begun = sorted(
            flag for flag, said in answers().items() if flag.startswith(name) and not said.startswith("does not exist")
        )
        answer = f"begins {begun[0]}, which {answers()[begun[0]]}" if begun else None
    return Refusal(word, f'"{word}" {answer}') if answer is not None else None


def _short_refusal(word: str) -> Refusal | None:
    name = word.split("=", 1)[0].split(".", 1)[0]
    if name in free_aliases():
        return None
    # The longest alias that the word begins with: "-dpn0" is "-dpn", not "-dp".
    glued = max((alias for alias in refused_aliases() if name.startswith(alias)), key=len, default=None)
    answer = refused_aliases()[glued] if glued else "is no flag; write flags long, and negative values behind a ="
    return Refusal(word, f'"{word}" {answer}')


def _against(words: Sequence[str], known: Mapping[str, KnownFlag], release: str) -> Iterator[Refusal]:
    room, last = 0, None
    for word, after in zip(words, [*words[1:], "--"], strict=False):
        if not is_flag(word):
            room -= 1
            if room < 0:
                yield Refusal(word, f'"{word}" follows a flag that takes no more values')
            elif last is not None:
                yield from _no_choice(word, word, last)
            continue
        flag = last = _find(flag_name(word), known)
        if flag is None:
            near = get_close_matches(flag_name(word), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield Refusal(word, f'"{word}" is no flag of vLLM {release}{hint}')
            room = len(words)
        elif flag.takes == 0 and "=" in word:
            yield Refusal(word, f'"{word}": {flag.flag} takes no value; write {flag.flag} or its opposite')
        elif flag.takes != 0 and "=" not in word and is_flag(after):
            yield Refusal(word, f'"{word}" needs a value: {flag.flag}=VALUE')
        else:
            yield from _no_choice(word, word.partition("=")[2], flag)
            room = 0 if "=" in word else len(words) if flag.takes == "many" else int(flag.takes)


def _no_choice(word: str, value: str, flag: KnownFlag) -> Iterator[Refusal]:
    if flag.choices and value and value not in flag.choices:
        yield Refusal(word, f'"{word}": {flag.flag} takes {", ".join(flag.choices)}')


def _find(name: str, known: Mapping[str, KnownFlag]) -> KnownFlag | None:
    """The flag of that name, or of that unambiguous beginning; both releases take `--no-x` for a switch `--x`."""
    exact = known.get(name) or known.get(f"--{name.removeprefix('--no-')}")
    begun = {flag.flag: flag for spelling, flag in known.items() if spelling.startswith(name)}
    return exact or (next(iter(begun.values())) if len(begun) == 1 else None)
