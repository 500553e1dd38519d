"""What operators do, as functions with typed results. The commands show these results.

==================================  ===================================================================================
`status`, `projection_names`        state, position and lag of every projection; which projections the store knows
`doctor`, `alarms`                  whether the server is fit to hold a log; what may destroy the log at any moment
`verify`                            everything that is wrong with a store
`rebuild`, `rollback`, `reset`      make a view again beside the live one; go back to the previous build; remove a view
`parked`, `skipped`                 events that projections parked, and events that they skipped
`retry_parked`, `drop_parked`       run parked events again with the present code; give them up
`unregister`                        forget a projection that nobody runs any more
`trim`                              remove the first events of the log
`load_scripts`                      load the scripts, for users who may not
`access_rules`                      the rules of an access list, for a kind of user
`export_lines`, `import_lines`      events as JSON lines
`copy_store`, `stream_digests`      a store in another one; what tells whether both hold the same events
==================================  ===================================================================================

Each takes a store as its first argument and covers all its partitions. With an `EventStore` it returns its result, with
an `AsyncEventStore` an awaitable of the same. Results are frozen. Each function is in the module of its own name
(`projection_names` beside `status`, `alarms` beside `doctor`, `skipped` beside `parked`, `drop_parked` beside
`retry_parked`), so ``runner.operations.trim`` is the function.

Long operations have one convention: the whole result is returned at the end, and in between ``progress`` is called with
a `Progress` (how much is done, and of how much). It is called in the thread or event loop that runs the operation, so
it should not wait. Functions that may take long or wait, such as the ``write`` of an export and the ``confirm`` of a
trim, may be coroutine functions; an asynchronous store calls plain functions in a thread.
"""

from ..progress.builds import ResetResult, RollbackResult
from ..progress.parked import SetAsideEvent
from ..progress.registration import Registration
from ..progress.status import ProjectionStatus
from .access_rules import access_rules
from .check import Check
from .copy_store import CopyResult, copy_store
from .doctor import Diagnosis, alarms, doctor
from .export_lines import ExportResult, export_lines
from .face import Progress
from .import_lines import import_lines
from .import_result import BadLine, ImportResult
from .load_scripts import load_scripts
from .parked import ParkedRow, SkippedEvent, parked, skipped
from .rebuild import Comparison, DifferingRow, RebuildResult, rebuild
from .reset import reset
from .retry_parked import RowOutcome, drop_parked, retry_parked
from .rollback import rollback
from .status import StoreStatus, projection_names, status
from .stream_digests import StreamDigest, stream_digests
from .trim import TrimResult, trim
from .unregister import unregister
from .verify import Finding, VerifyResult, verify

__all__ = [
    # What the store knows about its projections.
    "ProjectionStatus", "StoreStatus", "projection_names", "status",
    # The server, and the soundness of a store.
    "Check", "Diagnosis", "Finding", "VerifyResult", "alarms", "doctor", "verify",
    # Access lists, and scripts for users who may not load them.
    "access_rules", "load_scripts",
    # Views.
    "Comparison", "DifferingRow", "RebuildResult", "Registration", "ResetResult", "RollbackResult", "rebuild", "reset",
    "rollback", "unregister",
    # Events that were set aside.
    "ParkedRow", "RowOutcome", "SetAsideEvent", "SkippedEvent", "drop_parked", "parked", "retry_parked", "skipped",
    # Export, import, copies, and removal of events.
    "BadLine", "CopyResult", "ExportResult", "ImportResult", "StreamDigest", "TrimResult", "copy_store", "export_lines",
    "import_lines", "stream_digests", "trim",
    # The progress of a long operation.
    "Progress",
]  # fmt: skip
