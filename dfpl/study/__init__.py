"""Studies: many runs on a cluster. The only part of the library that knows Ray and Optuna."""

import os

if "RAY_ADDRESS" not in os.environ:  # Ray reads this as it is imported
    # else a Ray of our own takes 127.0.0.1 for the machine's address, and listens everywhere
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
