"""The console in a real browser: every page and every action, by hand as a person would.

``make pictures`` takes those of docs/console.md anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import PHONE, WIDE, Browser, Scheme, is_too_wide, save, violations
from tests.support.console_models import fill_the_last_minutes, submit_jobs, write_models
from tests.support.keys import Keys
from tests.support.releases import run
from tests.support.server import ROOT, Server, wait_until

PICTURES = ROOT / "docs" / "console"
MOST_CLICKS = 4
WRITES_PICTURES = "MODELYARD_TEST_SCREENSHOTS" in os.environ


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"MODELYARD_STATE_FOLDER": str(tmp_path_factory.mktemp("state"))}


@pytest.fixture(scope="module")
def server(folder: Path, settings: dict[str, str]) -> Iterator[Server]:
    """Models, one of which has a slow canary and one of which does not load, and jobs."""
    run(settings, "store", "upgrade")  # jobs are kept where there is a store at the start
    with Server(folder, settings=settings) as server:
        wait_until(lambda: server.http.get("/readyz").json()["status"] == "degraded", what="them")
        for weights in (("1=100",), ("1=70", "2=30")):
            run(settings, "route", "set", "rent", *weights, "--url", server.url, "--why", "canary")
        flat = {"rooms": 2, "heating": "gas"}
        for area in range(-1, 99):  # so many that one which had to wait is not p99
            server.predict("rent", [{**flat, "area": area}], model_version="1")
            server.predict("words", ["a lovely day"])
        for area in range(50, 56):
            server.predict("rent", [{**flat, "area": area}], model_version="2")
        submit_jobs(server)
        if WRITES_PICTURES:
            fill_the_last_minutes(server)
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def reader(server: Server, browser: Browser) -> Page:
    """A page that goes from one to the next, as loading all there is takes most of the time."""
    return browser.open(server.url)


@pytest.fixture(autouse=True)
def nothing_goes_wrong_unseen(browser: Browser) -> Iterator[None]:
    browser.complaints.clear()
    yield
    assert browser.complaints == []


class Newcomer:
    """Somebody who starts at ``/`` and counts clicks."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = 0
        page.goto("/")

    def click(self, role: str, name: str, *, exact: bool = False) -> Newcomer:
        self.page.get_by_role(role, name=name, exact=exact).first.click()  # type: ignore[arg-type]
        self.clicks += 1
        assert self.clicks <= MOST_CLICKS
        return self


def test_a_newcomer_finds_the_slow_model_and_sees_why(server: Server, browser: Browser) -> None:
    page = browser.open(server.url)
    Newcomer(page).click("link", "Console").click("link", "Slowest")
    expect(page.get_by_role("heading", level=1)).to_have_text("rent 2")
    expect(page.get_by_text("Most of the time is the model's own")).to_be_visible()
    expect(page.get_by_text("in predict", exact=False).first).to_be_visible()
    expect(page.get_by_role("img", name="The last hour").nth(1)).to_be_visible()


def test_a_newcomer_tries_a_request(server: Server, browser: Browser) -> None:
    page = browser.open(server.url)
    newcomer = Newcomer(page).click("link", "Console").click("link", "words")
    page.get_by_label("the instance").fill("so lovely")
    newcomer.click("button", "Send", exact=True)
    answer = page.locator("#answer")
    expect(answer).to_contain_text('"positive"')
    expect(answer).to_contain_text("cache: bypass")
    expect(answer).to_contain_text("in predict")
    expect(page.get_by_label("the instance")).to_have_value("so lovely")
    assert violations(page) == []


def test_all_is_within_reach_of_the_keyboard(server: Server, browser: Browser) -> None:
    page = browser.open(server.url)
    page.goto("/console")
    reach(page, "Skip to the content")
    page.keyboard.press("Enter")
    reach(page, "words")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("words 1")
    reach(page, "the instance")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("how lovely")
    reach(page, "Send")
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_be_focused()
    expect(page.locator("#answer")).to_contain_text('"positive"')
    page.goto("/console/releases/rent/change?to=promote&version=1")
    expect(page.get_by_label("Why")).to_be_focused()
    reach(page, "Confirm")


