"""Makes a run's report: counts, shares, times, and the damage that the consistency check found."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select

from app.db.session import Sessions, transaction
from app.db.tables import Attempt, Job, JobEvent
from tests.chaos.bars import bars
from tests.chaos.conductor import USER_ACTIONS, Conductor, InjectedFault
from tests.chaos.consistency import BY_KIND
from tests.chaos.job_views import WorkerKind
from tests.chaos.plan import HITS
from tests.chaos.resumes import Resumes, read_resumes
from tests.chaos.stack import EXACT_RESUME_WAIT_SECONDS, LEASE_SECONDS
from tests.chaos.users import NUMBER

DEATHS = ("host_killed", "worker_killed")
SHOWN = 40


class Times(NamedTuple):
    count: int
    median: float | None
    p99: float | None
    longest: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Times":
        if not seconds:
            return cls(0, None, None, None)
        ranked = [round(found, 3) for found in sorted(seconds)]
        return cls(len(ranked), ranked[len(ranked) // 2], ranked[math.ceil(0.99 * len(ranked)) - 1], ranked[-1])


def make_report(seed: int, seconds: float, conductor: Conductor, damage: Sequence[str]) -> dict[str, Any]:
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "lease_seconds": LEASE_SECONDS,
        "exact_resume_wait_seconds": EXACT_RESUME_WAIT_SECONDS,
        **read_rows(conductor),
        "faults": dict(sorted(conductor.counts.items())),
        "resumes": count_resumes(conductor),
        "failpoints": dict(sorted(Counter(conductor.stack.failpoints_fired()).items())),
        "hit_while_training": count_hit(conductor.injected, len(conductor.users.accepted)),
        "commit_answers_lost": conductor.stack.postgres_proxy.num_answers_lost,
        "requests_unanswered": conductor.users.num_unanswered,
        "times": measure(conductor),
        "slowest_restarts": slowest_restarts(conductor),
        "damage_by_kind": {
            kind: sum(any(part in found for part in parts) for found in damage) for kind, parts in BY_KIND.items()
        },
        "damage": list(damage),
    }


def read_rows(conductor: Conductor) -> dict[str, Any]:
    """Read counts of jobs, attempts and failures from the database."""
    with transaction(conductor.stack.sessions) as session:
        jobs = session.scalars(select(Job)).all()
        failed = select(JobEvent.type, JobEvent.data).where(JobEvent.type.in_(["attempt_failed", "job_failed"]))
        failures = Counter(
            f"{kind}, {data['reason']}: {without_ids(data['detail'])}" for kind, data in session.execute(failed)
        )
        attempts = Counter(session.scalars(select(Attempt.outcome)))
        trained = set(session.scalars(select(JobEvent.job_id).where(JobEvent.type == "training_started")))
    real = {job.id for job in jobs if conductor.plans[int(job.metadata_[NUMBER])].real}
    trainings = [job.spec["training"] for job in jobs]
    return {
        "num_jobs": len(jobs),
        "num_real_trainings": len(real & trained),
        "fewest_steps": min(training["max_steps"] for training in trainings),
        "longest_checkpoint_interval": max(training["save_every"] for training in trainings),
        "states": dict(Counter(job.state for job in jobs)),
        "failures": dict(failures.most_common()),
        "attempts": {str(outcome): count for outcome, count in attempts.items()},
    }


def count_resumes(conductor: Conductor) -> dict[str, Any]:
    """Count exact and inexact resumes, and those that a rolling release caused."""
    resumes = _resumes(conductor)
    real = [resumes[id] for id, plan in conductor.users.accepted.items() if plan.real and id in resumes]
    return {
        "exact": sum(each.num_exact for each in resumes.values()),
        "inexact": sum(each.num_inexact for each in resumes.values()),
        "inexact_after_a_drain": sum(each.num_drained_across for each in resumes.values()),
        "inexact_after_a_drain_of_real_jobs": sum(each.num_drained_across for each in real),
        "jobs_that_are_not_exact": sum(bool(each.inexact) for each in resumes.values()),
        "rolling_releases": conductor.releases.num_done,
        "versions": sorted(conductor.releases.versions),
    }


def _resumes(conductor: Conductor) -> dict[str, Resumes]:
    with transaction(conductor.stack.sessions) as session:
        return read_resumes(session, conductor.stack.threads)


def count_hit(injected: Sequence[InjectedFault], num_jobs: int) -> dict[str, float]:
    """Count the jobs that were hit while they trained: by a fault of their worker, training process or connection; by a
    fault of the shared Redis, PostgreSQL or disk; or by a request of their user, which is not a fault."""
    faults = HITS.keys() - set(USER_ACTIONS)
    own = {each.job_id for each in injected if each.kind in faults}
    by_user = {each.job_id for each in injected if each.kind in USER_ACTIONS}
    shared = {each.job_id for each in injected if each.kind not in HITS}
    return {
        "by_own_faults": len(own),
        "by_shared_faults": len(shared),
        "by_shared_faults_alone": len(shared - own),
        "by_wishes": len(by_user),
        "by_nothing": num_jobs - len(own | by_user | shared),
        "share_by_own_faults": round(len(own) / max(num_jobs, 1), 3),
        "share_by_any_fault": round(len(own | shared) / max(num_jobs, 1), 3),
    }


def measure(conductor: Conductor) -> dict[str, Any]:
    sessions = conductor.stack.sessions
    deaths = [fault for fault in conductor.injected if fault.kind in DEATHS]
    undelayed = [fault for fault in deaths if not is_delayed(fault, conductor.faults.delays)]
    resumes = _resumes(conductor)
    waited = [fault for fault in undelayed if waited_for_exact_resume(conductor, resumes, fault)]
    times = {
        "death_to_running_seconds": Times.of(
            until_claims(sessions, [each for each in undelayed if each not in waited])
        ),
        # Other workers were free but left the job to one on which it resumes exactly.
        "death_to_running_with_a_wait_for_exact_resume_seconds": Times.of(until_claims(sessions, waited)),
        "flush_to_running_seconds": Times.of(flushes_to_running(sessions, conductor)),
        "cancel_to_gone_seconds": Times.of(conductor.cancel_seconds),
        # Left out above: recovery waits a lease after an outage, and workers with a full disk claim nothing.
        "death_to_running_while_held_up_seconds": Times.of(
            until_claims(sessions, [fault for fault in deaths if fault not in undelayed])
        ),
    }
    return {name: found._asdict() for name, found in times.items()}


def slowest_restarts(conductor: Conductor, count: int = 5) -> list[dict[str, Any]]:
    """Return the longest times from a worker's death to the next attempt: until the loss was noticed, from there to the
    claim, and the part of it in which no worker was free."""
    found = []
    for fault in conductor.injected:
        if fault.kind not in DEATHS or is_delayed(fault, conductor.faults.delays):
            continue
        lost, claimed = _loss_and_claim(conductor.stack.sessions, fault)
        if lost and claimed:
            times = {
                "kind": fault.kind,
                "real": conductor.users.accepted[fault.job_id].real,
                "at": fault.at - conductor.began_at,
                "to_loss": lost - fault.at,
                "to_claim": claimed - lost,
            }
            times["to_claim_with_none_free"] = without_a_free_worker(conductor, fault.job_id, lost, claimed)
            found.append((claimed - fault.at, times))
    found.sort(key=lambda each: -each[0])
    return [
        {name: round(value, 3) if isinstance(value, float) else value for name, value in each.items()}
        for _, each in found[:count]
    ]


def without_a_free_worker(conductor: Conductor, job_id: str, began: float, ended: float) -> float:
    """Return the seconds between the two times in which no worker of the job's kind was free."""
    is_real = conductor.users.accepted[job_id].real
    samples = free_between(conductor, began, ended)
    return sum(seconds for seconds, free in samples if not any(kind.is_real is is_real for kind in free))


