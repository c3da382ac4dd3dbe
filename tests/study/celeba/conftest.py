"""What accelerate keeps for a whole process is no test's business."""

import pytest
from accelerate.state import AcceleratorState


@pytest.fixture(autouse=True, scope="module")
def of_its_own():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
