"""Runs dataset checks: claim → fetch → compute → conclude. A preview runs in a separate process, an overlap check in
this one.

As with inspections, no file is read inside a transaction, and the lease of a worker that dies expires. An error that
prevents an answer is recorded as the dataset check's failure."""

import shutil
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import structlog
from pydantic import TypeAdapter

from app.dataset_checks.repository import DatasetCheckRepository
from app.dataset_checks.service import Answer, DatasetCheckService
from app.datasets.service import DatasetService, format_of, rows_of, why_unusable
from app.db.session import transaction
from app.db.tables import Dataset, DatasetCheck, RegisteredModel
from app.domain.dataset_checks.overlap import MAX_PAIRS
from app.domain.dataset_checks.preview import PreviewSpec
from app.domain.dataset_checks.state import DatasetCheckFailure, DatasetCheckKind
from app.domain.hardware import WorkerHardware
from app.domain.jobs.spec import BadRowPolicy, JobSpec
from app.domain.jobs.state import FailureReason
from app.errors import InvalidModelFolder
from app.models.service import ModelService
from app.storage import DamagedObject
from app.workers.repository import WorkerRepository
from worker.host.model_cache import FetchStopped, ModelCache
from worker.host.work_folders import hold_folder, inspection_folder
from worker.inspection.overlap import DamagedHashes, fetch_hashes, find_overlap
from worker.light.inspections import InspectionContext
from worker.light.lease import Lease
from worker.processes.inspection import WorkStopped, describe_exit, finish
from worker.rlimits import DISK_FULL, FILE_TOO_LARGE, OUT_OF_MEMORY
from worker.training.preview.messages import ANSWER, PreviewAnswer, PreviewRefused, PreviewRequest
from worker.training.preview.messages import Machine as PlanMachine
from worker.training.runtime.messages import TrainingRequest

log = structlog.get_logger()

COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "worker.training.preview")
LEAST_MEMORY_BYTES = 3 * 2**30
MOST_MEMORY_BYTES = 16 * 2**30
TIMES_THE_FILE = 8
"""A token takes five bytes and is held three times at the end; there is about one token for every four bytes."""
LEAST_CPU_SECONDS = 300
BYTES_A_CPU_SECOND = 20_000
"""Is the slowest expected rendering: conversations whose template renders all earlier turns again for each turn."""
LEAST_FILE_BYTES = 2**30
EXIT_FAILURES = {
    OUT_OF_MEMORY: (
        DatasetCheckFailure.out_of_memory,
        "The preview exceeded its memory limit. Split the dataset.",
    ),
    FILE_TOO_LARGE: (
        DatasetCheckFailure.disk_full,
        "The preview exceeded its disk space limit. Split the dataset.",
    ),
    DISK_FULL: (
        DatasetCheckFailure.disk_full,
        "The disk of the worker's work folder is full. Free disk space on the worker.",
    ),
    -24: (
        DatasetCheckFailure.timed_out,
        "The preview exceeded the time limit for a file of this size. Split the dataset.",
    ),
    -9: (DatasetCheckFailure.out_of_memory, "The kernel killed the preview process, probably because memory ran out."),
}
"""Maps exit codes to failures; 24 is SIGXCPU, 9 SIGKILL."""
REFUSALS = {
    FailureReason.dataset_invalid: DatasetCheckFailure.dataset_invalid,
    FailureReason.model_unusable: DatasetCheckFailure.model_unusable,
    FailureReason.reasoning_not_rendered: DatasetCheckFailure.reasoning_not_rendered,
}
parse_answer: TypeAdapter[PreviewAnswer | PreviewRefused] = TypeAdapter(PreviewAnswer | PreviewRefused)


class DatasetCheckFailed(Exception):
    def __init__(self, code: DatasetCheckFailure, message: str) -> None:
        super().__init__(message)
        self.code = code


class CheckInputs(NamedTuple):
    dataset: Dataset
    other: Dataset | None
    model: RegisteredModel | None
    machine: PlanMachine


def run_next_check(
    context: InspectionContext, cache: ModelCache, here: WorkerHardware, draining: threading.Event | None = None
) -> bool:
    """Run one waiting dataset check of any project; return whether there was one. `here` is this worker's machine.

    Errors of storage and PostgreSQL are passed on: the dataset check's lease expires and it runs again."""
    with transaction(context.sessions, "claim_dataset_check") as session:
        check = DatasetCheckRepository(session).claim(context.worker_id, context.lease_seconds)
    if check is None:
        return False

    def renew() -> bool:
        with transaction(context.sessions, "renew_dataset_check") as session:
            return DatasetCheckRepository(session).renew(check, context.lease_seconds)

    folder = inspection_folder(context.work, check.id)
    lease = Lease(renew, context.lease_seconds, draining or threading.Event())
    try:
        with hold_folder(folder), lease:
            try:
                ClaimedCheck(context, cache, here, check, folder, lease).run()
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except WorkStopped:
        log.info("stopped a dataset check", check=check.id, draining=lease.draining.is_set())
        # After the last renewal, which would take the lease again.
        with transaction(context.sessions, "give_back_dataset_check") as session:
            DatasetCheckRepository(session).give_back(check)
    return True


