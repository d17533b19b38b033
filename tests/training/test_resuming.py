"""An interrupted run resumes and gives the same result as an uninterrupted one."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from workflow_scripts.common.errors import StepError
from workflow_scripts.training import checkpoints, trainer
from workflow_scripts.training.checkpoints import Checkpoints, lock

# A loss term that sends a signal to its own process once: signal and step are in the file "order".
TERM = """
import os, time
from pathlib import Path
from workflow_scripts.training.losses import mmcl

class Loss(mmcl.Loss):
    calls = 0
    def forward(self, features):
        if Path(__file__).with_name("slow").exists():
            time.sleep(0.3)
        order = Path(__file__).with_name("order")
        if order.exists():
            number, step = map(int, order.read_text().split())
            self.calls += 1
            if self.calls == step:
                order.unlink()
                os.kill(os.getpid(), number)
        return super().forward(features)
"""


@pytest.fixture
def fragile(runs):
    """A spec with the loss term above; 12 steps in 3 epochs, with batch norm."""
    (runs.folder / "term.py").write_text(TERM)
    return runs.spec(
        objective={str(runs.folder / "term.py"): 1.0, "ssl": 0.5},
        checkpoint={"minutes": 0.0, "keep": 2},
    )


def die(runs, number, step):
    (runs.folder / "order").write_text(f"{int(number)} {step}")


def wait_for(happened, seconds=60):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def join(process):
    process.join(60)
    return process.exitcode


def test_a_run_killed_at_random_steps_gives_the_same_bytes(runs, fragile, resnet):
    fragile["model"]["config"] = resnet
    whole = runs.train("whole", fragile)
    steps = [random.randint(1, 5) for _ in range(3)]
    print("killed after", steps)
    for step in steps:
        die(runs, signal.SIGKILL, step)
        (process,) = runs.fork("killed", fragile)
        assert join(process) == -signal.SIGKILL
    killed = runs.train("killed", fragile)
    assert runs.same(whole, killed)


def test_four_processes_killed_at_random_steps_give_the_same_bytes(runs, fragile, resnet):
    fragile["model"]["config"] = resnet
    whole = runs.together("whole", fragile, processes=4)
    (runs.folder / "slow").touch()
    ranks = runs.fork("killed", fragile, processes=4)
    wait_for(lambda: list((runs.folder / "killed/checkpoints").glob("step-000000003-*")))
    for rank in ranks:
        rank.kill()
        rank.join()
    (runs.folder / "slow").unlink()
    resumed = runs.together("killed", fragile, processes=4)
    assert json.loads((resumed / "run.json").read_text())["resumptions"][0]["step"] >= 3
    assert runs.same(whole, resumed)


def test_without_intermediate_checkpoints_the_epoch_is_repeated(runs, fragile):
    fragile["checkpoint"]["minutes"] = 30.0
    whole = runs.train("whole", fragile)
    die(runs, signal.SIGKILL, 7)
    (process,) = runs.fork("killed", fragile)
    assert join(process) == -signal.SIGKILL
    killed = runs.train("killed", fragile)
    assert runs.same(whole, killed)
    assert json.loads((killed / "run.json").read_text())["resumptions"][0]["step"] == 4


def test_a_run_killed_while_writing_a_checkpoint_uses_the_previous_one(runs, fragile):
    def prepare():
        original, count = checkpoints.save_tensors, iter(range(99))

        def save_half(content, path):
            original(content, path)
            if next(count) == 4:
                path.write_bytes(path.read_bytes()[:9000])
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoints.save_tensors = save_half

    whole = runs.train("whole", fragile)
    (process,) = runs.fork("killed", fragile, prepare=prepare)
    assert join(process) == -signal.SIGKILL
    killed = runs.train("killed", fragile)
    assert runs.same(whole, killed)
    assert json.loads((killed / "run.json").read_text())["resumptions"][0]["step"] == 4


def test_a_run_killed_while_evaluating_evaluates_again(runs, fragile):
    def prepare():
        original = trainer.Trainer._evaluate

        def evaluate(self, epoch):
            if epoch == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            original(self, epoch)

        trainer.Trainer._evaluate = evaluate

    fragile["checkpoint"]["minutes"] = 30.0
    whole = runs.train("whole", fragile)
    (process,) = runs.fork("killed", fragile, prepare=prepare)
    assert join(process) == -signal.SIGKILL
    assert runs.same(whole, runs.train("killed", fragile))


def test_a_damaged_checkpoint_is_skipped_with_a_warning(runs, fragile, capsys):
    whole = runs.train("whole", fragile)
    die(runs, signal.SIGKILL, 7)
    (process,) = runs.fork("killed", fragile)
    join(process)
    newest, before = Checkpoints(runs.folder / "killed" / "checkpoints", 2).files()
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    killed = runs.train("killed", fragile)
    assert f"warning: skipping checkpoint {newest}" in capsys.readouterr().err
    resumption = json.loads((killed / "run.json").read_text())["resumptions"][0]
    assert f"step-{resumption['step']:09d}" in before.name
    assert runs.same(whole, killed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_stops_a_run_after_the_step_with_a_checkpoint(runs, fragile, number):
    fragile["checkpoint"]["minutes"] = 30.0
    whole = runs.train("whole", fragile)
    die(runs, number, 6)
    with pytest.raises(StepError, match=rf"stopped by {number.name} after step 6 of 12; a check"):
        runs.train("stopped", fragile)
    stopped = runs.train("stopped", fragile, "--workers", "1")
    assert runs.same(whole, stopped)


def test_the_time_limit_stops_a_run_cleanly(runs, fragile):
    whole = runs.train("whole", fragile)
    with pytest.raises(StepError, match="stopped by the time limit of 0 minutes"):
        runs.train("stopped", fragile, "--minutes", "0")
    # During the evaluation of the start model, before there is any checkpoint.
    assert runs.same(whole, runs.train("stopped", fragile))


def interrupted(runs, spec, number, *options):
    """Start a run, signal its process group after a checkpoint; return exit status and stderr."""
    arguments = runs.arguments("stopped", spec, "--device", "cpu", *options)
    (runs.folder / "slow").touch()
    command = [sys.executable, "-m", "workflow_scripts.training.train", *arguments]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, restore_signals=True
    )
    folder = runs.folder / "stopped" / "checkpoints"
    wait_for(lambda: list(folder.glob("step-*")), seconds=200)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=100)
    (runs.folder / "slow").unlink()
    # The bar ends with a carriage return.
    return process.returncode, errors.replace("\r", "\n")


def test_ctrl_c_gives_one_sentence_and_a_checkpoint(runs, fragile):
    code, errors = interrupted(runs, fragile, signal.SIGINT, "--workers", "1")
    assert code == 1
    assert errors.count("stopped by SIGINT") == errors.count("error") == 1
    assert "Traceback" not in errors
    assert runs.same(runs.train("whole", fragile), runs.train("stopped", fragile))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_torchrun_forwards_signals_and_other_numbers_of_processes_resume(runs, fragile, number):
    fragile["optimizer"]["eps"] = 1e-3
    code, errors = interrupted(runs, fragile, number, "--processes", "2", "--workers", "1")
    assert code == 128 + number
    assert errors.count(f"stopped by {number.name}") == errors.count("error") == 1
    assert "Traceback" not in errors
    stopped = runs.train("stopped", fragile)
    record = json.loads((stopped / "run.json").read_text())
    (resumption,) = record["resumptions"]
    assert resumption["code_before"] == record["code"]["digest"]
    assert (resumption["processes_before"], resumption["processes"]) == (2, 1)
    whole = runs.train("whole", fragile)
    for name, value in runs.weights(whole).items():
        torch.testing.assert_close(runs.weights(stopped)[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_results_do_not_depend_on_the_number_of_workers(runs, workers):
    spec = runs.spec(objective={"mmcl": 1.0, "ssl": 1.0})
    alone = runs.train("alone", spec)
    assert runs.same(alone, runs.train("helped", spec, "--workers", workers))


def test_checkpoints_of_another_run_are_rejected(runs, fragile, world):
    die(runs, signal.SIGKILL, 3)
    (process,) = runs.fork("x", fragile)
    join(process)
    with pytest.raises(StepError, match="were made with a different spec; delete that folder"):
        runs.train("x", fragile | {"seed": 5})
    tokens = world / "tokens.npy"
    content = tokens.read_bytes()
    try:
        tokens.write_bytes(content[:-1] + b"\\1")
        with pytest.raises(StepError, match="made with a different tokens"):
            runs.train("x", fragile)
    finally:
        tokens.write_bytes(content)


def test_only_the_last_checkpoints_are_kept(tmp_path):
    kept = Checkpoints(tmp_path, 2)
    for step in (1, 2, 10):
        kept.save(step, {"step": step})
    assert [file.name[:14] for file in kept.files()] == ["step-000000010", "step-000000002"]
    assert kept.newest() == (10, {"step": 10})
    assert len(list(tmp_path.iterdir())) == 2


def test_checkpoints_of_later_steps_are_removed(tmp_path):
    kept = Checkpoints(tmp_path, 2)
    for step in (5, 11, 12, 3):
        kept.save(step, {"step": step})
    assert [file.name[:14] for file in kept.files()] == ["step-000000003"]
    kept.save(3, {"step": "another"})
    assert kept.newest() == (3, {"step": "another"})


def test_a_second_job_of_the_same_run_is_a_clear_error(runs, tmp_path):
    (runs.folder / "x").mkdir()
    child = os.fork()
    if child == 0:
        held = lock(runs.folder / "x")
        (tmp_path / "locked").touch()
        time.sleep(60)
        held.close()
    while not (tmp_path / "locked").exists():
        time.sleep(0.01)
    with pytest.raises(StepError, match="another process is training in"):
        runs.train("x", runs.spec(epochs=0))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    runs.train("x", runs.spec(epochs=0))
