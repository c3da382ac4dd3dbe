"""The modules beside notebooks 05 to 07, and how their code cells run here."""

import sys

import matplotlib.pyplot as plt
import nbformat
import pytest
from accelerate.state import AcceleratorState

from gmmdiff.pipeline.results import RESULTS
from tests.paths import ROOT

MORE = ROOT / "notebooks" / "more"
sys.path.insert(0, str(MORE))  # as in a kernel, which starts there


@pytest.fixture(autouse=True, scope="module")
def _accelerator_of_its_own():
    """What accelerate keeps for a whole process is no other test's business."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def run_notebook():
    """Runs a notebook's code cells: its names after that, and what it displayed."""

    def run(name, results, **parameters):
        names, shown = {}, []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("IPython.display.display", lambda *things: shown.extend(things))
            patch.setenv(RESULTS, str(results))
            for cell in nbformat.read(MORE / name, 4).cells:
                if cell.cell_type == "code":
                    exec(cell.source, names)
                if "parameters" in cell.metadata.get("tags", []):
                    assert parameters.keys() <= names.keys()
                    names |= parameters
        plt.close("all")
        return names, [str(getattr(one, "data", one)) for one in shown]

    return run
