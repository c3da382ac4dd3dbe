"""The runner on the command line."""

import os
import sys

if __name__ == "__main__":  # a worker process imports it and must not run it
    # What PYTHONPATH names is for other work, another pandas say; this package is found by now.
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path = [place for place in sys.path if place not in named]

    from gmmdiff.pipeline.execution.runner import main

    raise SystemExit(main())
