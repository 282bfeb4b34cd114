"""From what is wanted and what is seen to what is done: one decision, pure. `deciding` has the table of cases."""

from vllm_operator.decide.deciding import decide, refuse
from vllm_operator.decide.finding import Fact
from vllm_operator.decide.reasons import StateReason

__all__ = ["Fact", "StateReason", "decide", "refuse"]
