"""
Lets Triton's Python backend start under newer releases of CPython 3.11: the sitecustomize of its environment.

The backend embeds an older 3.11 and takes the standard library of the machine. Since 3.11.7 its
`multiprocessing.resource_tracker` asks its lock for `_recursion_count`, which the older interpreter's C lock does not
have. The lock in Python, of the same library, has it.
"""

import threading
from typing import Any

if not hasattr(threading.RLock(), "_recursion_count") and hasattr(threading, "_PyRLock"):
    from multiprocessing import resource_tracker

    tracker: Any = resource_tracker._resource_tracker
    tracker._lock = threading._PyRLock()
