"""When an image is built anew, and what may get into it; what the node's Python says about itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import binary, images, lock, processes, tiny_model
from tests.cluster.engine import _pip_settings
from tests.cluster.images import ALL, content_hash, files_of
from tests.cluster.places import ROOT
from tests.cluster.steps import StepFailed, pipe, run

REFERENCE = re.compile(r"vllm-operator\.local/[a-z-]+:[0-9a-f]{12}")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small source tree."""
    for name, text in {"a.py": "a", "folder/b.py": "b", "folder/__pycache__/b.pyc": "x", "folder/c.sh": "c"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def hash_of(tree: Path) -> str:
    return content_hash(files_of(("a.py", "folder"), tree), tree)


def test_only_sources_count(tree: Path) -> None:
    assert [str(file) for file in files_of(("a.py", "folder"), tree)] == ["a.py", "folder/b.py", "folder/c.sh"]


def test_the_same_content_has_the_same_hash_whenever_it_was_written(tree: Path) -> None:
    before = hash_of(tree)
    (tree / "a.py").write_text("a")
    os.utime(tree / "a.py", (1, 1))
    (tree / "folder/__pycache__/b.pyc").write_text("compiled anew")

    assert hash_of(tree) == before
    assert re.fullmatch("[0-9a-f]{12}", before)


def test_an_edit_a_new_name_and_the_right_to_execute_change_the_hash(tree: Path) -> None:
    seen = {hash_of(tree)}
    (tree / "a.py").write_text("another")
    seen.add(hash_of(tree))
    (tree / "folder/b.py").rename(tree / "folder/d.py")
    seen.add(hash_of(tree))
    (tree / "folder/c.sh").chmod(0o755)
    seen.add(hash_of(tree))

    assert len(seen) == 4


def test_content_that_moves_from_one_file_to_the_next_changes_the_hash(tree: Path) -> None:
    before = hash_of(tree)
    (tree / "folder/b.py").write_text("")
    (tree / "folder/c.sh").write_text("bc")

    assert hash_of(tree) != before


def test_a_missing_input_is_named(tree: Path) -> None:
    with pytest.raises(StepFailed, match="tests/nowhere is missing"):
        files_of(("tests/nowhere",), tree)


@pytest.mark.parametrize("name", ALL)
def test_every_image_has_a_reference_and_its_dockerfile_among_its_inputs(name: str) -> None:
    assert REFERENCE.fullmatch(images.reference(ALL[name]))
    assert Path(ALL[name].dockerfile) in files_of(ALL[name].inputs)


@pytest.mark.parametrize("name", ALL)
def test_a_dockerfile_copies_nothing_that_the_hash_does_not_cover(name: str) -> None:
    image = ALL[name]
    text = (ROOT / image.dockerfile).read_text().replace("\\\n", " ")
    copies = re.findall(r"^(?:COPY|ADD) (?!--from)(.+)$", text, re.MULTILINE)
    sources = [word for line in copies for word in line.split()[:-1]]
    covered = [*image.inputs, *(["models"] if image.with_models else [])]

    assert sources
    assert [source for source in sources if not source.startswith(tuple(covered))] == []


@pytest.mark.parametrize("name", ALL)
def test_an_image_runs_as_somebody_without_rights(name: str) -> None:
    users = re.findall(r"^USER (\S+)$", (ROOT / ALL[name].dockerfile).read_text(), re.MULTILINE)

    assert users
    assert not users[-1].startswith(("0", "root"))


@pytest.mark.parametrize("image", lock.LOCKED)
def test_every_library_that_an_image_needs_is_pinned(image: str) -> None:
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / f"images/{image}/lock.txt").read_text().splitlines()
    }
    needed = {re.split("[<>=]", requirement)[0].lower().replace("_", "-") for requirement in lock.wanted(image)}

    assert needed - pinned == set(), "write the locks anew: python -m tests.cluster lock"


