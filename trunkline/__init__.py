"""What controller, agent and command line share."""

import os as _os

# gRPC's C core reads this once, when it is loaded, and would else write every GOAWAY to stderr, past our log. Here,
# since this package is imported before grpc by all that we start.
_os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