def reach(page: Page, name: str) -> None:
    """Press the key that leads on until what has this name has the focus, and shows that it has."""
    for _ in range(80):
        page.keyboard.press("Tab")
        has_it = page.evaluate(
            """(name) => {
              const here = document.activeElement;
              return here.innerText === name || here.labels?.[0]?.innerText === name;
            }""",
            name,
        )
        if has_it:
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", name
            return
    pytest.fail(f"{name!r} cannot be reached")


TRIED = {
    "speller": ("hey", r'"h",\s*"e",\s*"y"', "It answers in pieces"),
    "shade": (str([[[0.5] * 8] * 8] * 3), "0.5", "3 x 8 x 8 numbers"),
    "twice": ("a lovely day", '"twice positive"', "It asks words"),
}


@pytest.mark.parametrize("name", TRIED)
def test_a_model_of_each_kind_can_be_tried(server: Server, reader: Page, name: str) -> None:
    given, answer, told = TRIED[name]
    reader.goto(f"/console/models/{name}")
    expect(reader.get_by_text(told)).to_be_visible()
    reader.get_by_label("the instance").fill(given)
    reader.get_by_role("button", name="Send", exact=True).click()
    expect(reader.locator("#answer")).to_contain_text(re.compile(answer))


def test_a_file_can_be_chosen(server: Server, reader: Page) -> None:
    reader.goto("/console/models/sizes")
    expect(reader.get_by_label("the instance", exact=True)).to_have_value("YWJj")
    file = {"name": "file", "mimeType": "image/png", "buffer": b"a file"}
    reader.get_by_label("A file for the instance").set_input_files(file)  # type: ignore[arg-type]
    expect(reader.get_by_label("the instance", exact=True)).to_have_value("YSBmaWxl")
    reader.get_by_role("button", name="Send", exact=True).click()
    expect(reader.locator("#answer")).to_contain_text(re.compile(r'6,\s*"a file"'))
    assert violations(reader) == []


def test_a_newcomer_rolls_a_canary_back(server: Server, browser: Browser) -> None:
    page = browser.open(server.url)
    newcomer = Newcomer(page).click("link", "Console").click("link", "Releases", exact=True)
    newcomer.click("link", "Roll back rent")
    page.get_by_label("Why").fill("the canary is slow")
    newcomer.click("button", "Confirm")
    expect(page.get_by_role("row", name="1 100 %")).to_be_visible()
    expect(page.get_by_role("row", name="the canary is slow")).to_contain_text("1=70 2=30")
    wait_until(
        lambda: (
            server.predict("rent", [{"area": 9, "rooms": 1, "heating": "gas"}]).json()[
                "model_version"
            ]
            == "1"
        ),
        what="the route",
    )


def test_a_newcomer_finds_the_error_of_a_job(server: Server, browser: Browser) -> None:
    flat = {"area": 99, "rooms": 2, "heating": "gas"}
    body = {"model_name": "rent", "model_version": "1", "input_data": [flat]}
    assert server.http.put("/jobs/night-run", json=body).status_code == 202
    page = browser.open(server.url)
    newcomer = Newcomer(page).click("link", "Console").click("link", "Jobs", exact=True)
    row = page.get_by_role("row", name="night-run")
    expect(row).to_contain_text("model_failed", timeout=60_000)
    expect(row).to_contain_text("the model raised RuntimeError")
    newcomer.click("link", "night-run")
    expect(page.get_by_role("note")).to_contain_text("model_failed: the model raised RuntimeError")
    expect(page.get_by_text("no flat has 99 square metres")).to_be_visible()
    assert violations(page) == []


