"""The plan of live adapters: what the servers' pods know of them, and where their files come to lie."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import a_model
from tests.golden.canned import COMMIT, planned, problems, settings
from vllm_operator.plan import AdapterPullPlan, Plan, ServerPlan, plan_adapter_pull
from vllm_operator.plan.labels import ADAPTERS_LABEL

GIVEN = settings(policy={"allowLiveAdapters": True})
SQL = {"name": "sql", "source": "org/sql"}
RWX: dict[str, Any] = {"cache": {"access_modes": ("ReadWriteMany",)}}


def live(**spec: Any) -> tuple[Plan, ServerPlan]:
    plan, _, server = planned(a_model(adapter_loading="Live", **spec), GIVEN)
    return plan, server


def pulled(plan: Plan, commit: str = COMMIT, which: int = 0) -> AdapterPullPlan:
    return plan_adapter_pull(plan, plan.adapters[which], {"commit": commit, "bytes": 5})


def claim_of(**spec: Any) -> Any:
    found = live(**spec)[0].adapter_claim
    assert found is not None
    return found


def test_the_pods_do_not_know_the_list() -> None:
    (_, without), (_, with_two) = live(), live(adapters=(SQL, {"name": "b", "source": "org/b"}))

    assert without == with_two


def test_only_servers_that_load_live_are_in_runtime_mode() -> None:
    def variables(**spec: Any) -> set[str]:
        deployment = planned(a_model(**spec), GIVEN)[2].deployment
        return {str(variable["name"]) for variable in deployment.env}

    name = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
    assert name in variables(adapter_loading="Live")
    assert name not in variables(adapter_loading="Static", adapters=(SQL,))
    assert name not in variables(enable_lora=True)


def test_the_limits_are_the_spec_s_and_no_adapter_is_named() -> None:
    _, server = live(adapters=(SQL,), max_loras=4, max_lora_rank=64, max_cpu_loras=8)
    args = server.deployment.args

    assert {"--enable-lora", "--max-loras=4", "--max-lora-rank=64", "--max-cpu-loras=8"} <= set(args)
    assert "--lora-modules" not in args


def test_each_commit_has_a_folder_and_a_job_of_its_own() -> None:
    plan, _ = live(adapters=(SQL, {"name": "same", "source": "hf://org/sql@main"}))
    first, again, other = pulled(plan), pulled(plan, which=1), pulled(plan, "f" * 40)

    assert first.path == again.path != other.path
    names = [found.pull.name if found.pull else "" for found in (first, again, other)]
    assert names[0] == names[1] != names[2]


def test_two_models_have_two_volumes() -> None:
    names = {planned(a_model(name, adapter_loading="Live"), GIVEN)[0].adapter_claim.name for name in ("m", "n")}  # type: ignore[union-attr]

    assert len(names) == 2


def test_the_volume_follows_the_cache_where_nothing_is_said() -> None:
    cache = {"access_modes": ("ReadWriteMany",), "storage_class_name": "shared"}
    given = claim_of(cache=cache)
    assert (given.access_modes, given.storage_class_name, given.size) == (("ReadWriteMany",), "shared", "10Gi")

    own = claim_of(
        cache=cache, adapter_cache={"access_modes": ("ReadWriteOnce",), "storage_class_name": "x", "size": "1Gi"}
    )
    assert (own.access_modes, own.storage_class_name, own.size) == (("ReadWriteOnce",), "x", "1Gi")
    assert claim_of().access_modes == ("ReadWriteOnce",)


@pytest.mark.parametrize(("spec", "bound"), [({}, True), (RWX, False)])
def test_pods_share_a_node_where_the_volume_does(spec: dict[str, Any], bound: bool) -> None:
    plan, server = live(adapters=(SQL,), **spec)
    pull = pulled(plan).pull
    assert pull is not None
    for placement in (server.deployment.placement, pull.placement):
        assert (ADAPTERS_LABEL in str(placement.affinity)) is bound
    assert server.deployment.pod_labels[ADAPTERS_LABEL] == pull.labels[ADAPTERS_LABEL]


def test_a_replica_on_a_bound_volume_is_replaced_in_place_also_where_the_model_has_no_volume() -> None:
    _, server = live(model="oci://registry.example.org/m@sha256:" + "0" * 64, cache={"type": "Image"})

    assert server.deployment.strategy == {"type": "Recreate"}


def test_a_source_that_the_platform_forbids_is_forbidden_to_live_adapters_too() -> None:
    given = settings(policy={"allowLiveAdapters": True, "allowedSources": ["demo/*"]})

    found = problems(given, adapter_loading="Live", adapters=(SQL,))
    assert [reason for reason, _ in found] == ["SourceNotAllowed"]
    assert "adapters[sql].source" in found[0][1]


def test_the_platform_has_to_allow_it() -> None:
    ((reason, message),) = problems(adapter_loading="Live")

    assert (reason, "policy.allowLiveAdapters" in message) == ("LiveAdaptersNotAllowed", True)


def test_an_answer_that_is_none_is_a_problem() -> None:
    plan, _ = live(adapters=(SQL,))
    found = plan_adapter_pull(plan, plan.adapters[0], {"commit": "$(x)"})

    assert found.pull is None
    assert found.problem is not None
    assert found.problem.reason == "InspectionUnreadable"
