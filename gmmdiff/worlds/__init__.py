"""Data whose every law and distance is known, with what makes a generated sample a defect."""
