"""Look at the site in a headless Chromium: search it as a reader would, and leave screenshots.

`python scripts/look_at_site.py`, after `make docs`. For each question one of the first three results must be a page
that answers it. Every page is opened on a telephone and on a wide screen. Ends with 1 where no result answers a
question, or where a page logs an error, lacks an image, or is wider than its window.
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import sys
import threading
from pathlib import Path
from urllib.parse import quote_plus

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "target" / "site"
PICTURES = ROOT / "target" / "site-look"

QUESTIONS = {
    "gunicorn workers": {"howto/gunicorn.html", "faq.html", "which.html"},
    "cachetools": {"moving/cachetools.html", "cachetools.html"},
    "coherence": {"faq.html", "disk.html", "shared.html", "reference/flexcache.html"},
    "what a hit costs": {"cost.html"},
    "fastapi": {"howto/fastapi.html"},
    "ttl": {"guide.html", "memoize.html", "reference/flexcache.html", "meanings.html"},
    "which part": {"which.html"},
    "invalidate": {"howto/invalidation.html", "faq.html", "remote.html", "memoize.html"},
    "full disk": {"disk.html", "faq.html", "troubleshooting.html"},
    "testing": {"howto/testing.html", "reference/testing.html", "faq.html"},
    "test clock": {"howto/testing.html", "reference/testing.html", "faq.html"},
    "move from cachetools": {"moving/cachetools.html", "cachetools.html"},
    "numpy array between processes": {"howto/multiprocessing.html"},
    "cache LLM calls on disk": {"howto/agents.html"},
}
"""What is asked, and the pages that answer it."""

DESCRIBED = {
    "reference/flexcache.html": ("flexcache_rs.FlexCache.get", "flexcache_rs.FlexCache.update"),
    "reference/disk.html": ("flexcache_rs.disk.Cache.set", "flexcache_rs.disk.Cache.aget"),
    "reference/remote.html": ("flexcache_rs.remote.RemoteCache.get",),
}
"""Calls that the reference has: with overloads, awaited, inherited from the extension module."""

PAGES = ("index", "which", "start", "cost", "reference/flexcache", "howto/gunicorn", "policies", "benchmarks/shared")
"""What is photographed, wide and as on a telephone, by day and by night."""

WIDTHS = {"wide": 1360, "narrow": 400}
"""The widths of the windows, in pixels."""

IMAGES_LACKING = "[...document.images].filter(image => image.complete && !image.naturalWidth).map(image => image.src)"

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without logging."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def results(page: Page, url: str) -> list[str]:
    """Ask the search, and return the first three pages that it finds."""
    page.goto(url)
    page.wait_for_selector(".md-search-result__link", state="attached", timeout=30_000)
    links = page.eval_on_selector_all(".md-search-result__link", "all => all.map(each => each.href)")
    return list(dict.fromkeys(link.partition("?")[0].rpartition("//")[2].partition("/")[2] for link in links))[:3]


def seen(page: Page, url: str) -> list[str]:
    """Open a page, and return what is wrong with how it looks."""
    page.goto(url)
    wrong = [f"{url} lacks {image}" for image in page.evaluate(IMAGES_LACKING)]
    if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
        wrong.append(f"{url} is wider than its window")
    return wrong


def main() -> int:
    """Test the search and the pages, and print the problems."""
    if not (SITE / "index.html").is_file():
        sys.exit("there is no site: run `make docs`")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_address[1]}/"
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        print("no Chromium is installed: nobody has looked at the site")
        return int("chromium" in os.environ.get("FLEXCACHE_REQUIRE", "").split())
    PICTURES.mkdir(parents=True, exist_ok=True)
    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        page = browser.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("response", lambda response: wrong.append(response.url) if response.status >= 400 else None)
        for question, answers in QUESTIONS.items():
            found = results(page, f"{base}index.html?q={quote_plus(question)}")
            if not answers.intersection(found):
                wrong.append(f"{question!r} is not answered")
            print(f"{question!r}: {', '.join(found)}")
        page.screenshot(path=PICTURES / "search.png")
        for name, calls in DESCRIBED.items():
            page.goto(f"{base}{name}")
            wrong += [f"{call} is not in {name}" for call in calls if page.locator(f'[id="{call}"]').count() != 1]
        every = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
        for width in WIDTHS.values():
            page.set_viewport_size({"width": width, "height": 1000})
            wrong += [fault for name in every for fault in seen(page, f"{base}{name}")]
        print(f"{len(every)} pages, {len(WIDTHS)} widths")
        for scheme in ("light", "dark"):
            # A page of its own: the site remembers the colours that a reader first saw.
            page = browser.new_page(color_scheme=scheme)
            for kind, width in WIDTHS.items():
                page.set_viewport_size({"width": width, "height": 1500})
                for name in PAGES:
                    page.goto(f"{base}{name}.html")
                    page.screenshot(path=PICTURES / f"{name.replace('/', '-')}-{kind}-{scheme}.png")
        browser.close()
    server.shutdown()
    print(f"screenshots in {PICTURES}")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
