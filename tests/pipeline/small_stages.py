"""Stages of one's own: a notebook of a few cells, and the command line that runs it."""

import nbformat
import yaml

from gmmdiff.pipeline import runner
from gmmdiff.pipeline.errors import exit_code

PARAMETERS = "n: int = 1  # a number, here n = m; in [0, 9]"
TABLE = (
    "import pandas as pd\nfrom gmmdiff.pipeline.results import Results\n"
    "Results('stage').table('one', pd.DataFrame({'n': [n]}))"
)


def notebook(path, *sources):
    """A notebook whose first cell is its parameters cell."""
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
    cells[0].metadata["tags"] = ["parameters"]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


def arguments(folder, book, params, stage="stage", reports="reports"):
    """The command line of one run, its params.yaml written."""
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    return [str(book), stage, "--params", str(path), "--reports", str(folder / reports)]


def run(*given, **options):
    """The exit code of ``arguments``."""
    return exit_code(runner.main, arguments(*given, **options))


def no_cell_warns(executed):
    cells = nbformat.read(executed, 4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return outputs and not [output for output in outputs if output.get("name") == "stderr"]


def contents(reports):
    """Every file of a folder of results but the records of the machine: path -> bytes."""
    files = {p.relative_to(reports): p for p in sorted(reports.rglob("*")) if p.is_file()}
    return {
        name.as_posix(): path.read_bytes()
        for name, path in files.items()
        if not {"environment", ".staging"} & set(name.parts)
    }