def test_pip_settings_carry_the_machines_index_and_leave_its_folders_behind(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("[global]\ncert = /elsewhere.crt\nfind-links = /wheels\nretries = 9\n")

    said = _pip_settings({"PIP_INDEX_URL": "https://index.example/simple", "PIP_FIND_LINKS": "/wheels"}, file)

    assert "index-url = https://index.example/simple" in said
    assert "retries = 9" in said
    assert "/wheels" not in said
    assert "/elsewhere.crt" not in said


def test_names_only_prints_references_and_builds_nothing() -> None:
    command = [sys.executable, "-m", "tests.cluster", "images", "--names-only", "--output", "json"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True)

    printed = json.loads(done.stdout)
    assert set(printed) == set(ALL)
    assert all(REFERENCE.fullmatch(reference) for reference in printed.values())
    assert done.stderr == ""


def test_the_binary_is_named_by_its_sources_and_states_the_version_it_was_built_from() -> None:
    assert re.fullmatch("[0-9a-f]{12}", binary.sources_hash())
    assert re.fullmatch(r"v1\.\d+\.\d+", binary.kubernetes_version())


def test_the_container_runtime_is_one_that_mounts_images_as_volumes_and_is_named_by_its_version() -> None:
    major, minor, _ = map(int, binary.containerd_version().removeprefix("v").split("."))

    assert (major, minor) >= (2, 1)
    assert re.fullmatch("runtime-[0-9a-f]{12}", binary.runtime_folder().name)


def test_a_build_that_was_interrupted_is_no_build_and_what_it_replaces_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binary, "CACHE", tmp_path)
    (tmp_path / "runtime-000000000000").mkdir()
    (tmp_path / "localkube-000000000000").mkdir()
    wanted = tmp_path / "runtime-111111111111"

    def breaks_off(folder: Path) -> None:
        (folder / "half").touch()
        raise StepFailed("no compiler")

    with pytest.raises(StepFailed, match="no compiler"):
        binary.cached(wanted, "building", breaks_off)
    assert not wanted.exists()

    assert binary.cached(wanted, "building", lambda folder: (folder / "containerd").touch()) == wanted
    assert [path.name for path in wanted.iterdir()] == ["containerd"]
    assert binary.cached(wanted, "building", breaks_off) == wanted
    assert {path.name for path in tmp_path.glob("*-*")} == {"localkube-000000000000", wanted.name}


def test_a_process_that_ended_and_a_pid_of_somebody_else_are_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PIDS", tmp_path / "pids")
    monkeypatch.setattr(processes, "LOGS", tmp_path / "logs")
    processes.start("sleeper", "sleep", "60")
    assert processes.is_running("sleeper")

    record = tmp_path / "pids" / "sleeper.json"
    told = json.loads(record.read_text())
    record.write_text(json.dumps({**told, "start": told["start"] - 1}))
    assert not processes.is_running("sleeper")

    record.write_text(json.dumps(told))
    processes.stop("sleeper")
    assert processes.recorded() == []
    assert not processes.is_running("sleeper")


def test_a_failed_command_is_told_with_its_last_words() -> None:
    with pytest.raises(StepFailed, match="ended with 3:\nwhy it failed"):
        run(sys.executable, "-c", "import sys; print('why it failed'); sys.exit(3)")


def test_what_one_command_writes_the_other_reads_and_a_failure_of_either_is_told(tmp_path: Path) -> None:
    copy = f"import sys; open({str(tmp_path / 'copy')!r}, 'w').write(sys.stdin.read())"
    pipe((sys.executable, "-c", "print('some bytes')"), (sys.executable, "-c", copy))
    assert (tmp_path / "copy").read_text() == "some bytes\n"

    with pytest.raises(StepFailed, match="the reader is broken"):
        pipe((sys.executable, "-c", "print(1)"), (sys.executable, "-c", "raise SystemExit('the reader is broken')"))


def test_a_missing_program_is_named() -> None:
    with pytest.raises(StepFailed, match="no-such-program is not installed"):
        run("no-such-program")


def test_the_tiny_model_is_the_same_everywhere_and_its_header_covers_its_bytes(tmp_path: Path) -> None:
    tiny_model.write(tmp_path / "one")
    tiny_model.write(tmp_path / "two")
    content = (tmp_path / "one" / "model.safetensors").read_bytes()
    assert content == (tmp_path / "two" / "model.safetensors").read_bytes()

    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    assert max(ends) == len(content) - 8 - length
    config = json.loads((tmp_path / "one" / "config.json").read_text())
    assert header["lm_head.weight"]["shape"] == [config["vocab_size"], config["hidden_size"]]


def test_the_tiny_model_can_spell_every_word_of_its_sentence(tmp_path: Path) -> None:
    tiny_model.write(tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]

    assert all(tiny_model._spelled(word) in vocabulary for word in tiny_model.SENTENCE)
    assert len(set(tiny_model.SENTENCE)) == len(tiny_model.SENTENCE), "a word that comes twice has two followers"
    assert all("".join(pair) in vocabulary for pair in tokenizer["model"]["merges"])
