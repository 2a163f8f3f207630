"""Usable cores and memory under control groups, and the instructions that TensorFlow needs."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bc_model.errors import ProcessorError
from bc_model.training import Run, TrainingConfig, start_run
from bc_model.utils import processor
from bc_model.utils.processor import require_tensorflow, usable_cores


def write_tree(
    tmp_path: Path, cgroup: str, mounts: list[tuple[str, str, str]], files: dict[str, str]
) -> Path:
    """Write the process directory and the mounted control groups of a machine.

    `mounts` contains root, mount point below `tmp_path`, and type with options.
    """
    process = tmp_path / "proc"
    process.mkdir()
    (process / "cgroup").write_text(cgroup)
    lines = [
        f"3{number} 2 0:2 {root} {tmp_path / point} rw,relatime - {kind}"
        for number, (root, point, kind) in enumerate(mounts)
    ]
    (process / "mountinfo").write_text("\n".join(lines))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return process


V1, V2 = "cgroup cgroup rw,cpu,cpuacct", "cgroup2 cgroup rw"
TREES = {
    "none": ("0::/\n", [("/", "v2", V2)], {}, math.inf),
    "v2": ("0::/a\n", [("/", "v2", V2)], {"v2/a/cpu.max": "150000 100000\n"}, 1.5),
    "v2 unlimited": ("0::/a\n", [("/", "v2", V2)], {"v2/a/cpu.max": "max 100000\n"}, math.inf),
    "v2 parent": (
        "0::/a/b\n",
        [("/", "v2", V2)],
        {"v2/a/cpu.max": "50000 100000\n", "v2/a/b/cpu.max": "400000 100000\n"},
        0.5,
    ),
    "v2 container": ("0::/\n", [("/", "v2", V2)], {"v2/cpu.max": "200000 100000\n"}, 2.0),
    "v1": (
        "4:cpu,cpuacct:/a\n0::/\n",
        [("/", "cpu", V1), ("/", "v2", V2)],
        {"cpu/a/cpu.cfs_quota_us": "300000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
        3.0,
    ),
    "v1 unlimited": (
        "4:cpu:/\n",
        [("/", "cpu", V1)],
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        math.inf,
    ),
    "v1 container with the path of the host": (
        "4:cpu:/docker/1\n",
        [("/docker/1", "cpu", V1)],
        {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"},
        2.5,
    ),
    "damaged": ("0::/a\n", [("/", "v2", V2)], {"v2/a/cpu.max": "many\n"}, math.inf),
    "not a list": ("text\n", [("/", "v2", V2)], {}, math.inf),
}


@pytest.mark.parametrize(("cgroup", "mounts", "files", "expected"), TREES.values(), ids=list(TREES))
def test_cpu_quota_is_the_lowest_of_all_groups(
    cgroup: str, mounts: list, files: dict, expected: float, tmp_path: Path
) -> None:
    assert processor._cpu_quota(write_tree(tmp_path, cgroup, mounts, files)) == expected


MEMORY_V1 = "cgroup cgroup rw,memory"
MEMORY_TREES = {
    "none": ("0::/\n", [("/", "v2", V2)], {}, math.inf),
    "v2 parent": (
        "0::/a/b\n",
        [("/", "v2", V2)],
        {"v2/a/memory.max": "1073741824\n", "v2/a/b/memory.max": "max\n"},
        2**30,
    ),
    "v1": (
        "5:memory:/a\n0::/\n",
        [("/", "memory", MEMORY_V1), ("/", "v2", V2)],
        {"memory/a/memory.limit_in_bytes": "536870912\n"},
        2**29,
    ),
    "damaged": ("0::/a\n", [("/", "v2", V2)], {"v2/a/memory.max": "much\n"}, math.inf),
    "not a list": ("text\n", [("/", "v2", V2)], {}, math.inf),
}


@pytest.mark.parametrize(
    ("cgroup", "mounts", "files", "expected"), MEMORY_TREES.values(), ids=list(MEMORY_TREES)
)
def test_memory_limit_is_the_lowest_of_all_groups(
    cgroup: str, mounts: list, files: dict, expected: float, tmp_path: Path
) -> None:
    assert processor._memory_limit(write_tree(tmp_path, cgroup, mounts, files)) == expected


@pytest.mark.skipif(os.name == "nt", reason="Windows does not report the memory.")
def test_usable_memory_is_that_of_the_machine_or_of_its_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processor, "_memory_limit", lambda: math.inf)
    machine_mb = processor.usable_memory_mb()
    assert machine_mb > 100
    monkeypatch.setattr(processor, "_memory_limit", lambda: 2**26)
    assert processor.usable_memory_mb() == 64


@pytest.mark.parametrize(
    ("quota", "affinity", "expected"),
    [
        (math.inf, 8, 8),
        (math.inf, 3, 3),
        (1.5, 8, 2),
        (0.1, 8, 1),
        (6.0, 4, 4),
        (99.0, 8, 8),
    ],
)
def test_usable_cores_are_the_minimum_of_quota_affinity_and_cores(
    quota: float, affinity: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(processor, "_cpu_quota", lambda: quota)
    assert usable_cores() == expected
    assert processor.limited_cores() == (None if expected == 8 else expected)


def test_resolved_threads_and_openvino_respect_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    from bc_model.inference.engine import compile_options

    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for quota, automatic in ((math.inf, 7), (4.0, 3), (2.0, 2), (0.5, 1)):
        monkeypatch.setattr(processor, "_cpu_quota", lambda quota=quota: quota)
        assert TrainingConfig("data").resolved_threads == automatic
        assert TrainingConfig("data", threads=6).resolved_threads == min(6, usable_cores())
        threads = compile_options("f32").get("INFERENCE_NUM_THREADS")
        assert threads == (None if quota > 8 else usable_cores())


def test_limit_threads_keeps_variables_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in processor._THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr(processor, "limited_cores", lambda: 2)
    processor.limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == "2"


THREADS = """
import json, sys
import cv2, numpy, threadpoolctl
from bc_model.utils import processor
processor.limited_cores = lambda: None if sys.argv[1] == "all" else 1
processor.limit_loaded_threads()
threads = [library["num_threads"] for library in threadpoolctl.threadpool_info()]
print(json.dumps([*threads, cv2.getNumThreads()]))
"""


@pytest.mark.skipif(usable_cores() < 2, reason="needs two cores")
@pytest.mark.parametrize("quota", ["all", "one"])
def test_limit_loaded_threads_limits_libraries_that_are_loaded(quota: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in processor._THREAD_VARIABLES}
    command = [sys.executable, "-c", THREADS, quota]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    threads = json.loads(done.stdout)
    assert len(threads) >= 2
    assert all((n == 1) == (quota == "one") for n in threads)


# --- Instructions ---


@pytest.fixture
def old_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(processor, "_processor_features", lambda: {"SSE42": True, "AVX": False})


def test_require_tensorflow_accepts_this_processor_and_other_architectures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_tensorflow()
    monkeypatch.setattr(processor, "_processor_features", lambda: {"AVX": False})
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    require_tensorflow()


def test_functions_that_start_tensorflow_check_the_processor(
    old_processor: None, tmp_path: Path, tiny_run: Run
) -> None:
    from bc_model.inference import export_model, open_bundle
    from bc_model.model import build_model, load_keras
    from bc_model.training.devices import make_strategy, resolve_compute_dtype
    from bc_model.training.feature_extraction import fastest_extractor_name
    from bc_model.training.resume import require_resumable

    config = TrainingConfig(str(tmp_path))
    calls = (
        lambda: build_model("tiny"),
        lambda: load_keras(tmp_path / "model.keras"),
        lambda: make_strategy(config),
        lambda: resolve_compute_dtype(config),
        lambda: fastest_extractor_name(),
        lambda: export_model(open_bundle(tiny_run.path), "onnx", tmp_path),
        lambda: start_run(config, tmp_path / "runs"),
    )
    for call in calls:
        with pytest.raises(ProcessorError, match=r"Expected AVX instructions.*another machine"):
            call()
    assert list(tmp_path.iterdir()) == []

    run = Run.create(tmp_path / "run")
    run.write_config({"config": {}})
    run.write_status("failed")
    assert not run.can_resume
    with pytest.raises(ProcessorError):
        require_resumable(run)


def test_trainer_checks_the_processor_before_keras_is_imported() -> None:
    code = (
        "import sys\n"
        "from bc_model.utils import processor\n"
        "from bc_model.errors import ProcessorError\n"
        "processor.can_start_tensorflow = lambda: False\n"
        "try:\n"
        "    import bc_model.training.trainer\n"
        "except ProcessorError as error:\n"
        "    print(error)\n"
        "print('keras' in sys.modules, 'tensorflow' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, last = done.stdout.splitlines()
    assert first.startswith("TensorFlow cannot start on this processor.")
    assert last == "False False"
