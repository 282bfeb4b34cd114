"""`python -m tests.demo up|install|down`: the main job on a real cluster."""

from __future__ import annotations

import json
import sys
import time

from tests.cluster.steps import StepFailed as ImageFailed
from tests.demo import clusters
from tests.demo.ask import ask
from tests.demo.install import install, kubectl, uninstall
from tests.demo.shell import CLUSTER, KUBECONFIG, ROOT, StepFailed, run, say, step

MODELS = ("minilm", "tiny-chat")
READY_WITHIN = 900  # seconds; two vLLM servers start side by side on two cores in two minutes


def up() -> None:
    """A cluster, the operator, two models, and a question to each."""
    begun = time.monotonic()
    install(clusters.up())
    with step("applying two VLLMModels (namespace demo)"):
        kubectl("apply", "-f", "-", input=(ROOT / "tests/demo/namespace.yaml").read_text())
        for name in MODELS:
            kubectl("apply", "-f", ROOT / "crds" / "examples" / f"{name}.yaml")
    with step("weights, fit, server: until both are Ready"):
        wait_until_ready(MODELS)
    with step("asking them"):
        ask()
    say(f"\nDone in {time.monotonic() - begun:.0f} s. What to try next:\n{next_steps()}")


def wait_until_ready(names: tuple[str, ...]) -> None:
    """Shows each change of the models' Ready condition until all are True. Raises StepFailed with the last words after 15 minutes."""
    said: dict[str, str] = {}
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        ready = 0
        for model in json.loads(kubectl("-n", "demo", "get", "vllmmodels", *names, "-o", "json"))["items"]:
            name, conditions = model["metadata"]["name"], model.get("status", {}).get("conditions", [])
            condition = next(
                (c for c in conditions if c["type"] == "Ready"), {"status": "Unknown", "reason": "Pending"}
            )
            line = f"  {name}: {condition.get('reason')}: {condition.get('message', '')}".rstrip(": ")
            if said.get(name) != line:
                say(line)
                said[name] = line
            ready += condition["status"] == "True"
        if ready == len(names):
            return
        time.sleep(1)
    raise StepFailed("the models did not become Ready in time: " + "; ".join(said.values()))


def next_steps() -> str:
    """What a new user can do with the demo's cluster."""
    words = clusters.tool("kubectl")
    chosen = "" if CLUSTER == "embedded" else f"CLUSTER={CLUSTER} "
    down = f"{chosen}make demo-down"
    return f"""
  export KUBECONFIG={KUBECONFIG.relative_to(ROOT)}
  alias kubectl={words[0]}
  kubectl -n demo get vllm                        # Ready, Reason, Model, Replicas, URL
  kubectl -n demo describe vllm minilm            # conditions, events, fit
  kubectl -n demo patch vllm tiny-chat --type merge -p '{{"spec":{{"maxModelLen":1024}}}}'    # rolls out
  kubectl -n demo port-forward service/tiny-chat 8000:80 &
  curl -s localhost:8000/v1/models
  {down:<47} # removes everything it started
"""


def down() -> None:
    """Removes what `up` (or the tests) started."""
    if clusters.kind_of_cluster() == "existing" and KUBECONFIG.exists():
        with step("removing the demo from the cluster"):
            uninstall()
    clusters.down()


def main(words: list[str]) -> None:
    """Runs one of the three commands."""
    commands = {"up": up, "install": lambda: install(clusters.up()), "down": down}
    if len(words) != 1 or words[0] not in commands:
        sys.exit("usage: python -m tests.demo up|install|down")
    try:
        commands[words[0]]()
    except (StepFailed, ImageFailed) as failed:
        if KUBECONFIG.exists() and words[0] != "down":
            say(run(*clusters.tool("kubectl"), "get", "vllmmodels,jobs,pods", "-A", check=False))
        sys.exit(str(failed))


if __name__ == "__main__":
    main(sys.argv[1:])
