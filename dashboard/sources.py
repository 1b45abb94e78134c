"""The CSV files a run can be made from, by the short key that stands in the page's address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regatta.dashboard import folders, jobs, samples, uploads, words
from regatta.runs.store import RunStore
from regatta.utils import UserError, home

Reading = Mapping[str, Any]  # the options of the reading that are not left to Regatta
AS_FOUND: Reading = {}
KIND_UPLOAD = "upload"
KIND_SAMPLE = "sample"
KIND_FOLDER = "folder"  # read where it lies
KIND_RUN = "run"  # that of a run, trained from a terminal: read where it lies, and not in the list


@dataclass(frozen=True)
class Source:
    """A file on disk that the page may read."""

    key: str
    kind: str
    name: str
    path: Path
    suggested_target: str = ""

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def inspection(self, reading: Reading = AS_FOUND) -> jobs.Job:
        """The job that reads and describes it, named by the file's very state and by the options
        of the reading."""
        return jobs.job_of("inspect", **self._inspect_arguments(reading))

    def start_inspection(self, reading: Reading = AS_FOUND) -> jobs.Job:
        """Start that job unless it runs or is done."""
        return jobs.start("inspect", **self._inspect_arguments(reading))

    def clean_copy(self, reading: Reading = AS_FOUND) -> jobs.Job:
        """The job that writes it as a canonical CSV."""
        return jobs.job_of("clean", **self._inspect_arguments(reading))

    def start_clean_copy(self, reading: Reading = AS_FOUND) -> jobs.Job:
        """Start that job unless it runs or is done."""
        return jobs.start("clean", **self._inspect_arguments(reading))

    def start_target_check(self, target: str, reading: Reading = AS_FOUND) -> jobs.Job:
        """Start the job that looks at the file with a target in mind, unless it runs or is done."""
        return jobs.start("target", **self._inspect_arguments(reading), target=target)

    def _inspect_arguments(self, reading: Reading = AS_FOUND) -> dict[str, Any]:
        status = self.path.stat()
        file = {"path": str(self.path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
        return {**file, "reading": dict(reading)} if reading else file


def find(key: str) -> Source:
    """The file behind ``key``. A `UserError` if it is not there."""
    for sample in samples.all_samples():
        if key == sample.key:
            if not sample.exists:
                raise UserError("The large sample has not been made yet.", "Make it on “Data”.")
            return Source(key, KIND_SAMPLE, sample.path.name, sample.path, sample.target)
    if key.startswith(f"{KIND_RUN}-"):
        return of_run(key.removeprefix(f"{KIND_RUN}-"))
    if key.startswith("folder-"):
        path = folders.find(key)
        return Source(key, KIND_FOLDER, path.name, path)
    upload = uploads.find_upload(key)
    return Source(upload.upload_id, KIND_UPLOAD, upload.name, upload.path)


def of_run(run_id: str) -> Source:
    """The file that a run was trained on. A `UserError` if it is not there."""
    path = Path(RunStore(home()).config(run_id).path)
    if not (path.is_absolute() and path.is_file()):
        raise UserError(f"{path.name} of that run is not there any more.", "Choose another file.")
    return Source(f"{KIND_RUN}-{run_id}", KIND_RUN, path.name, path)


def list_sources() -> list[Source]:
    """Uploads, newest first, then files picked from a folder, then the samples that exist."""
    found = [
        Source(each.upload_id, KIND_UPLOAD, each.name, each.path) for each in uploads.list_uploads()
    ]
    found.extend(Source(key, KIND_FOLDER, path.name, path) for key, path in folders.list_picked())
    found.extend(
        Source(each.key, KIND_SAMPLE, each.path.name, each.path, each.target)
        for each in samples.all_samples()
        if each.exists
    )
    return found


def labels(known: Sequence[Source]) -> dict[str, str]:
    """What each file is called where one is chosen, by its key; no two alike.

    The same file may have been uploaded twice, and a widget tells its options apart by their
    words alone.
    """
    found: dict[str, str] = {}
    times: Counter[str] = Counter()
    for each in known:
        label = f"{each.name}  ({words.size(each.size)})"
        times[label] += 1
        found[each.key] = label if times[label] == 1 else f"{label}  · file {times[label]}"
    return found
