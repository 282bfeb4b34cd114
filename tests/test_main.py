"""The command line: every command on real files, and wrong input named in one line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from vllm_operator.__main__ import main
from vllm_operator.settings import load

MODEL: dict[str, Any] = {
    "apiVersion": "vllm-operator.dev/v1alpha1",
    "kind": "VLLMModel",
    "metadata": {"name": "tiny", "namespace": "team"},
    "spec": {"model": "demo/tiny", "maxModelLen": 2048},
}
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}


def a_file(folder: Path, name: str, content: Any) -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def test_render_prints_every_object_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", a_file(tmp_path, "m.yaml", MODEL)]) == 0

    kinds = [document["kind"] for document in yaml.safe_load_all(capsys.readouterr().out)]
    assert sorted(kinds) == ["Deployment", "Job", "Job", "PersistentVolumeClaim", "Service"]


def test_render_takes_what_an_inspection_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = a_file(tmp_path, "a.json", json.dumps({"version": 1, "ok": True, "commit": "c" * 40, "bytes": 7 << 30}))
    main(["render", a_file(tmp_path, "m.yaml", MODEL), "--answer", answer])

    assert "c" * 40 in capsys.readouterr().out


def test_render_says_what_the_platform_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = a_file(tmp_path, "s.yaml", {"policy": {"allowedSources": ["hf://ours/*"]}})

    assert main(["render", a_file(tmp_path, "m.yaml", MODEL), "--settings", settings]) == 1
    assert "SourceNotAllowed" in capsys.readouterr().err


def test_crd_prints_the_definition(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crd"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["metadata"]["name"] == "vllmmodels.vllm-operator.dev"


@pytest.mark.parametrize(("accelerator", "code"), [("nvidia-h100-80gb", 0), ("nvidia-t4", 1)])
def test_fit_answers_by_its_exit_code_and_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], accelerator: str, code: int
) -> None:
    a_file(tmp_path, "config.json", json.dumps(CONFIG))
    argv = ["fit", a_file(tmp_path, "m.yaml", MODEL), "--config", str(tmp_path), "--accelerator", accelerator]

    assert main([*argv, "--output", "json"]) == code
    (verdict,) = json.loads(capsys.readouterr().out)
    assert verdict["fits"] is (code == 0)
    assert main(argv) == code
    assert "weights per device" in capsys.readouterr().out


def test_fit_without_a_name_tells_of_every_accelerator_of_the_platform(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_file(tmp_path, "config.json", json.dumps(CONFIG))
    settings = a_file(tmp_path, "s.yaml", {"accelerators": {"ours": {"resourceName": "x.org/y", "memory": "80Gi"}}})
    argv = ["fit", a_file(tmp_path, "m.yaml", MODEL), "--config", str(tmp_path), "--settings", settings]

    assert main([*argv, "--output", "json"]) == 0
    verdicts = {verdict["accelerator"]: verdict for verdict in json.loads(capsys.readouterr().out)}
    assert verdicts.keys() == load(settings).accelerators.keys()
    assert verdicts["ours"]["fits"] is True and verdicts["nvidia"]["fits"] is None
    assert {
        *("accelerator", "fits", "weightsBytes", "kvBytesPerToken", "kvCacheTokens", "largestMaxModelLen"),
        *("smallestTensorParallelSize", "remedies"),
    } <= verdicts["ours"].keys()
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(verdicts)


def test_what_is_wrong_everywhere_is_said_once_below_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_file(tmp_path, "config.json", json.dumps(CONFIG))
    wrong = {**MODEL, "spec": {"model": "org/name", "quantization": "awq"}}

    assert main(["fit", a_file(tmp_path, "m.yaml", wrong), "--config", str(tmp_path)]) == 1
    whys = [line for line in capsys.readouterr().out.splitlines() if line.startswith("why not, on ")]
    assert len(whys) == 1
    assert "this one is not quantized" in whys[0]


def test_fit_counts_the_weights_that_lie_in_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = json.dumps({"w": {"dtype": "BF16", "shape": [1024, 1024], "data_offsets": [0, 2 << 20]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    a_file(tmp_path, "config.json", json.dumps(CONFIG))
    main(
        [
            "fit",
            a_file(tmp_path, "m.yaml", MODEL),
            "--config",
            str(tmp_path),
            "--accelerator",
            "nvidia-l4",
            "--output",
            "json",
        ]
    )

    assert json.loads(capsys.readouterr().out)[0]["weightsBytes"] < 1 << 30


def test_diagnose_reads_a_log_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "sys.stdin", io.StringIO("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n")
    )

    assert main(["diagnose", "-", "--exit-code", "1", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["reason"] == "GPUOutOfMemory"


def test_settings_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", a_file(tmp_path, "s.yaml", {"clusterDomain": "cluster.local"})]) == 0
    assert main(["settings", a_file(tmp_path, "w.yaml", {"clusterDomian": "x"})]) == 2
    assert "clusterDomian" in capsys.readouterr().err


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.strip()[0].isdigit()


@pytest.mark.parametrize(
    ("argv", "content", "named"),
    [
        (["render", "FILE"], {**MODEL, "spec": {"model": "demo/tiny", "maxModelLength": 5}}, "spec.maxModelLength"),
        (["render", "FILE"], {**MODEL, "spec": {"model": "demo/tiny", "maxModelLen": 0}}, "spec.maxModelLen"),
        (["render", "FILE"], {**MODEL, "spec": {"model": "demo/tiny", "maxModelLen": "8k"}}, "a number without quotes"),
        (["render", "FILE"], {"kind": "Deployment"}, "no object of kind VLLMModel"),
        (["render", "FILE"], "a: [", "no YAML"),
        (["render", "/nowhere/m.yaml"], "", "/nowhere/m.yaml"),
        (["render", "FILE", "--answer", "FILE"], MODEL, "--answer"),
        (["fit", "FILE"], "a: " + "[" * 20_000, "no YAML"),
        (["fit", "FILE", "--accelerator", "abacus"], MODEL, "--accelerator"),
        (["fit", "FILE", "--accelerator", "abacus"], MODEL, "nvidia-l4"),
        (["fit", "FILE"], {**MODEL, "spec": {"model": "demo/tiny", "accelerator": "abacus"}}, "spec.accelerator"),
        (["fit", "FILE", "--settings", "/nowhere.yaml"], MODEL, "/nowhere.yaml"),
        (["fit", "FILE", "--config", "/nowhere"], MODEL, "--config"),
        (["diagnose", "/nowhere.log"], "", "/nowhere.log"),
        (["run", "--liveness", "8080"], "", "--liveness"),
        (["run", "--metrics", "0.0.0.0:http"], "", "--metrics"),
        (["run", "--settings", "/nowhere.yaml"], "", "/nowhere.yaml"),
    ],
)
def test_wrong_input_is_one_line_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], content: Any, named: str
) -> None:
    file = a_file(tmp_path, "f.yaml", content)

    assert main([file if arg == "FILE" else arg for arg in argv]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1


def test_without_a_config_nobody_can_tell_and_the_flag_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["fit", a_file(tmp_path, "m.yaml", MODEL), "--accelerator", "nvidia-l4"]

    assert main([*argv, "--output", "json"]) == 0
    (verdict,) = json.loads(capsys.readouterr().out)
    assert verdict["fits"] is None and verdict["remedies"] == []
    assert "--config" in verdict["note"]


def test_what_kubectl_prints_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = MODEL["metadata"] | {"resourceVersion": "7", "managedFields": [{"manager": "kubectl"}], "uid": "u"}
    live = MODEL | {"metadata": metadata, "status": {"conditions": [], "unknownToThisRelease": 1}}
    listed = {"apiVersion": "v1", "kind": "List", "items": [live, {**live, "metadata": {"name": "second"}}]}
    a_file(tmp_path, "config.json", json.dumps(CONFIG))
    argv = ["fit", a_file(tmp_path, "l.yaml", listed), "--config", str(tmp_path), "--accelerator", "nvidia-l40s"]

    assert main([*argv, "--output", "json"]) == 0
    assert [verdict["model"] for verdict in json.loads(capsys.readouterr().out)] == ["tiny", "second"]


def test_a_draft_model_that_is_not_at_hand_leaves_the_fit_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_file(tmp_path, "config.json", json.dumps(CONFIG))
    spec = {"model": "demo/tiny", "maxModelLen": 2048, "speculativeConfig": {"model": "org/draft"}}
    argv = ["fit", a_file(tmp_path, "m.yaml", {**MODEL, "spec": spec}), "--config", str(tmp_path), "--output", "json"]
    main(argv)
    verdicts = {verdict["accelerator"]: verdict for verdict in json.loads(capsys.readouterr().out)}

    assert verdicts["nvidia-h200"]["fits"] is None
    assert "speculativeConfig.model" in verdicts["nvidia-h200"]["note"]
    assert verdicts["nvidia-t4"]["fits"] is False


def test_a_fit_of_arguments_that_are_refused_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_file(tmp_path, "config.json", json.dumps(CONFIG))
    wrong = {**MODEL, "spec": {"model": "demo/tiny", "extraArgs": ["--max-model-len=5"]}}

    assert main(["fit", a_file(tmp_path, "m.yaml", wrong), "--config", str(tmp_path)]) == 2
    assert 'spec.extraArgs: "--max-model-len=5" is the field maxModelLen' in capsys.readouterr().err


def test_without_a_cluster_the_operator_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))

    assert main(["run"]) == 2
    assert "KUBECONFIG" in capsys.readouterr().err


def test_a_terminal_without_the_signs_of_a_remedy_gets_others(tmp_path: Path) -> None:
    a_file(tmp_path, "config.json", json.dumps(CONFIG))
    long = {**MODEL, "spec": {"model": "demo/tiny"}}
    argv = ["fit", a_file(tmp_path, "m.yaml", long), "--config", str(tmp_path), "--accelerator", "nvidia-l4"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "operator"), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "vllm_operator", *argv]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (1, "")
    assert "maxModelLen ? 32000" in done.stdout


def test_the_package_is_a_program() -> None:
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root / "operator")}
    found = subprocess.run(
        [sys.executable, "-m", "vllm_operator", "--help"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert all(
        command in found.stdout for command in ("run", "render", "crd", "fit", "diagnose", "settings", "version")
    )