def test_a_newcomer_finds_the_rows_of_a_bulk_run_that_failed(
    server: Server, browser: Browser
) -> None:
    page = browser.open(server.url)
    newcomer = Newcomer(page).click("link", "Console").click("link", "Jobs", exact=True)
    expect(page.get_by_role("row", name="rents-of-may")).to_contain_text("2 of 3 rows failed")
    newcomer.click("link", "rents-of-may")
    expect(page.get_by_role("row", name="1 model_failed")).to_be_visible()
    expect(page.get_by_role("row", name="2 invalid_input")).to_contain_text("'small' is no number")
    assert violations(page) == []
    page.goto("/console/jobs")
    page.get_by_label("bulk runs only").check()
    page.get_by_label("Model").fill("words")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("There are no bulk runs of a model words")).to_be_visible()
    page.goto("/console/jobs/nothing")
    expect(page.get_by_role("alert")).to_contain_text("there is no such job")


def test_weights_are_changed_and_a_version_is_promoted(server: Server, browser: Browser) -> None:
    page = browser.open(server.url)
    page.goto("/console/releases/rent")
    page.get_by_label("1, in %").fill("50")
    page.get_by_label("2, in %").fill("40")
    page.get_by_role("button", name="Change the weights").click()
    expect(page.get_by_role("alert")).to_contain_text("add up to 100, not to 90")
    page.go_back()
    page.get_by_label("1, in %").fill("50")
    page.get_by_label("2, in %").fill("50")
    page.get_by_role("button", name="Change the weights").click()
    other = browser.open(server.url)
    other.goto("/console/releases/rent/change?to=promote&version=2")
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("row", name="2 canary 50 %")).to_be_visible()
    other.get_by_role("button", name="Confirm").click()
    expect(other.get_by_role("alert")).to_contain_text("has been changed meanwhile")
    page.get_by_role("link", name="Promote 2").click()
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("row", name="2 100 %")).to_be_visible()
    page.get_by_role("link", name="Remove the route").click()
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text("Remove the route")).to_have_count(0)
    for change in ("to=promote&version=9", "to=nothing", "to=weights&weight.1=x"):
        page.goto(f"/console/releases/rent/change?{change}")
        expect(page.get_by_role("alert")).to_be_visible()


def test_a_form_follows_the_schema_and_says_what_is_wrong(server: Server, browser: Browser) -> None:
    page = browser.open(server.url)
    page.goto("/console/models/rent?version=1")
    answer, send = page.locator("#answer"), page.get_by_role("button", name="Send", exact=True)
    expect(page.get_by_label("heating")).to_have_value("heat pump")
    expect(page.get_by_label("has_garden")).to_be_checked()
    page.get_by_label("area").fill("100")
    page.get_by_label("heating").select_option("wood")
    send.click()
    expect(answer).to_contain_text("610")
    page.get_by_label("area").fill("-3")
    send.click()
    expect(answer).to_contain_text("invalid_input")
    page.get_by_label("rooms").fill("many")
    send.click()
    expect(answer).to_contain_text("rooms: 'many' is not a whole number")
    page.get_by_text("Several instances, as JSON").click()
    flat = '{"area": 10, "rooms": 1, "heating": "gas"}'
    page.get_by_label("Instances, a list as JSON").fill(f"[{flat}, {flat}]")
    page.get_by_role("button", name="Send JSON").click()
    expect(answer).to_contain_text(re.compile(r"110,\s*110"))
    page.get_by_label("Instances, a list as JSON").fill("{")
    page.get_by_role("button", name="Send JSON").click()
    expect(answer).to_contain_text("the instances are no JSON")
    assert violations(page) == []


