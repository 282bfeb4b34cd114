"""What a rule is: a CEL expression, the sentence a user reads when it is broken, and the field that it blames."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL expression that must be true, and what to say when it is not. `field` is below the rule's place."""

    expression: str
    message: str
    field: str = ""

    def as_json(self) -> dict[str, str]:
        """The rule as `x-kubernetes-validations` wants it."""
        blamed = {"fieldPath": f".{self.field}"} if self.field else {}
        return {"rule": self.expression, "message": self.message} | blamed


def needs(field: str, condition: str, message: str) -> Rule:
    """When the field is set, the condition must hold."""
    return Rule(f"!has(self.{field}) || {condition}", message, field)


def wants(field: str, condition: str, message: str) -> Rule:
    """When the switch is on, the condition must hold."""
    return Rule(f"!(has(self.{field}) && self.{field}) || ({condition})", message, field)