def free_between(conductor: Conductor, began: float, ended: float) -> Iterator[tuple[float, Counter[WorkerKind]]]:
    """Yield durations with the numbers of free workers in them."""
    samples = [*conductor.free, (ended, Counter[WorkerKind]())]
    for (at, free), (until, _) in itertools.pairwise(samples):
        if (seconds := min(until, ended) - max(at, began)) > 0:
            yield seconds, free


def waited_for_exact_resume(conductor: Conductor, resumes: Mapping[str, Resumes], fault: InjectedFault) -> bool:
    """Return whether workers could have claimed the lost job, but none on which it resumes exactly."""
    wanted = resumes[fault.job_id].wanted.get(fault.attempt + 1)
    lost, claimed = _loss_and_claim(conductor.stack.sessions, fault)
    if wanted is None or not lost or not claimed:
        return False
    is_real = conductor.users.accepted[fault.job_id].real
    return any(
        any(kind.is_real is is_real for kind in free) and not free[WorkerKind(is_real, wanted)]
        for _, free in free_between(conductor, lost, claimed)
    )


def without_ids(text: str) -> str:
    """Return the beginning of a message without ids, paths and log lines, so that it is equal for all jobs."""
    message = " ".join(text.split()).partition(" Last lines of its log")[0]
    return re.sub(r"[0-9a-f]{12,}|/[\w./-]+", "…", message)[:160]


