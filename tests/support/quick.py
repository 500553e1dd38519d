"""Which tests are quick: the part of the suite that answers a newcomer in less than a minute (``pytest -m quick``).

The rule: a test is quick unless it needs a real server, or a line below names it, its file or its folder. What is named
takes most of the time, because it starts processes, builds wheels, runs other suites, or tries thousands of cases.
"""

from __future__ import annotations

#: Folders, files and tests (under ``tests/``) that are not quick, with what takes their time.
SLOW = {
    "faults/": "servers that fail",
    "simulation/": "thousands of schedules",
    "fuzz/test_fuzz.py::test_the_command": "a search in a process of its own",
    "mutants/test_run.py": "sessions of pytest of their own",
    "docs/test_behaviour.py": "collects the whole suite",
    "docs/test_blocks.py": "runs every page",
    "docs/test_compose.py": "installs the package",
    "docs/test_contributing.py": "collects the suite for each command",
    "cli/test_odd_bytes.py": "a process for each command",
    "typing/": "a run of mypy",
    "projections/test_fingerprint.py::test_the_fingerprint_is_the_same_in_every_process": "a process for each seed",
    "operations/test_import_lines.py::test_a_compressed_line_of_many_megabytes": "many megabytes",
    "testing/test_pytest_plugin.py": "sessions of pytest of their own",
    "testing/test_stores.py::test_tests_without_the_marker_need_no_server": "a session of pytest of its own",
    "testing/test_contract.py::test_a_store_that_breaks_the_contract_is_found_out": "the whole contract for each store",
    "test_architecture.py::test_a_wheel": "builds a wheel",
    "test_architecture.py::test_the_library_of_an_extra": "imports every library in a process of its own",
    "workers/test_crashes.py": "a crash at every point of a run",
    "progress/test_parked.py::test_any_history_with_any_failures_ends_as_the_plain_fold": "hundreds of histories",
    "progress/test_parked.py::test_retries_beside_a_live_runner": "a runner, a writer and two operators at once",
    "operations/test_rebuild.py::test_a_rebuild_beside_a_live_runner": "a runner, writers and readers at once",
    "progress/test_parked.py::test_a_crash_at_any_point": "a crash at every point of a run",
    "subscriptions/test_machine.py::test_whatever_happens": "thousands of orders of events",
    "subscriptions/test_machine.py::test_a_broken_machine_does_not_pass": "thousands of orders of events",
    "operations/test_trim.py::test_whatever_is_trimmed": "hundreds of histories",
    "operations/test_import_lines.py::test_the_log_has_the_order": "large files",
    "format/test_codec_and_names.py::test_damaged_bytes": "hundreds of damaged events",
    "format/test_codec_and_names.py::test_B19_what_can_be_stored": "hundreds of payloads",
    "projections/test_projections.py::test_any_history": "hundreds of histories",
    "operations/test_copy_store.py::test_a_copy_holds_what": "dozens of stores",
    "operations/test_copy_store.py::test_a_copy_that_was_stopped": "a stop at many points of a copy",
    "operations/test_backup.py::test_a_store_that_was_exported_and_imported_is_the_same": "dozens of stores",
    "operations/test_backup.py::test_an_import_that_was_stopped": "a stop at each point of an import",
    "errors/test_copies.py::test_an_error_of_another_process": "processes of their own",
    "workers/test_leases.py::test_an_event_that_outlasts_all_patience": "handlers that outlast a lease",
    "workers/test_leases.py::test_events_that_each_outlast": "handlers that outlast a lease",
    "workers/test_leases.py::test_slow_handlers": "handlers that outlast a lease",
    "workers/test_leases.py::test_work_that_a_stuck_runner": "handlers that outlast a lease",
    "forwarding/test_forwarding.py::test_a_celery_worker": "a worker of Celery",
    "adapters/test_eventsource.py::test_it_answers_as": "hundreds of histories",
    "cli/test_cli.py::test_an_import_that_was_cut_short": "a large file",
    "test_the_largest_batch_is_written_whole": "ten thousand events",
}


def is_quick(test: str, *, real: bool) -> bool:
    """Whether a test is quick. ``test`` is its path under ``tests/``, with its name after ``::`` as pytest gives it."""
    return not real and not any(test.startswith(slow) or f"::{slow}" in test for slow in SLOW)
