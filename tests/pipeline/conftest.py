"""The whole study in small, run once; and a real browser, and how it visits a page of the module's
``reports``, a folder.
"""

import os
import shutil
import subprocess
import sys

import pytest

from tests.paths import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def quick_look(tmp_path_factory):
    """What `make quick` makes: a folder of reports, and what was printed."""
    reports = tmp_path_factory.mktemp("quick") / "reports"
    command = [sys.executable, "-m", "gmmdiff.pipeline.quick_look", str(reports)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return reports, done.stdout


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        missing = f"no browser: none of {', '.join(BROWSERS)} is installed"
        reason = f"{missing}; on Debian, `apt-get install chromium`"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, reports):
    """Opens a page without network; afterwards nothing else may have been asked for, and nothing
    have gone wrong.
    """
    visited, asked, wrong, contexts = set(), [], [], []

    def visit(name="index.html", **options):
        contexts.append(browser.new_context(offline=True, **options))
        tab, address = contexts[-1].new_page(), (reports / name).as_uri()
        visited.add(address)
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: wrong.append((message.type, message.text)))
        tab.on("pageerror", lambda error: wrong.append(("error", str(error))))
        tab.goto(address)
        tab.evaluate("Promise.all([...document.images].map(image => image.decode()))")
        return tab

    yield visit
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith("data:") and url not in visited] == []
    assert [text for kind, text in wrong if kind in ("error", "warning")] == []
