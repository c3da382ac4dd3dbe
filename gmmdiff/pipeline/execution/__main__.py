"""The runner on the command line."""

from gmmdiff.pipeline.execution.runner import main

if __name__ == "__main__":  # a worker process imports it and must not run it
    raise SystemExit(main())
