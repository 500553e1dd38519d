"""Loading the scripts of this version into the server, for users who may run scripts and not load them."""

from __future__ import annotations

from ..effects import DriverOperation, Execute
from ..format.scripts import loading
from .face import StoreContext, for_either_store


@for_either_store
def load_scripts(store: StoreContext) -> DriverOperation[int]:
    """Load all scripts of this version; returns how many there are. Scripts of other versions stay.

    Whoever may load scripts does so by itself, for all users, when the server lacks one. Raises StoreTrouble.
    """
    loaded = yield Execute(list(loading(store.in_memory)))
    return len(loaded)
