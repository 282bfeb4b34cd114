"""A model's whole life on a fake API: what is made, what is told, and what each step costs."""

from __future__ import annotations

from tests.wire.fixtures import a_vllmmodel
from tests.wire.operator import an_operator


async def test_a_model_is_inspected_pulled_served_and_ready() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.settle()

        assert op.condition("Ready") == ("True", "Serving")
        assert [job["metadata"]["labels"]["vllm-operator.dev/job"] for job in op.fake.all("Job")] == ["inspect", "pull"]
        assert [d["metadata"]["name"] for d in op.fake.all("Deployment")] == ["m"]
        assert op.status()["servedModels"] == ["tiny"]
        assert op.status()["maxModelLen"] == 2048