def is_delayed(fault: InjectedFault, delays: Sequence[tuple[float, float]]) -> bool:
    """Return whether an outage delayed the next attempt."""
    due = LEASE_SECONDS * 75 / 60
    return any(began - due < fault.at < ended for began, ended in delays)


def until_claims(sessions: Sessions, deaths: Sequence[InjectedFault]) -> list[float]:
    """Return the times from workers' deaths to the next attempts' claims. Jobs that were cancelled have none."""
    return [seconds for fault in deaths if (seconds := _until_claim(sessions, fault)) is not None]


def _until_claim(sessions: Sessions, fault: InjectedFault) -> float | None:
    claimed_at = _happened_at(sessions, fault.job_id, "job_claimed", fault.attempt + 1)
    return claimed_at - fault.at if claimed_at else None


def _loss_and_claim(sessions: Sessions, fault: InjectedFault) -> tuple[float | None, float | None]:
    lost = _happened_at(sessions, fault.job_id, "attempt_lost", fault.attempt)
    return lost, _happened_at(sessions, fault.job_id, "job_claimed", fault.attempt + 1)


def _happened_at(sessions: Sessions, job_id: str, type: str, attempt: int) -> float | None:
    query = select(JobEvent.created_at).where(
        JobEvent.job_id == job_id, JobEvent.type == type, JobEvent.data["attempt"].as_integer() == attempt
    )
    with transaction(sessions) as session:
        at = session.scalars(query).first()
    return at.timestamp() if at else None


def flushes_to_running(sessions: Sessions, conductor: Conductor) -> list[float]:
    """Return the times from flushes of Redis to the claims of the jobs posted right after them."""
    query = (
        select(Job.metadata_[NUMBER].astext, JobEvent.created_at)
        .join(JobEvent, JobEvent.job_id == Job.id)
        .where(JobEvent.type == "job_claimed", JobEvent.data["attempt"].as_integer() == 1)
    )
    with transaction(sessions) as session:
        claimed = {number: at.timestamp() for number, at in session.execute(query)}
    return [claimed[number] - at for at, number in conductor.flush_times if number in claimed]


def describe(report: dict[str, Any]) -> str:
    hit = report["hit_while_training"]
    lines = [
        f"CHAOS_SEED={report['seed']}",
        f"{report['num_jobs']} jobs ({report['num_real_trainings']} with real training) in {report['seconds']:.0f} s: "
        + ", ".join(f"{count} {state}" for state, count in report["states"].items()),
        "attempts: " + ", ".join(f"{count} {outcome}" for outcome, count in report["attempts"].items()),
        "faults: " + ", ".join(f"{count} {kind}" for kind, count in report["faults"].items()),
        "resumes: " + ", ".join(f"{found} {name}" for name, found in report["resumes"].items()),
        f"kills at failpoints: {sum(report['failpoints'].values())} at {len(report['failpoints'])} names",
        *(f"  {count} times {failure}" for failure, count in report["failures"].items()),
        f"hit while training: {hit['by_own_faults']} by own faults, {hit['by_shared_faults_alone']} by shared faults "
        f"only, {hit['by_nothing']} by none",
        *(f"{name}: p99 {found['p99']} of {found['count']}" for name, found in report["times"].items()),
        *(f"  slow: {found}" for found in report["slowest_restarts"]),
        f"damage: {len(report['damage'])}",
        *(f"  {damage}" for damage in report["damage"][:SHOWN]),
        *(str(bar) for bar in bars(report)),
    ]
    return "\n".join(lines)