class ClaimedCheck:
    """Runs one dataset check."""

    def __init__(
        self,
        context: InspectionContext,
        cache: ModelCache,
        here: WorkerHardware,
        check: DatasetCheck,
        folder: Path,
        lease: Lease,
    ) -> None:
        self.context, self.cache, self.here, self.check = context, cache, here, check
        self.folder, self.lease = folder, lease

    def run(self) -> None:
        inputs = self._read_inputs()
        failed: DatasetCheckFailed | None = None
        try:
            answer = self._compute(inputs)
        except DatasetCheckFailed as error:
            failed = error
        except (FileNotFoundError, DamagedObject, DamagedHashes) as error:
            message = f"The dataset is missing or damaged in storage ({type(error).__name__}). Upload it again."
            failed = DatasetCheckFailed(DatasetCheckFailure.file_missing, message)
        with transaction(self.context.sessions, "conclude_dataset_check") as session:
            service = DatasetCheckService(session)
            if failed is not None:
                service.fail(self.check, failed.code, str(failed))
            else:
                service.answer(self.check, answer)

    def _read_inputs(self) -> CheckInputs:
        """Read the inputs. Raises WorkStopped if a dataset was deleted."""
        project_id, asked = self.check.project_id, self.check.asked
        with transaction(self.context.sessions, "read_dataset_check") as session:
            datasets = DatasetService(session)
            dataset = datasets.find(project_id, self.check.dataset_id)
            other_id = self.check.other_dataset_id
            other = datasets.find(project_id, other_id) if other_id else None
            if dataset is None or (other_id and other is None):
                raise WorkStopped
            model = ModelService(session).find(project_id, asked["base_model"]) if "base_model" in asked else None
            workers = WorkerRepository(session).taking_jobs()
        machines = [PlanMachine(worker=w.id, device=w.device, device_name=w.device_name) for w in workers]
        return CheckInputs(dataset, other, model, _choose_machine(machines, asked.get("device", "auto"), self.here))

    def _compute(self, inputs: CheckInputs) -> Answer:
        tolerated = BadRowPolicy.model_validate(self.check.asked.get("on_bad_rows", {})).tolerated
        for dataset in filter(None, (inputs.dataset, inputs.other)):
            if (unusable := why_unusable(dataset, tolerated)) is not None:
                raise DatasetCheckFailed(DatasetCheckFailure(unusable.reason), unusable.message)
        return self._find_overlap(inputs) if self.check.kind == DatasetCheckKind.overlap else self._make_preview(inputs)

    def _find_overlap(self, inputs: CheckInputs) -> Answer:
        assert inputs.other is not None
        return Answer(*find_overlap(self._fetch_hashes(inputs.dataset), self._fetch_hashes(inputs.other), MAX_PAIRS))

    def _fetch_hashes(self, dataset: Dataset) -> Path:
        assert dataset.hashes_key is not None  # Every usable dataset has been inspected.
        return fetch_hashes(self.context.storage, dataset.hashes_key, self.folder / dataset.id)

    def _make_preview(self, inputs: CheckInputs) -> Answer:
        spec = PreviewSpec.model_validate(self.check.asked)
        if inputs.model is None:
            message = (
                f"Model {spec.base_model} was removed from the registry or is no longer available to this project."
            )
            raise DatasetCheckFailed(DatasetCheckFailure.model_not_found, message)
        try:
            with self.cache.hold(inputs.model, weights=False, is_over=lambda: self.lease.is_over) as path:
                return self._run_preview(inputs, self._make_request(spec, inputs, inputs.model, path))
        except InvalidModelFolder as error:
            raise DatasetCheckFailed(DatasetCheckFailure.model_unusable, str(error)) from error
        except FetchStopped as error:
            raise WorkStopped from error

    def _run_preview(self, inputs: CheckInputs, request: PreviewRequest) -> Answer:
        self.context.storage.fetch(rows_of(inputs.dataset), request.job.dataset_path)
        code = finish(COMMAND, request, iter(()), self.folder, lambda: self.lease.is_over)
        if code != 0:
            unknown = DatasetCheckFailure.internal_error, f"The preview process {describe_exit(code, self.folder)}."
            raise DatasetCheckFailed(*EXIT_FAILURES.get(code, unknown))
        answer = parse_answer.validate_json((self.folder / ANSWER).read_bytes())
        if isinstance(answer, PreviewRefused):
            raise DatasetCheckFailed(REFUSALS[answer.failed.reason], answer.failed.message)
        return Answer(answer.totals, answer.rows)

    def _make_request(
        self, spec: PreviewSpec, inputs: CheckInputs, model: RegisteredModel, path: Path
    ) -> PreviewRequest:
        dataset = inputs.dataset
        size = rows_of(dataset).size
        job = TrainingRequest(
            spec=JobSpec.model_validate(spec.as_job(dataset.id)).decided(model.max_seq_len),
            resolved=None,
            attempt=0,
            base_model=model.name,
            base_model_revision=model.revision,
            base_model_path=path,
            dataset_path=self.folder / "training.jsonl",
            dataset_sha256=dataset.sha256,
            dataset_format=format_of(dataset),
            validation_path=None,
            validation_sha256=None,
            checkpoint_path=None,
            work_dir=self.folder,
            cache_dir=self.cache.cache_dir,
        )
        return PreviewRequest(
            spec=spec,
            job=job,
            machine=inputs.machine,
            memory_bytes=min(LEAST_MEMORY_BYTES + TIMES_THE_FILE * size, MOST_MEMORY_BYTES),
            cpu_seconds=LEAST_CPU_SECONDS + size // BYTES_A_CPU_SECOND,
            max_file_bytes=LEAST_FILE_BYTES + TIMES_THE_FILE * size,
        )


def _choose_machine(online: list[PlanMachine], wanted: str, here: WorkerHardware) -> PlanMachine:
    """Return a machine that would take such a job: an online worker, preferably with a GPU. Otherwise return this
    machine, treated as one with the wanted device."""
    fitting = [machine for machine in online if wanted in ("auto", machine.device)]
    if fitting:
        return max(fitting, key=lambda machine: machine.device == "cuda")
    device = here.device if wanted == "auto" else wanted
    name = here.device_name if device == here.device else None
    return PlanMachine(worker=here.worker_id, device=device, device_name=name)