def test_faults_say_what_ended_and_what_it_printed(server: Server, browser: Browser) -> None:
    for area in (99, 666):
        flat = {"area": area, "rooms": 2, "heating": "gas"}
        assert server.predict("rent", [flat], model_version="2").status_code == 502
    page = browser.open(server.url)
    page.goto("/console/faults")
    expect(page.get_by_role("row", name="churn")).to_contain_text("assets/churn.onnx")
    expect(page.get_by_text("the runner crashed")).to_be_visible()
    page.get_by_text("What it printed last").click()
    expect(page.get_by_text("a flat of 666.0")).to_be_visible()
    fault = page.get_by_role("listitem").filter(has_text="rent/2").filter(has_text="99 square")
    fault.get_by_text("The end of its trace").click()
    expect(fault.get_by_text("no flat has 99 square metres")).to_be_visible()
    expect(page.get_by_role("row", name="model_crashed")).to_contain_text("poison")
    page.goto("/console/models/words")
    expect(page.get_by_label("The last lines")).to_contain_text("heard 1")


def test_a_page_stays_up_to_date_until_it_is_paused(server: Server, browser: Browser) -> None:
    page = browser.open(server.url)
    page.goto("/console?sort=p99")
    rows = page.locator("#models tbody tr")
    expect(rows.first).to_contain_text("rent")
    page.get_by_label("Filter").fill("words")
    expect(rows.filter(visible=True)).to_have_count(1)
    expect(page.get_by_text("1 of 8 versions")).to_be_visible()
    before = rows.filter(visible=True).inner_text()
    for _ in range(30):
        server.predict("words", ["rain"])
    expect(rows.filter(visible=True)).not_to_have_text(before, timeout=60_000)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused")).to_be_visible()
    page.get_by_label("Filter").fill("nothing")
    expect(page.get_by_text("No version has “nothing”")).to_be_visible()
    assert violations(page) == []


def test_all_but_comfort_works_without_scripts(server: Server, browser: Browser) -> None:
    page = browser.open(server.url, runs_scripts=False)
    page.goto("/console?q=words&sort=rate")
    expect(page.locator("#models tbody tr")).to_have_count(1)
    page.get_by_role("link", name="words", exact=True).click()
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator("#answer")).to_contain_text('"positive"')


PAGES = {
    "overview": "/console",
    "model": "/console/models/rent?version=2",
    "releases": "/console/releases",
    "release": "/console/releases/rent",
    "change": "/console/releases/rent/change?to=promote&version=1",
    "jobs": "/console/jobs",
    "job": "/console/jobs/rents-of-may",
    "faults": "/console/faults",
    "usage": "/console/usage",
    "problem": "/console/models/nothing",
}
WITHOUT_PICTURE = {"problem", "start"}


@pytest.mark.parametrize("name", ["start", *PAGES])
def test_a_page_can_be_read_by_everybody(server: Server, reader: Page, name: str) -> None:
    looks: tuple[tuple[int, Scheme], ...] = (
        *((WIDE, "light"), (PHONE, "light")),
        *((WIDE, "dark"), (PHONE, "dark")),
    )
    reader.goto(PAGES.get(name, "/"))
    if reader.locator("[data-plot]").count():
        expect(reader.get_by_role("img", name="The last hour").first).to_be_visible()
    for width, scheme in looks:
        reader.set_viewport_size({"width": width, "height": 900})
        reader.emulate_media(color_scheme=scheme)
        assert violations(reader) == [], (width, scheme)
        assert not is_too_wide(reader), width
        if (width, scheme) in ((WIDE, "light"), (PHONE, "dark")):
            keep(reader, name, width)


def keep(page: Page, name: str, width: int) -> None:
    """Save the picture of a page, if that is asked for; it has to be there in any case."""
    if name in WITHOUT_PICTURE:
        return
    path = PICTURES / f"{name}{'-phone' if width == PHONE else ''}.png"
    if WRITES_PICTURES:
        save(page, path)
    assert path.is_file(), f"{path} is missing: `make pictures` takes it"


def token_in(page: str) -> str:
    found = re.search(r'name="token" value="([0-9a-f]+)"', page)
    assert found is not None
    return found[1]


