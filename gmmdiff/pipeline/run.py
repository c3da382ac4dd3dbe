"""The command that runs a notebook as a stage: see ``gmmdiff.pipeline.runner``."""

import os
import sys

if __name__ == "__main__":  # a worker process imports it and must not run it
    # What PYTHONPATH names is for other work, another pandas say; this package has been imported.
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path = [path for path in sys.path if path not in others]

    from gmmdiff.pipeline.errors import exit_code
    from gmmdiff.pipeline.runner import main

    raise SystemExit(exit_code(main))
