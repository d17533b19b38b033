"""One training run from its spec to its outputs, resumable after any step."""

import dataclasses
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import seed_for
from workflow_scripts.common.stopping import Stop, Stopped
from workflow_scripts.data.loading import Batches
from workflow_scripts.data.manifest import Places
from workflow_scripts.data.stored_images import Images
from workflow_scripts.evaluation.zero_shot import Evaluator
from workflow_scripts.model.embedding import embed_images
from workflow_scripts.model.encoder import Encoder, frozen_copy
from workflow_scripts.model.precision import uses_bf16
from workflow_scripts.model.tensors import load_tensors
from workflow_scripts.model.weights import load, portable_weights
from workflow_scripts.training import held_out, optimizer
from workflow_scripts.training.checkpoints import Checkpoints
from workflow_scripts.training.epoch_measures import EpochMeasures
from workflow_scripts.training.kept import Kept
from workflow_scripts.training.losses._term import Epoch, Run
from workflow_scripts.training.objective import LossOfBatch, Objective, accumulate
from workflow_scripts.training.pairs import Batch, read_labels
from workflow_scripts.training.progress import Progress, Report
from workflow_scripts.training.sampler import BatchSampler
from workflow_scripts.training.setup import start_model, training_pairs
from workflow_scripts.training.spec import RunSpec
from workflow_scripts.training.taking import LAST, Take, Takes

# Reading the loss synchronises the CPU with the GPU.
_CHECK_EVERY = {"cpu": 1, "cuda": 50}