def test_forms_from_elsewhere_change_nothing(server: Server) -> None:
    path = "/console/releases/rent/change"
    with httpx.Client(base_url=server.url) as client:
        page = client.get(f"{path}?to=promote&version=1")
        form = {"token": token_in(page.text), "number": "99", "route": ""}
        sent = [
            client.post(path, data={**form, "token": ""}),
            client.post(path, data={**form, "token": "0" * 64}),
            client.post(path, data=form, headers={"origin": "http://elsewhere.example"}),
            client.post(path, data=form, headers={"sec-fetch-site": "cross-site"}),
            httpx.post(server.url + path, data=form),
            client.post(path, data=form, headers={"host": "rebound.example"}),
        ]
        assert [answer.status_code for answer in sent] == [403] * len(sent)
        assert client.post(path, data=form).status_code == 409  # the token itself is fine
        assert client.get(path, headers={"host": "rebound.example"}).status_code == 403


def test_each_answer_has_the_headers_that_keep_it_safe(server: Server) -> None:
    asset = re.search(r'src="(/console/assets/console\.js\?\w+)"', server.http.get("/console").text)
    assert asset is not None
    for path in (*PAGES.values(), "/console/history", "/console/assets/nothing", asset[1]):
        answer = server.http.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        if "text/html" in answer.headers["content-type"]:
            assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", answer.text)
            assert "http://" not in re.sub(r"<pre.*?</pre>", "", answer.text, flags=re.DOTALL)


def test_who_signs_in_sees_and_does_what_its_key_may(
    folder: Path, browser: Browser, tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    own = keys.create("shop", "predict:words", owner="shop")
    release = keys.create("ops", "release:rent", "read", owner="ops")
    admin = keys.create("root", "admin", owner="root")
    models = [folder / name for name in ("rent-1", "rent-2", "words-1")]
    with Server(*models, settings=keys.settings) as server:
        page = browser.open(server.url)
        page.goto("/console/models/words")
        assert violations(page) == []
        sign_in(page, "mdy_nothing")
        expect(page.get_by_role("alert")).to_contain_text("The key is not valid")
        expect(page.get_by_role("navigation")).to_have_count(0)
        assert violations(page) == []
        sign_in(page, own)
        expect(page).to_have_url(f"{server.url}/console/models/words")
        kept = page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]")
        assert kept == ["", 0, 0]
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"], cookie["expires"]) == (
            *(True, "Strict", "/console", -1),
        )
        page.get_by_role("button", name="Send", exact=True).click()
        expect(page.locator("#answer")).to_contain_text('"positive"')
        expect(page.get_by_text("a key with the scope release:words may read it")).to_be_visible()
        page.get_by_role("link", name="Overview").first.click()
        expect(page.locator("#models tbody tr")).to_have_count(1)
        page.get_by_role("link", name="Keys and usage").click()
        expect(page.get_by_role("heading", name="Your key")).to_be_visible()
        expect(page.get_by_text("ops", exact=True)).to_have_count(0)
        wait_until(lambda: "shop" in usage_of(page), what="what was used")
        page.goto("/console/models/rent")
        expect(page.get_by_role("heading", level=1)).to_have_text("Not Found")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")

        sign_in(page, release)
        page.goto("/console/releases/rent")
        page.get_by_role("link", name="Promote 1").click()
        page.get_by_role("button", name="Confirm").click()
        expect(page.get_by_role("row", name="ops route set")).to_be_visible()
        page.goto("/console/releases/words/change?to=clear")
        expect(page.get_by_role("heading", level=1)).to_have_text("Forbidden")
        page.goto("/console/models/rent")
        expect(page.get_by_text("lacks the scope predict:rent")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()

        sign_in(page, admin)
        page.goto("/console/usage")
        expect(page.get_by_role("row", name="ops ops")).to_be_visible()
        assert violations(page) == []
        keep(page, "keys", WIDE)
        keys.run("keys", "revoke", "root")

        def is_out() -> bool:
            page.reload()
            return page.get_by_role("heading", level=1).inner_text() == "Sign in"

        wait_until(is_out, what="the key to be of no use")
        assert own not in server.output


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def usage_of(page: Page) -> str:
    page.reload()
    return page.get_by_role("table").nth(1).inner_text()
