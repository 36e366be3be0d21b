"""A page in a browser without a window, and a script that counts its errors."""

import shutil
import subprocess
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=10000"
)
COUNT_FAULTS = """<script>
const faults = [];
addEventListener("error", event => faults.push(event.message || "not loaded"), true);
addEventListener("securitypolicyviolation", event => faults.push(event.violatedDirective));
console.error = console.warn = (...words) => faults.push(words.join(" "));
</script>"""


def shown_in_browser(page: str, folder: Path, probe: str = "") -> str:
    """Show a page for ten seconds of its time; return its document then.

    probe: a script at its end; `faults` lists the errors of the page.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser: {', '.join(BROWSERS)}")
    shown = folder / "shown.html"
    shown.write_text(page.replace("<head>", f"<head>{COUNT_FAULTS}").replace("</body>", f"{probe}</body>"))
    command = [browser, *FLAGS.split(), f"--user-data-dir={folder / 'profile'}", "--dump-dom", shown.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout
