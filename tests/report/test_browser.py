"""The page in a real Chromium, as wide as a phone and as a desk, by day and by night."""

import time

import pytest

PHONE, DESK = 390, 1280


@pytest.fixture
def shown(chromium):
    """Opens a page at a width and a colour scheme; fails at the end where the console says anything."""

    def show(path, width=DESK, scheme="light"):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        chromium.get(path.as_uri())
        wait(lambda: number(chromium, ".chart svg") > 0)
        return chromium

    chromium.get_log("browser")  # what earlier pages said
    yield show
    assert chromium.get_log("browser") == []


def wait(condition, limit_s=10.0):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < limit_s, "it did not come about"
        time.sleep(0.02)


def number(browser, selector):
    return browser.execute_script("return document.querySelectorAll(arguments[0]).length", selector)


def texts(browser, selector):
    script = "return [...document.querySelectorAll(arguments[0])].map((node) => node.innerText ?? node.textContent)"
    return browser.execute_script(script, selector)


def colour(browser, selector, of="color"):
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    return browser.execute_script(script, selector, of)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_every_part_is_there_and_nothing_sticks_out(random_run, shown, width, scheme):
    run = random_run(problems=2)
    browser = shown(run.page, width, scheme)
    result = run.results[0]
    assert [text.splitlines()[0] for text in texts(browser, ".card")] == ["Accuracy", "Tokens", "Traces cut"]
    assert f"{run.totals['tokens']:,}" in texts(browser, "#totals")[0]
    assert "keep-frac" in texts(browser, "#settings")[0]
    assert number(browser, "#problems > li") == 2
    assert number(browser, ".chart .trace") == result.traces
    assert number(browser, ".chart .trace.cut") == result.pruned
    assert texts(browser, ".chart .threshold text") == [f"threshold {result.threshold_nats:.3f}"]
    assert number(browser, ".votes li") == len(result.weights)
    assert texts(browser, ".votes .elected b") == [result.answer]
    assert number(browser, ".rules tbody tr") == len(result.answers_by_rule)
    assert number(browser, "article") == 3
    assert set(texts(browser, "article h5")) == {"THINKING", "ANSWER"}
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(
        "return [...document.querySelectorAll('.chart text')].every((text) => {"
        "const [a, b] = [text.getBoundingClientRect(), text.ownerSVGElement.getBoundingClientRect()];"
        "return a.left >= b.left - 1 && a.right <= b.right + 1 && a.top >= b.top - 1 && a.bottom <= b.bottom + 1; })"
    )


def test_right_and_wrong_differ_in_colour_and_cut_lines_are_dashed(random_run, shown):
    browser = shown(random_run().page)
    of = {kind: colour(browser, f".chart .{kind} .line", "stroke") for kind in ("right", "wrong", "cut")}
    assert len(set(of.values())) == 3
    dashes = {kind: colour(browser, f".chart .{kind} .line", "strokeDasharray") for kind in of}
    assert dashes["cut"] != "none" == dashes["right"] == dashes["wrong"]


def test_night_is_dark_and_day_is_light(random_run, shown):
    run = random_run()
    brightness = {}
    for scheme in ("light", "dark"):
        browser = shown(run.page, scheme=scheme)
        channels = colour(browser, "body", "backgroundColor").removeprefix("rgb(").removesuffix(")").split(",")
        brightness[scheme] = sum(map(int, channels)) / 3
    assert brightness["light"] > 220
    assert brightness["dark"] < 50


def test_at_512_traces_the_page_says_that_it_shows_a_sample(random_run, shown):
    browser = shown(random_run(traces=512).page, PHONE)
    drawn = number(browser, ".chart .trace")
    assert 32 <= drawn <= 48
    assert texts(browser, ".traces figcaption")[0].startswith(f"Showing {drawn} of 512 traces: of each kind")


def test_text_of_the_model_is_never_markup(random_run, shown):
    hostile = "</script><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    run = random_run(answers=(hostile[:60], hostile[-60:]), prompt=f"{hostile}\n", thought=hostile)
    browser = shown(run.page)
    assert browser.title == "DeepConf: random"
    assert number(browser, "img") == 0
    assert number(browser, "script") == 2
    assert texts(browser, ".question")[0].strip() == hostile
    assert "".join(texts(browser, ".thinking .heat")[0].split()).startswith("<think></script><imgsrc=x")


def test_without_reference_answers_the_page_speaks_of_neither_right_nor_wrong(random_run, shown):
    browser = shown(random_run(judged=False).page)
    assert number(browser, ".badge") == 0
    assert number(browser, ".chart .right, .chart .wrong, .bar .right, .bar .wrong") == 0
    assert "Accuracy" not in texts(browser, "#totals")[0]


def test_a_problem_opens_by_keyboard_and_a_row_of_the_table_names_its_trace(random_run, shown):
    from selenium.webdriver.common.keys import Keys

    run = random_run(problems=2)
    browser = shown(run.page)
    second = browser.find_elements("css selector", "#problems > li > details > summary")[1]
    second.send_keys(Keys.ENTER)
    wait(lambda: number(browser, "#problems > li:nth-child(2) .chart svg") == 1)
    browser.find_element("css selector", ".table > summary").send_keys(Keys.ENTER)
    row = browser.find_elements("css selector", ".table tbody tr")[3]
    row.send_keys(Keys.NULL)  # focus alone
    assert texts(browser, ".traces .told")[0].startswith("Trace 3 (warm-up): ended by itself after ")
    assert number(browser, ".chart .trace.hot") == 1


def test_pointing_at_a_token_tells_its_confidence(random_run, shown):
    from selenium.webdriver import ActionChains

    browser = shown(random_run().page)
    token = browser.find_elements("css selector", "article .heat span")[2]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", token)
    ActionChains(browser).move_to_element(token).perform()
    wait(lambda: texts(browser, "article > .told")[0].startswith("token 3, “h”: "))


def test_the_lines_follow_the_width(random_run, shown):
    browser = shown(random_run().page, DESK)
    wide = browser.execute_script("return document.querySelector('.chart svg').clientWidth")
    metrics = {"width": PHONE, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    wait(lambda: browser.execute_script("return document.querySelector('.chart svg').clientWidth") < PHONE < wide)
