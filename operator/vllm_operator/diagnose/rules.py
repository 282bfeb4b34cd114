"""The rules: which words in a log, an event or a refusal mean which reason. They are data, in rules.yaml.

A rule matches when one of its `any` patterns is found, all of its `all` are, and none of its `unless`. Of several rules that
match, the one with the stronger weight wins, then the one whose words come first: the first fatal line is the root.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Any, Final, Literal, NamedTuple

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from vllm_operator.diagnose.failure import Failure, failure
from vllm_operator.diagnose.neighbours import held_by_others
from vllm_operator.diagnose.reasons import MEANINGS, Reason

Weight = Literal["root", "consequence", "fallback", "place", "cut", "symptom", "request"]
Where = Literal["log", "image", "start", "mount", "create", "claim", "evict"]
_WEIGHTS: Final = {"root": 0, "consequence": 1, "fallback": 2, "place": 3, "cut": 4, "symptom": 5, "request": 6}
_EXCERPT_LINES: Final = 3
_WORDS_CHARS: Final = 8
"""A shorter piece of a message is a number, most often."""
_SOURCE_CHARS: Final = 400
_TOKEN = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|.", re.DOTALL)
"""Escapes, character classes and single characters."""
_SPACE = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]| (?![?*+{])")
"""Escapes and character classes (kept as they are), and spaces without a quantifier."""

Many = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]


class Rule(BaseModel):
    """One entry of rules.yaml. `message` holds variants: the first whose numbers are all known is said."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    reason: Reason
    where: Where = "log"
    weight: Weight = "root"
    any: Many = Field(min_length=1)
    all: Many = ()
    unless: Many = ()
    context: Many = ()
    stack: Many = ()
    before: tuple[Reason, ...] = ()
    of_others: bool = False
    """It holds only where the numbers of the out-of-memory error say that others have much of the GPU."""
    exit_codes: tuple[int, ...] = ()
    message: Many = Field(min_length=1)
    remedy: str
    retry: bool


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern and a literal every match must contain, looked for first because that is fast."""

    literal: str
    regex: re.Pattern[str]

    def search(self, text: str, cause: int = 0) -> re.Match[str] | None:
        """The first match from `cause` on, else the first of all, else None."""
        if self.literal not in text:
            return None
        return (self.regex.search(text, cause) if cause else None) or self.regex.search(text)


@dataclass(frozen=True, slots=True)
class Matcher:
    """A rule, ready to be matched."""

    rule: Rule
    any: tuple[Pattern, ...]
    all: tuple[Pattern, ...]
    unless: tuple[Pattern, ...]
    context: tuple[Pattern, ...]
    stack: tuple[re.Pattern[str], ...]

    def match(self, text: str, stack: str = "", cause: int = 0) -> re.Match[str] | None:
        """The earliest match of the rule's words in the text (from `cause` on, where there is one), when the whole rule holds."""
        if self.stack and not any(pattern.search(stack) for pattern in self.stack):
            return None
        found = [match for pattern in self.any if (match := pattern.search(text, cause))]
        if not found or not all(pattern.search(text) for pattern in self.all):
            return None
        if any(pattern.search(text) for pattern in self.unless):
            return None
        first = min(found, key=lambda match: (match.start() < cause, match.start()))
        return None if self.rule.of_others and held_by_others(text, first.start()) is None else first


@lru_cache(maxsize=1)
def all_rules() -> tuple[Rule, ...]:
    """Every rule, as written in rules.yaml."""
    raw = yaml.safe_load(files(__package__).joinpath("rules.yaml").read_text(encoding="utf-8"))
    return tuple(Rule.model_validate(entry) for entry in raw["rules"])


def prepare() -> None:
    """Reads and compiles all rules, which takes some tenths of a second: before anybody waits, not at the first crash."""
    for where in {rule.where for rule in all_rules()}:
        _matchers(where)


@lru_cache(maxsize=16)
def _matchers(where: Where) -> tuple[Matcher, ...]:
    return tuple(
        Matcher(
            rule,
            _patterns(rule.any),
            _patterns(rule.all),
            _patterns(rule.unless),
            _patterns(rule.context),
            tuple(re.compile(source) for source in rule.stack),
        )
        for rule in all_rules()
        if rule.where == where
    )


def _patterns(sources: Sequence[str]) -> tuple[Pattern, ...]:
    return tuple(Pattern(longest_literal(source), re.compile(_over_line_ends(source))) for source in sources)


def _over_line_ends(source: str) -> str:
    """The pattern with each plain space matching a line end, too: terminals and log viewers wrap long messages."""
    return _SPACE.sub(lambda match: match[0] if match[0] != " " else r"\s{1,4}", source)


def longest_literal(source: str) -> str:
    """The longest run of plain characters that any match of the pattern contains; "" when none is sure."""
    tokens = _TOKEN.findall(source)
    if "(?i" in source or _alternatives_outside_groups(tokens):
        return ""
    runs, depth = [""], 0
    for token, following in zip(tokens, [*tokens[1:], ""], strict=True):
        depth += (token == "(") - (token == ")")
        literal = _literal(token)
        if literal and depth == 0 and following not in ("?", "*", "{"):
            runs[-1] += literal
        else:
            runs.append("")
        depth += (token == "{") - (token == "}")
    return max(runs, key=len)


def _alternatives_outside_groups(tokens: Sequence[str]) -> bool:
    depth = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        if token == "|" and depth == 0:
            return True
    return False


def _literal(token: str) -> str:
    """The character a token stands for, or "" for a class, a space (it may be a line end) and what has a meaning."""
    if len(token) == 2 and token[0] == "\\":
        return "" if token[1].isalnum() else token[1]
    return token if len(token) == 1 and token not in " ()[]{}.*+?^$|" else ""


