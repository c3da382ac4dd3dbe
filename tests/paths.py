"""Where the project's files are."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "reports" / "published"
PIPELINES = (ROOT, ROOT / "notebooks" / "more")  # folders of a dvc.yaml and its dvc.lock
