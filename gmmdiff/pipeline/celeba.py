"""Trains what section celeba of params.yaml asks for, on one GPU or several.

    accelerate launch -m gmmdiff.pipeline.celeba

may be stopped at any moment; the same command goes on from the last checkpoints.  Notebook 07
(``dvc repro celeba``) then measures and judges; what is not trained yet it trains on one device.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from gmmdiff.pipeline.check_parameters import check_file
from gmmdiff.pipeline.execution.errors import BadInput, exit_code
from gmmdiff.pipeline.execution.parameters import PARAMS


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code (see ``errors.exit_code``)."""
    parser = argparse.ArgumentParser(
        prog="gmmdiff.pipeline.celeba", description="Train the denoisers of CelebA."
    )
    parser.add_argument("--params", type=Path, default=PARAMS)
    options = parser.parse_args(arguments)

    def command() -> None:
        values = check_file(options.params)["celeba"]
        if not values["folder"]:
            raise BadInput(f"{options.params}, section celeba: folder must be set, got nothing")
        from tqdm import tqdm

        from gmmdiff.study.celeba.runs import Experiment, settings

        Experiment(settings(**values), partial(tqdm, leave=False)).train()

    return exit_code(command)


if __name__ == "__main__":
    raise SystemExit(main())
