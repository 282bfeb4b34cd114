"""What a command says when its input is no good: one line that names the field or flag, and exit code 2."""

from __future__ import annotations


class WrongInput(Exception):
    """The message names what is wrong and what to do; the command ends with exit code 2."""
