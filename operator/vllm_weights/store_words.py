"""What an object store says, or the client library of it, in one short line."""

from __future__ import annotations

import html
import re

STATUS = re.compile(r"status(?: code)?: (\d{3})")
ADDRESS = re.compile(r"(https?://[^\s?\"'<>]{1,200})(\?[^\s\"'<>]*)?")
PAGE = re.compile(r"(?i)<!doctype ?html|<html\b")
_TITLE = re.compile(r"(?is)<title>([^<]{1,200})")
CODE = re.compile(r"<Code>([^<]{1,80})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,400})(?:</Message>|$)|\"message\": ?\"((?:[^\"\\]|\\.){1,400})\"")
_DETAILS = re.compile(r"<Details>([^<]{1,300})")
_AT = re.compile(r"<Endpoint>([\w.:-]{3,200})</Endpoint>")
_CAUSE = re.compile(r"(?:error|message): \"([^\"]{3,200})\"|kind: (TimedOut|Timeout|UnexpectedEof|IncompleteMessage)")
"""The innermost cause in the library's picture of an error of the network."""
_TOOK = re.compile(r" in [\d.]{1,15}[mnµ]?s\b")
_MOST = 500
"""Characters of what was said."""


def words_of(said: str) -> str:
    """The store's own code and sentence where it gives them, else the library's words, shortened."""
    code, message = CODE.search(said), _MESSAGE.search(said)
    if code or message:
        parts = (code, message, _DETAILS.search(said), _AT.search(said))
        told = [html.unescape(found[1] or found[2]).strip() for found in parts if found]
        return ": ".join(told)[:_MOST]
    words = ADDRESS.sub(r"\1", said.partition("Debug source")[0])
    words = _TOOK.sub("", words)
    if page := PAGE.search(words):
        title = _TITLE.search(words)
        words = words[: page.start()] + (f"a page, {title[1].strip()!r}" if title else "a page")
    return " ".join(words.split())[:_MOST]


def with_cause(whole: str, short: str) -> str:
    """`short` with the innermost cause in the library's picture of an error of the network."""
    causes = [found[1] or found[2] for found in _CAUSE.finditer(whole)]
    return f"{short} ({causes[-1]})" if causes else short