CAUSES: Final[frozenset[Weight]] = frozenset({"root", "consequence", "fallback"})
"""Weights of rules that name a cause by its words; the others go by its place, or only say that something failed."""


def find(
    text: str,
    where: Where = "log",
    *,
    context: str = "",
    stack: str = "",
    exit_code: int | None = None,
    weights: frozenset[Weight] | None = None,
    cause: int = 0,
    cause_ends: int | None = None,
) -> Failure | None:
    """The failure that the text names, or None when no rule knows it.

    `context` is searched for a rule's extra numbers, `stack` holds the frames the text was raised under; `weights` narrows the
    rules to some. From `cause` on stand the words of the exception that ended it: they count before what was said, and lived
    through, earlier. A consequence behind `cause_ends`, where its words end, is that exception's: it is left out.
    """
    found: list[_Found] = []
    for matcher in _matchers(where):
        if not _applies(matcher.rule, exit_code, weights) or (match := matcher.match(text, stack, cause)) is None:
            continue
        if matcher.rule.weight == "consequence" and cause_ends is not None and match.start() >= cause_ends:
            continue
        found.append(_Found(_WEIGHTS[matcher.rule.weight], match.start(), match.start() < cause, matcher, match))
    best = _told_by(found)
    return (
        None if best is None else _failure(best.matcher, best.match, text, context, stack if best.matcher.stack else "")
    )


def _told_by(found: Sequence["_Found"]) -> "_Found | None":
    """The one that names the cause: of the exception that ended it, or said before that one where it comes of that."""
    late = min((one for one in found if not one.earlier), key=lambda one: one[:2], default=None)
    reason = Reason.ServerCrashed if late is None else late.matcher.rule.reason
    early = min(
        (one for one in found if one.earlier and reason in one.matcher.rule.before),
        key=lambda one: one[:2],
        default=None,
    )
    return late if early is None or (late is not None and late.weight < early.weight) else early


class _Found(NamedTuple):
    """A rule that matches, by its weight and place; `earlier`: in what was said before the exception that ended it."""

    weight: int
    at: int
    earlier: bool
    matcher: Matcher
    match: re.Match[str]


def _applies(rule: Rule, exit_code: int | None, weights: frozenset[Weight] | None) -> bool:
    if weights is not None and rule.weight not in weights:
        return False
    return not rule.exit_codes or exit_code is None or exit_code in rule.exit_codes


def _failure(matcher: Matcher, match: re.Match[str], text: str, context: str, stack: str) -> Failure:
    rule = matcher.rule
    context = f"{stack}\n{context}" if stack else context
    numbers: dict[str, str] = {}
    for pattern in (*matcher.context, *matcher.any, *matcher.all):
        found = pattern.search(text) or (pattern.search(context) if pattern in matcher.context else None)
        numbers |= {key: value.strip(" .,;:") for key, value in (found.groupdict() if found else {}).items() if value}
    numbers |= {key: value.strip(" .,;:") for key, value in match.groupdict().items() if value}
    numbers |= (held_by_others(text, match.start()) or {}) if rule.of_others else {}
    numbers |= _share_free(numbers)
    message, excerpt = _filled(rule.message, numbers), _excerpt(text, match, stack)
    return failure(
        rule.reason,
        message,
        remedy=_filled((rule.remedy, MEANINGS[rule.reason].remedy), numbers),
        excerpt="\n".join([*_sources(matcher, f"{text}\n{context}", message, excerpt), excerpt]),
        retry=rule.retry,
        rule=rule.name,
    )


def _share_free(numbers: Mapping[str, str]) -> dict[str, str]:
    """Which share of the `total` is `free`, rounded down to hundredths, where both are plain numbers; else nothing."""
    try:
        share = float(numbers["free"]) / float(numbers["total"])
    except (KeyError, ValueError, ZeroDivisionError):
        return {}
    return {"share_free": f"{int(share * 100) / 100:.2f}"}


def _sources(matcher: Matcher, text: str, message: str, excerpt: str) -> Iterator[str]:
    """The lines that words of the message come from, where the excerpt has not got those words."""
    for pattern in matcher.context:
        found = pattern.search(text)
        words = [said for said in found.groupdict().values() if said] if found else []
        if found and any(len(said) >= _WORDS_CHARS and said in message and said not in excerpt for said in words):
            line = text[text.rfind("\n", 0, found.start()) + 1 :].split("\n", 1)[0].strip()
            if len(line) <= _SOURCE_CHARS:
                yield line


def _filled(variants: Sequence[str], numbers: Mapping[str, Any]) -> str:
    for variant in variants:
        try:
            return variant.format_map(numbers)
        except KeyError:
            continue
    return MEANINGS[Reason.ServerCrashed].text


def _excerpt(text: str, match: re.Match[str], stack: str) -> str:
    """The line of the match and those after it; for one that stands alone, the frame that it was raised in."""
    start = text.rfind("\n", 0, match.start()) + 1
    lines = text[start : start + 4096].split("\n")
    count = max(_EXCERPT_LINES, text.count("\n", match.start(), match.end()) + 1)
    count += lines[count - 1 : count] == ["Last error:"]  # NCCL's own words stand under that
    said = [line.strip() for line in lines[:count] if line.strip()]
    frame = stack.rpartition("\n")[2].strip()
    if (
        len(said) == 1 and frame and not said[0].startswith("Fatal Python error")
    ):  # that one's frames stand the other way
        said.append(f"at {frame}")
    return "\n".join(said)