class Trainer:
    """Trains one run.

    The state after step n depends only on the spec and n: data order, augmentations and random
    states are derived from (seed, step). Checkpoints therefore store none of them, and a run can
    resume with a different number of processes.

    Args:
        spec: The run.
        output: The run's folder.
        world: The process group.
        takes: The epochs to write; training ends when the first one is decided.
        inputs: Digests of the input files, on the leading process.
        root: Folder that tar paths in manifests are relative to.
        workers: Data loader workers of this process.
        stop: Signals when to end early.
        report: Receives progress, measurements and outputs.
    """

    def __init__(
        self,
        spec: RunSpec,
        output: Path,
        world: ProcessGroup,
        *,
        takes: list[Take],
        inputs: dict[str, str],
        root: Path,
        workers: int,
        stop: Stop,
        report: Report,
    ):
        self.spec, self.output, self.world, self.stop = spec, output, world, stop
        self.root, self.workers = root, workers
        self.progress = Progress()
        self.inputs, self.report = inputs, report
        self.takes = Takes(takes, output / "snapshots", spec.epochs)
        self.checkpoints = Checkpoints(output / "checkpoints", spec.checkpoint.keep)
        self.kept = Kept(spec, output)
        self._make_order()
        self._make_model()
        self._make_data()
        self._restore()
        self.wrapped = world.wrap(self.module)
        self._saved_at = self._started = time.monotonic()

    def _make_model(self) -> None:
        spec, world = self.spec, self.world
        model = start_model(spec, world)
        torch.manual_seed(seed_for(spec.seed, "objective"))
        self.encoder = Encoder(model, spec.model, uses_bf16(spec.precision, world))
        run = Run(self.encoder.embed_dim, self.rows, self.sampler.steps, spec.epochs, spec.seed)
        objective = Objective(spec.objective, run)
        start = frozen_copy(self.encoder) if objective.views.by_start else None
        self.module = LossOfBatch(self.encoder, objective, world, spec.joint_statistics, start)
        self.module.to(world.device)
        self.frozen = optimizer.freeze(model, spec.optimizer.freeze or [])
        self.optimizer = optimizer.make_optimizer(self.module, spec.optimizer)
        if spec.optimizer.carry_over:
            file = spec.inputs.start_optimizer
            assert file is not None  # the spec was checked
            optimizer.carry_over(self.optimizer, load_tensors(file, "optimiser state"), file)
        if spec.compile:
            model.visual.compile()
            # Texts are truncated to a different length in each batch.
            (model.text if hasattr(model, "text") else model.transformer).compile(dynamic=True)

    def _make_order(self) -> None:
        """Read the manifest and set up the order of the training rows."""
        spec, world = self.spec, self.world
        self.images = Images(Places.read(spec.inputs.manifest), self.root)
        # The last rows are held out.
        self.rows = len(self.images) - spec.held_out
        self.sampler = BatchSampler(self.rows, spec.batch_size, spec.seed, world.rank, world.size)
        self.schedule = optimizer.make_schedule(spec, self.sampler.steps)

    def _make_data(self) -> None:
        spec, world, inputs = self.spec, self.world, self.spec.inputs
        model, views = self.module.model, self.module.objective.views
        self.pairs = training_pairs(spec, self.images, model, views)
        batch_bytes = self.pairs.bytes * spec.batch_size // world.size
        self.loader = Batches(self.pairs, self.sampler, self.workers, world.device, batch_bytes)
        self.held_out = None
        if spec.held_out:
            pairs = training_pairs(spec, self.images, model, held_out.VIEWS)
            self.held_out = held_out.HeldOut(pairs, spec.held_out, self.workers)
        if inputs.labels is not None:
            self.module.labels = read_labels(inputs.labels, len(self.pairs)).to(world.device)
        self.measures = EpochMeasures(spec, world, self.workers)
        self.evaluator = Evaluator(
            folder=inputs.evaluation,
            root=self.root,
            attack=spec.attack,
            instances=inputs.instances,
            encoder=self.encoder,
            batch_size=spec.evaluation_batch_size,
            workers=self.workers,
            world=world,
            stop=self.stop,
        )

    @property
    def total_steps(self) -> int:
        """Total number of steps of the run."""
        return self.spec.epochs * self.sampler.steps

    def run(self) -> None:
        """Train until the first take is decided, and write its outputs.

        Raises:
            Stopped: A signal arrived or the time is up; a checkpoint was written.
            StepError: The loss or the weights are NaN or infinite.
        """
        end = self.takes.end * self.sampler.steps
        self.report.begin(self.progress, end)
        try:
            self._run_epochs(end)
        finally:
            self.report.close()
            self.loader.close()
            self.evaluator.close()
        if self.world.leads and self.takes.takes[0].rule == LAST:
            self.checkpoints.clear()
        self.report.finish()

    def _run_epochs(self, end: int) -> None:
        while True:
            epoch, within = divmod(self.progress.step, self.sampler.steps)
            if within == 0 and len(self.progress.metrics) == epoch:
                self._evaluate(epoch)
            if self.progress.step >= end:
                return
            self._train_epoch(epoch, within)

    def _train_epoch(self, epoch: int, within: int) -> None:
        state = self.progress
        if within == 0:
            state.loss_sum = state.seconds = 0.0
            self._before_epoch(epoch)
        self._loss_sum = torch.tensor(state.loss_sum, dtype=torch.float64, device=self.world.device)
        self._epoch_began = time.monotonic() - state.seconds
        self.sampler.start(epoch, within)
        self.module.train()
        for module in self.frozen:
            module.eval()
        for batch in self.loader:
            loss = self._step(batch)
            self.report.step(state.step, loss, self.optimizer.param_groups[0]["lr"])
            if state.step % _CHECK_EVERY[self.world.device.type] == 0:
                self._check_loss()
            self._stop_or_save()
        self._note()
        if self._saved_step != state.step:
            self._save()

    def _note(self) -> None:
        """Update the progress with the loss sum on the device and the elapsed time."""
        self.progress.loss_sum = self._loss_sum.item()
        self.progress.seconds = time.monotonic() - self._epoch_began

    def _step(self, batch: Batch) -> torch.Tensor:
        state, spec = self.progress, self.spec
        optimizer.set_learning_rate(self.optimizer, self.schedule(state.step))
        numbers = self.sampler.global_rows(state.step % self.sampler.steps)
        rows = torch.from_numpy(numbers).to(self.world.device, non_blocking=True)
        self.module.step_seed = seed_for(spec.seed, "step", state.step)
        batch = batch.to(self.world.device)
        self.optimizer.zero_grad(set_to_none=True)
        if spec.accumulation > 1:
            loss = accumulate(self.module, self.wrapped, batch, rows, spec.accumulation)
        else:
            loss = self.wrapped(batch, rows)
            loss.backward()
        self.optimizer.step()
        optimizer.clamp_logit_scale(self.module.model)
        state.step += 1
        self._loss_sum += loss.detach()
        return loss.detach()

    def _before_epoch(self, epoch: int) -> None:
        seed = seed_for(self.spec.seed, "epoch", epoch)
        context = Epoch(
            epoch,
            seed,
            embed_images=self._embed_images,
            forget=lambda parameters: optimizer.forget(self.optimizer, parameters),
        )
        for term in self.module.objective.terms:
            torch.manual_seed(seed)
            term.before_epoch(context)

    def _embed_images(self) -> torch.Tensor:
        return embed_images(
            self.encoder,
            self.pairs.images,
            self.rows,
            batch_size=self.spec.evaluation_batch_size,
            workers=self.workers,
            world=self.world,
        )

    _saved_step = -1

    def _check_loss(self) -> None:
        if not math.isfinite(self._loss_sum.item()):
            raise StepError(
                f"the loss of {self.spec.run} is NaN or infinite at step {self.progress.step} "
                f"of {self.total_steps}; lower the learning rate. The last good checkpoint is kept"
            )

    def _stop_or_save(self) -> None:
        reason = self.stop.reason
        if self.world.any(reason is not None):
            self._save()
            raise Stopped(
                f"{self.spec.run} was stopped by {reason or 'another process'} after step "
                f"{self.progress.step} of {self.total_steps}; a checkpoint was written, run it "
                "again to resume"
            )
        if time.monotonic() - self._saved_at >= self.spec.checkpoint.minutes * 60:
            self._save()

    def _save(self) -> None:
        """Write a checkpoint, on the leading process only; the others do not wait for it."""
        state = self.progress
        self._saved_at, self._saved_step = time.monotonic(), state.step
        if not self.world.leads:
            return
        self._check_loss()
        self._check_weights()
        self._note()
        self.checkpoints.save(state.step, self._content())

    def _content(self) -> dict[str, Any]:
        """Return the run's state as stored in a checkpoint."""
        state, clock = self.progress, time.monotonic()
        state.wall_seconds += clock - self._started
        self._started = clock
        return {
            "identity": self.spec.identity(),
            "inputs": self.inputs,
            "progress": dataclasses.asdict(state),
            "world_size": self.world.size,
            "code": self.report.code,
            "model": portable_weights(self.module.model),
            "objective": portable_weights(self.module.objective),
            "optimizer": optimizer.portable_state(self.optimizer),
        }

    def _check_weights(self) -> None:
        finite = [torch.isfinite(p).all() for p in self.module.parameters()]
        if not torch.stack(finite).all():
            raise StepError(
                f"weights of {self.spec.run} are NaN or infinite at step {self.progress.step}; "
                "lower the learning rate. The last good checkpoint is kept"
            )

    def _restore(self) -> None:
        """Resume from the newest checkpoint, if there is one."""
        found = self.checkpoints.newest() if self.world.leads else None
        step = self.world.from_first(-1 if found is None else found[0])
        if step < 0:
            if self.world.leads:
                self.takes.clear()
                self.kept.clear()
            return
        content = found[1] if found else self.checkpoints.read(step)
        if self.world.leads:
            self.checkpoints.check_origin(content, self.spec.identity(), self.inputs)
        load(self.module.model, content["model"], self.checkpoints.folder)
        self.module.objective.load_state_dict(content["objective"])
        optimizer.restore(self.optimizer, content["optimizer"])
        self.progress = Progress(**content["progress"])
        self.progress.note_resumption(content, self.world.size)
        for term in self.module.objective.terms:
            term.resume(self.progress.step // self.sampler.steps)
        if self.world.leads:
            self._check_takes()
            print(f"resuming from the checkpoint of step {step}", file=sys.stderr)

    def _check_takes(self) -> None:
        lost, rule = self.takes.lost(self.progress.metrics), self.takes.takes[0].rule
        if lost is not None:
            raise StepError(
                f"epoch {lost} of {self.spec.run}, selected by --take {rule}, has passed and was "
                f"not kept; delete {self.checkpoints.folder} to train the run from scratch"
            )

    def _evaluate(self, epoch: int) -> None:
        state, spec = self.progress, self.spec
        self.world.share_buffers(self.module.model)
        measured = self.evaluator(self.encoder).fractions()
        if self.held_out is not None:
            measured |= self.held_out(self.module)
        state.measured += self.measures(self.encoder, epoch)
        summary = state.add_epoch(spec, epoch, self.sampler.steps, measured)
        self.report.epoch(state, summary, measured)
        if self.world.leads:
            self.kept.after_epoch(state.metrics, lambda: portable_weights(self.module.model))
            kept = self.kept.record(state.metrics)
            for take, chosen in self.takes.after_epoch(state.metrics, self._content):
                self.report.deliver(take, chosen, self.evaluator.counts, kept)
