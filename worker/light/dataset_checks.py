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
from worker.host.work_folders import held, inspection_folder
from worker.inspection.overlap import DamagedHashes, fetch_hashes, find_overlap
from worker.light.inspections import InspectionContext
from worker.light.lease import Lease
from worker.processes.inspection import Gone, finish, how_it_ended
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
FAILED_ENDS = {
    OUT_OF_MEMORY: (
        DatasetCheckFailure.out_of_memory,
        "The rows need more memory than a preview may use; split the dataset.",
    ),
    FILE_TOO_LARGE: (
        DatasetCheckFailure.disk_full,
        "Its tokens take more disk space than a preview may use; split the dataset.",
    ),
    DISK_FULL: (DatasetCheckFailure.disk_full, "The disk of the worker's work folder is full."),
    -24: (
        DatasetCheckFailure.timed_out,
        "Rendering the rows took more time than a preview of a file of this size may take.",
    ),
    -9: (DatasetCheckFailure.out_of_memory, "The kernel ended the preview's process, most likely for want of memory."),
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
    place: InspectionContext, cache: ModelCache, here: WorkerHardware, draining: threading.Event | None = None
) -> bool:
    """Run one waiting dataset check of any project; return whether there was one. `here` is this worker's machine.

    Errors of storage and PostgreSQL are passed on: the dataset check's lease expires and it runs again."""
    with transaction(place.sessions, "claim_dataset_check") as session:
        check = DatasetCheckRepository(session).claim(place.worker_id, place.lease_seconds)
    if check is None:
        return False

    def renew() -> bool:
        with transaction(place.sessions, "renew_dataset_check") as session:
            return DatasetCheckRepository(session).renew(check, place.lease_seconds)

    folder = inspection_folder(place.work, check.id)
    lease = Lease(renew, place.lease_seconds, draining or threading.Event())
    try:
        with held(folder), lease:
            try:
                ClaimedCheck(place, cache, here, check, folder, lease).run()
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except Gone:
        log.info("left a dataset check", check=check.id, draining=lease.draining.is_set())
        # After the last renewal, which would take the lease again.
        with transaction(place.sessions, "give_back_dataset_check") as session:
            DatasetCheckRepository(session).give_back(check)
    return True


class ClaimedCheck:
    """Runs one dataset check."""

    def __init__(
        self,
        place: InspectionContext,
        cache: ModelCache,
        here: WorkerHardware,
        check: DatasetCheck,
        folder: Path,
        lease: Lease,
    ) -> None:
        self.place, self.cache, self.here, self.check = place, cache, here, check
        self.folder, self.lease = folder, lease

    def run(self) -> None:
        inputs = self._inputs()
        failed: DatasetCheckFailed | None = None
        try:
            answer = self._answer(inputs)
        except DatasetCheckFailed as error:
            failed = error
        except (FileNotFoundError, DamagedObject, DamagedHashes) as error:
            lost = f"Storage no longer has the dataset as it was ({type(error).__name__}); upload it again."
            failed = DatasetCheckFailed(DatasetCheckFailure.file_missing, lost)
        with transaction(self.place.sessions, "conclude_dataset_check") as session:
            service = DatasetCheckService(session)
            if failed is not None:
                service.fail(self.check, failed.code, str(failed))
            else:
                service.answer(self.check, answer)

    def _inputs(self) -> CheckInputs:
        """Read the inputs. Raises Gone if a dataset was deleted."""
        project_id, asked = self.check.project_id, self.check.asked
        with transaction(self.place.sessions, "read_dataset_check") as session:
            datasets = DatasetService(session)
            dataset = datasets.find(project_id, self.check.dataset_id)
            other_id = self.check.other_dataset_id
            other = datasets.find(project_id, other_id) if other_id else None
            if dataset is None or (other_id and other is None):
                raise Gone
            model = ModelService(session).find(project_id, asked["base_model"]) if "base_model" in asked else None
            workers = WorkerRepository(session).taking_jobs()
        machines = [PlanMachine(worker=w.id, device=w.device, device_name=w.device_name) for w in workers]
        return CheckInputs(dataset, other, model, _choose(machines, asked.get("device", "auto"), self.here))

    def _answer(self, inputs: CheckInputs) -> Answer:
        tolerated = BadRowPolicy.model_validate(self.check.asked.get("on_bad_rows", {})).tolerated
        for dataset in filter(None, (inputs.dataset, inputs.other)):
            if (unusable := why_unusable(dataset, tolerated)) is not None:
                raise DatasetCheckFailed(DatasetCheckFailure(unusable.reason), unusable.message)
        return self._overlap(inputs) if self.check.kind == DatasetCheckKind.overlap else self._preview(inputs)

    def _overlap(self, inputs: CheckInputs) -> Answer:
        assert inputs.other is not None
        return Answer(*find_overlap(self._hashes(inputs.dataset), self._hashes(inputs.other), MAX_PAIRS))

    def _hashes(self, dataset: Dataset) -> Path:
        assert dataset.hashes_key is not None  # Every usable dataset has been inspected.
        return fetch_hashes(self.place.storage, dataset.hashes_key, self.folder / dataset.id)

    def _preview(self, inputs: CheckInputs) -> Answer:
        spec = PreviewSpec.model_validate(self.check.asked)
        if inputs.model is None:
            said = f"The model {spec.base_model} was taken out of the registry, or from this project."
            raise DatasetCheckFailed(DatasetCheckFailure.model_not_found, said)
        try:
            with self.cache.held(inputs.model, weights=False, is_over=lambda: self.lease.is_over) as path:
                return self._preview_with(inputs, self._request(spec, inputs, inputs.model, path))
        except InvalidModelFolder as error:
            raise DatasetCheckFailed(DatasetCheckFailure.model_unusable, str(error)) from error
        except FetchStopped as error:
            raise Gone from error

    def _preview_with(self, inputs: CheckInputs, request: PreviewRequest) -> Answer:
        self.place.storage.fetch(rows_of(inputs.dataset), request.job.dataset_path)
        code = finish(COMMAND, request, iter(()), self.folder, lambda: self.lease.is_over)
        if code != 0:
            other = f"The previewing process {how_it_ended(code, self.folder)}."
            raise DatasetCheckFailed(*FAILED_ENDS.get(code, (DatasetCheckFailure.internal_error, other)))
        answer = parse_answer.validate_json((self.folder / ANSWER).read_bytes())
        if isinstance(answer, PreviewRefused):
            raise DatasetCheckFailed(REFUSALS[answer.failed.reason], answer.failed.message)
        return Answer(answer.totals, answer.rows)

    def _request(self, spec: PreviewSpec, inputs: CheckInputs, model: RegisteredModel, path: Path) -> PreviewRequest:
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


def _choose(online: list[PlanMachine], wanted: str, here: WorkerHardware) -> PlanMachine:
    """Return a machine that would take such a job: an online worker, preferably with a GPU. Otherwise return this
    machine, treated as one with the wanted device."""
    fitting = [machine for machine in online if wanted in ("auto", machine.device)]
    if fitting:
        return max(fitting, key=lambda machine: machine.device == "cuda")
    device = here.device if wanted == "auto" else wanted
    name = here.device_name if device == here.device else None
    return PlanMachine(worker=here.worker_id, device=device, device_name=name)
