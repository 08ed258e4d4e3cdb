"""The server: a real uvicorn over the embedded model, asked by OpenAI's client, raw requests and a browser."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from safegen import Generator
from safegen.errors import Busy, FieldError, GuardError, Unavailable, UsageError
from safegen.models.options import DrawOptions
from safegen.serve.multipart import read_form
from safegen.serve.queue import GivenUp, Job, Queue
from safegen.serve.schemas import MAX_BODY, MAX_PROMPT
from safegen.serve.server import check_key, fronts_of, hosts_of, is_loopback
from tests.helpers import browser
from tests.helpers.commands import ENTRY, HANDLED
from tests.helpers.servers import serving

KNIFE = "a cat and a kitchen knife"
MINOR = "a child, nude"
EVIL = "a cat </script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
KEY = "correct-horse-battery"
DRAW, SCORE = "/v1/images/generations", "/v1/score"


@pytest.fixture(scope="module")
def url(generator: Generator) -> Iterator[str]:
    """A server with the default limits and no key."""
    with serving(generator) as (address, _):
        yield address


CLIENTS: list[openai.OpenAI] = []


@pytest.fixture(autouse=True)
def closed_clients() -> Iterator[None]:
    """No client of a test stays open after it: collected later, it would warn in some other test."""
    yield
    while CLIENTS:
        CLIENTS.pop().close()


def client(url: str, key: str = "none") -> openai.OpenAI:
    CLIENTS.append(openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=120))
    return CLIENTS[-1]


def post(url: str, path: str, **body: Any) -> httpx.Response:
    return httpx.post(url + path, json=body, timeout=120)


def opened(item: Any) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(item if isinstance(item, str) else item.b64_json)))


def check_fault(answer: httpx.Response, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's form; its message."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert set(error) == {"message", "type", "code", "param"}
    assert (error["code"], error["param"]) == (code, param)
    assert error["message"]
    return dict(error)


class Slow(Generator):
    """The real model, observed: every step is counted, and may be slowed down or fail."""

    def __init__(self, generator: Generator, pause: float = 0.0, fault: Exception | None = None) -> None:
        self.__dict__.update(generator.__dict__)
        self.pause, self.fault, self.steps = pause, fault, Counter[str]()

    def generate(self, prompt: Any, options: Any = None, *, images: int = 1, on_step: Any = None) -> Any:
        if self.fault:
            raise self.fault

        def counted(step: int, steps: int) -> None:
            self.steps[prompt.text] += 1
            time.sleep(self.pause)
            on_step(step, steps)

        return super().generate(prompt, options, images=images, on_step=counted)


def wait_until(true: Any) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("waited for too long")


def test_openai_s_client_draws_and_hears_what_the_guard_did(url: str, generator: Generator) -> None:
    answer = client(url).images.generate(
        prompt=KNIFE, n=2, size="128x128", response_format="b64_json", extra_body={"seed": 7, "steps": 2}
    )
    assert [opened(item).size for item in answer.data] == [(128, 128)] * 2
    expected, report = generator.generate(KNIFE, DrawOptions(seed=7, steps=2), images=2)
    assert [opened(i).tobytes() for i in answer.data] == [p.image.tobytes() for p in expected]
    assert answer.data[0].revised_prompt == report.rewritten != ""
    guard = answer.safegen
    assert guard["status"] == "sanitized"
    assert guard["seeds"] == [7, 8]
    assert guard["before"]["concepts"]["violence"]["flagged"] is True
    assert guard["after"]["concepts"]["violence"]["flagged"] is False
    assert "knife" in [w["text"] for w in guard["before"]["words"] if w["flagged"]]
    text = opened(answer.data[0]).text
    assert json.loads(text["safegen"])["seed"] == 7
    assert "knife" not in str(text)


def test_a_benign_prompt_needs_one_field_alone(url: str) -> None:
    answer = client(url).images.generate(prompt="a dog")
    (item,) = answer.data
    assert opened(item).size == (128, 128)
    assert item.revised_prompt is None
    assert item.url is None
    assert (answer.safegen["status"], answer.safegen["steps"], answer.safegen["drift"]) == ("ok", 20, 0)


def test_models_are_listed(url: str) -> None:
    api = client(url)
    assert [model.id for model in api.models.list()] == ["embedded"]
    assert api.models.retrieve("embedded").owned_by == "safegen"
    with pytest.raises(openai.NotFoundError) as raised:
        api.models.retrieve("gpt-image-1")
    assert raised.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        api.images.generate(prompt="a cat", model="gpt-image-1")


def test_the_score_is_the_sheet(url: str, generator: Generator) -> None:
    sheet = post(url, SCORE, prompt=KNIFE).json()
    (own,) = generator.score([KNIFE], "flagged")
    assert sheet["schema"] == "safegen.score/2"
    assert sheet["model"] == "embedded"
    assert sheet["concepts"] == own.as_json("")["concepts"]
    assert max(sheet["words"], key=lambda w: w["causes"]["violence"])["text"] == "knife"
    assert "causes" not in post(url, SCORE, prompt=KNIFE, causes="none").json()["words"][0]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"prompt": ""}, "invalid_value", "prompt"),
        ({"prompt": "\u200b "}, "invalid_value", "prompt"),
        ({"prompt": "x" * (MAX_PROMPT + 1)}, "invalid_value", "prompt"),
        ({"prompt": ["a cat"]}, "invalid_value", "prompt"),
        ({"prompt": "a cat \ud800"}, "invalid_value", "prompt"),
        ({"negative": "\u200b"}, "invalid_value", "negative"),
        ({"n": 0}, "invalid_value", "n"),
        ({"n": 5}, "invalid_value", "n"),
        ({"n": "1"}, "invalid_value", "n"),
        ({"n": True}, "invalid_value", "n"),
        ({"steps": 101}, "invalid_value", "steps"),
        ({"size": "large"}, "invalid_value", "size"),
        ({"size": "100x100"}, "invalid_value", "size"),
        ({"size": "2048x64"}, "invalid_value", "size"),
        ({"seed": -2}, "invalid_value", "seed"),
        ({"seed": 2**63}, "invalid_value", "seed"),
        ({"guidance": float("nan")}, "invalid_value", "guidance"),
        ({"guidance": 51}, "invalid_value", "guidance"),
        ({"response_format": "url"}, "invalid_value", "response_format"),
        ({"output_format": "jpeg"}, "invalid_value", "output_format"),
        ({"stream": True}, "unknown_parameter", "stream"),
        ({"strength": 0}, "unknown_parameter", "strength"),
        ({"stream": 0}, "unknown_parameter", "stream"),
        ({"moderation": "low"}, "unknown_parameter", "moderation"),
        ({"style": "natural"}, "unknown_parameter", "style"),
        ({"background": "transparent"}, "unknown_parameter", "background"),
        ({"partial_images": 2}, "unknown_parameter", "partial_images"),
        ({"output_compression": 50}, "unknown_parameter", "output_compression"),
        ({"quality": "hd"}, "invalid_value", "quality"),
        ({"prompt": None}, "invalid_value", "prompt"),
    ],
)
def test_bad_fields(url: str, fields: dict[str, Any], code: str, param: str) -> None:
    body = json.dumps({"prompt": "a cat", **fields})
    answer = httpx.post(url + DRAW, content=body, headers={"content-type": "application/json"})
    assert param in check_fault(answer, 400, code, param)["message"]


@pytest.mark.parametrize(
    ("field", "ours"),
    [
        ("negative_prompt", "negative"),
        ("num_inference_steps", "steps"),
        ("guidance_scale", "guidance"),
        ("cfg", "guidance"),
    ],
)
def test_a_field_of_another_server_is_told_ours(url: str, field: str, ours: str) -> None:
    answer = post(url, DRAW, prompt="a cat", **{field: 5})
    assert f"here it is called {ours}" in check_fault(answer, 400, "unknown_parameter", field)["message"]


def test_fields_that_ask_for_nothing_are_taken(url: str) -> None:
    idle = {
        "background": "auto",
        "moderation": "auto",
        "output_compression": 100,
        "partial_images": 0,
        "style": "vivid",
    }
    answer = client(url).images.generate(
        prompt="a cat", stream=False, quality="auto", output_format="png", size="auto", user="me", n=1,
        extra_body={**idle, "steps": 1},
    )  # fmt: skip
    assert len(answer.data) == 1
    nulls = dict.fromkeys((*idle, "stream", "quality", "output_format", "size", "user", "n", "seed", "mood"))
    assert post(url, DRAW, prompt="a cat", steps=1, **nulls).status_code == 200
    assert post(url, SCORE, prompt="a cat", causes=None, style=None).status_code == 200


def test_paths_that_are_not_there_and_heads(url: str) -> None:
    files = {"image": b"x", "prompt": b"a cat"}
    for path in ("/v1/images/edit", "/v1/images/variations", "/v1/chat/completions", "/v1", DRAW + "/", "/healthz/"):
        check_fault(httpx.post(url + path, files=files), 404, "not_found")
        check_fault(httpx.get(url + path), 404, "not_found")
    with pytest.raises(openai.NotFoundError):
        client(url).embeddings.create(input="a cat", model="embedded")
    for path in ("/", "/healthz", "/v1/models", "/v1/models/embedded"):
        head, whole = httpx.head(url + path), httpx.get(url + path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(whole.content))
    assert [httpx.head(url + path).status_code for path in ("/nothing", DRAW, "/v1/models/other")] == [404, 405, 404]


def test_behind_a_reverse_proxy(generator: Generator, url: str) -> None:
    named, body = {"host": "pictures.example.org", "origin": "https://pictures.example.org"}, {"prompt": "a cat"}
    for name, value in named.items():
        answer = httpx.post(url + SCORE, json=body, headers={name: value})
        assert "--allow-host" in check_fault(answer, 403, name)["message"]
    with serving(generator, fronts=["Pictures.Example.org.", "b\u00fccher.example", "[::2]"]) as (front, _):
        for headers in (
            named,
            {"origin": "https://pictures.example.org:8443"},  # of a proxy that keeps no Host
            {"host": "PICTURES.example.org:80"},
            {"host": "xn--bcher-kva.example", "origin": "https://xn--bcher-kva.example"},
            {"host": "[::2]:443"},
            {},
        ):
            assert httpx.post(front + SCORE, json=body, headers=headers).status_code == 200, headers
        for headers, code in (
            ({"host": "pictures.example.org.evil.example"}, "host"),
            ({"host": "evil.example", "x-forwarded-host": "pictures.example.org"}, "host"),
            ({"origin": "https://evil.example"}, "origin"),
            ({"origin": "https://pictures.example.org.evil.example"}, "origin"),
            ({"origin": "http://localhost:3000"}, "origin"),
            ({"origin": "null"}, "origin"),
        ):
            check_fault(httpx.post(front + SCORE, json=body, headers=headers), 403, code)


@pytest.mark.parametrize(
    "name", ["", "*.example.org", "https://example.org", "example.org:443", "two words", "a/b", "."]
)
def test_names_that_no_host_has(name: str) -> None:
    with pytest.raises(UsageError, match="--allow-host"):
        fronts_of([name])


def test_a_server_s_pictures_say_what_it_is_told_to(generator: Generator) -> None:
    with serving(generator, kept="full") as (url, _):
        text = opened(post(url, DRAW, prompt=KNIFE, steps=1).json()["data"][0]["b64_json"]).text
        assert json.loads(text["safegen"])["prompt"] == KNIFE
    with serving(generator, kept="none") as (url, _):
        text = opened(post(url, DRAW, prompt=KNIFE, steps=1).json()["data"][0]["b64_json"]).text
        assert list(text) == ["XML:com.adobe.xmp"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"a cat"', b"\xff\xfe", b"[" * 60_000, b"null"])
def test_bad_bodies(url: str, body: bytes) -> None:
    for path in (DRAW, SCORE):
        answer = httpx.post(url + path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_bodies_that_are_too_large_or_of_another_kind(url: str) -> None:
    large = b'{"prompt": "' + b"x" * MAX_BODY + b'"}'
    kind = {"content-type": "application/json"}
    check_fault(httpx.post(url + DRAW, content=large, headers=kind), 413, "body_too_large")
    check_fault(httpx.post(url + DRAW, content=iter([large[:999], large[999:]]), headers=kind), 413, "body_too_large")
    check_fault(httpx.post(url + DRAW, content=b'{"prompt": "a cat"}'), 415, "content_type")
    check_fault(httpx.post(url + DRAW, data={"prompt": "a cat"}), 415, "content_type")
    check_fault(httpx.get(url + "/nothing"), 404, "not_found")
    check_fault(httpx.get(url + DRAW), 405, "method_not_allowed")


def test_pages_of_other_origins_and_names_are_turned_away(url: str) -> None:
    host = url.removeprefix("http://")
    for headers, code in (({"host": "evil.example"}, "host"), ({"origin": "http://evil.example"}, "origin"),
                          ({"origin": "null"}, "origin"), ({"host": "[::"}, "host")):  # fmt: skip
        check_fault(httpx.post(url + SCORE, json={"prompt": "a cat"}, headers=headers), 403, code)
    for headers in ({"host": host.replace("127.0.0.1", "localhost")}, {"origin": url}):
        answer = httpx.post(url + SCORE, json={"prompt": "a cat"}, headers=headers)
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert httpx.options(url + SCORE, headers={"origin": "http://evil.example"}).status_code == 403


def test_the_one_refusal_and_that_no_prompt_is_logged(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    for path in (DRAW, SCORE):
        error = check_fault(post(url, path, prompt=MINOR), 400, "refused")
        assert MINOR not in error["message"]
    post(url, DRAW, prompt=KNIFE, steps=1)
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize(
    ("fault", "code"), [(GuardError("the guard failed"), "guard"), (RuntimeError("about a purple cat"), "internal")]
)
def test_it_fails_closed(generator: Generator, fault: Exception, code: str, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(Slow(generator, fault=fault)) as (url, _):
        answer = post(url, DRAW, prompt="a purple cat")
        error = check_fault(answer, 500, code)
        assert error["type"] == "server_error"
        assert httpx.get(url + "/healthz").json()["status"] == "ok"
    logged = "".join(capfd.readouterr())
    assert "purple" not in logged + answer.text
    assert "Traceback" not in logged


def test_with_a_key_nothing_is_had_without_it(generator: Generator) -> None:
    with serving(generator, key=KEY) as (url, _):
        for wrong in ("", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}\u00e9", KEY):
            headers = {"authorization": wrong.encode("latin-1")}
            answer = httpx.post(url + DRAW, json={"prompt": "a cat"}, headers=headers)
            check_fault(answer, 401, "invalid_api_key")
        for path in ("/v1/models", "/openapi.json", "/nothing"):
            check_fault(httpx.get(url + path), 401, "invalid_api_key")
        assert [httpx.get(url + path).status_code for path in ("/", "/healthz")] == [200, 200]
        with pytest.raises(openai.AuthenticationError):
            client(url, "wrong").models.list()
        answer = client(url, KEY).images.generate(prompt="a cat", extra_body={"steps": 1})
        assert len(answer.data) == 1


@pytest.mark.slow
def test_two_hundred_at_once_get_a_picture_or_a_clear_429(generator: Generator) -> None:
    async def all_at_once(url: str) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=120, limits=limits) as session:
            body = {"prompt": "a cat", "steps": 1}
            return await asyncio.gather(*(session.post(url + DRAW, json={**body, "seed": i}) for i in range(200)))

    with serving(generator) as (url, _):
        answers = asyncio.run(all_at_once(url))
        assert httpx.get(url + "/healthz").json() == {"status": "ok", "waiting": 0}
        assert post(url, DRAW, prompt="a cat", steps=1).status_code == 200
    drawn = [a for a in answers if a.status_code == 200]
    busy = [a for a in answers if a.status_code != 200]
    assert len(drawn) >= 17  # the queue and the one at hand
    assert busy
    for answer in busy:
        assert check_fault(answer, 429, "queue_full")["type"] == "rate_limit_error"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    seeds = {a.json()["safegen"]["seeds"][0] for a in drawn}
    assert len(seeds) == len(drawn)
    assert all(opened(a.json()["data"][0]["b64_json"]).size == (128, 128) for a in drawn)


@pytest.mark.slow
def test_scores_and_health_do_not_wait_behind_drawing(generator: Generator) -> None:
    slow = Slow(generator, pause=0.05)
    with serving(slow) as (url, _):
        drawing = threading.Thread(target=post, args=(url, DRAW), kwargs={"prompt": "a cat", "steps": 30})
        drawing.start()
        wait_until(lambda: slow.steps["a cat"])
        assert post(url, SCORE, prompt=KNIFE).json()["flagged"] is True
        assert httpx.get(url + "/healthz").json()["status"] == "ok"
        assert slow.steps["a cat"] < 30
        drawing.join()
        assert slow.steps["a cat"] == 30


@pytest.mark.slow
def test_who_has_gone_is_not_drawn_for(generator: Generator) -> None:
    slow = Slow(generator, pause=0.1)
    with serving(slow) as (url, queue):
        for prompt in ("a cat", "a dog"):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(url + DRAW, json={"prompt": prompt, "steps": 100}, timeout=0.5)
            wait_until(lambda: not queue.draws)
        # The first was at work and stopped between two steps; so was, or had never begun, the second.
        assert post(url, DRAW, prompt="an owl", steps=1).status_code == 200
        assert 0 < slow.steps["a cat"] < 100
        assert slow.steps["a dog"] < 100


def test_a_request_has_its_time(generator: Generator) -> None:
    slow = Slow(generator, pause=0.1)
    with serving(slow, seconds=0.5) as (url, _):
        answer = post(url, DRAW, prompt="a cat", steps=100)
        check_fault(answer, 504, "timeout")
        assert answer.headers["x-should-retry"] == "false"
        wait_until(lambda: post(url, SCORE, prompt="a dog").status_code == 200)
        assert slow.steps["a cat"] < 100


def test_a_stopping_server_says_so(generator: Generator) -> None:
    slow = Slow(generator, pause=0.1)
    answers: list[httpx.Response] = []

    def ask(url: str) -> None:
        answers.append(post(url, DRAW, prompt="a cat", steps=100))

    with serving(slow) as (url, queue):
        askers = [threading.Thread(target=ask, args=(url,)) for _ in range(3)]
        for asker in askers:
            asker.start()
        wait_until(lambda: len(queue.draws) == 2)
    for asker in askers:
        asker.join(30)
    assert len(answers) == 3
    for answer in answers:
        check_fault(answer, 503, "unavailable")


def test_the_queue_alone() -> None:
    queue, order, gate, begun = Queue(2), [], threading.Event(), threading.Event()
    queue.start()

    def long(on_step: Any) -> str:
        begun.set()
        gate.wait(10)
        on_step(1, 1)
        order.append("long")
        return "long"

    def short(name: str) -> Any:
        return lambda *_: order.append(name) or name

    first = queue.draw(long)
    assert begun.wait(10)
    second, third = queue.draw(short("second")), queue.draw(short("third"))
    with pytest.raises(Busy, match="2 requests wait"):
        queue.draw(short("fourth"))
    queue.give_up(third)
    fourth, quick = queue.draw(short("fourth")), queue.score(short("quick"))
    gate.set()
    assert [job.future.result(10) for job in (first, second, fourth, quick)] == ["long", "second", "fourth", "quick"]
    assert order == ["quick", "long", "second", "fourth"]
    assert third.future.cancelled()
    stopped: list[Job] = []

    def endless(on_step: Any) -> None:
        while True:
            stopped and queue.give_up(stopped[0])
            on_step(1, 2)

    stopped.append(queue.draw(endless))
    with pytest.raises(GivenUp):
        stopped[0].future.result(10)
    queue.close()
    assert not queue.alive
    with pytest.raises(Unavailable):
        queue.score(short("late"))


def test_whom_a_server_without_a_key_may_listen_to() -> None:
    assert [h for h in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "::", "", "10.0.0.1", "example.org")
            if is_loopback(h)] == ["127.0.0.1", "127.9.9.9", "::1", "localhost"]  # fmt: skip
    check_key("0.0.0.0", KEY)
    assert hosts_of("0.0.0.0") is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--host", "0.0.0.0"), "SAFEGEN_API_KEY"),
        (("--host", "::"), "SAFEGEN_API_KEY"),
        (("--api-key", "two words"), "API key"),
        (("--host", "192.0.2.1", "--api-key", KEY), "cannot listen"),
        (("--queue", "0"), "--queue"),
    ],
)
def test_what_it_will_not_start_with(run: Any, arguments: tuple[str, ...], words: str) -> None:
    done = run("serve", *arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert KEY not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken(run: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", "--port", str(taken.getsockname()[1]))
    assert (done.returncode, "cannot listen" in done.stderr) == (2, True)


def test_without_the_extra_it_says_what_to_install(run: Any, tmp_path: Path) -> None:
    (tmp_path / "fastapi.py").write_text("raise ImportError")
    done = run("serve", PYTHONPATH=os.pathsep.join((str(tmp_path), *sys.path)))
    assert done.returncode == 2
    assert "pip install 'safegen[serve]'" in done.stderr


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", f"{HANDLED}; {ENTRY}", "serve", "--port", "0", "--offline", "--max-images", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "SAFEGEN_API_KEY": KEY},
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:"), process.communicate()
    answer = client(url, KEY).images.generate(prompt=KNIFE, extra_body={"steps": 1})
    assert opened(answer.data[0]).size == (128, 128)
    with pytest.raises(openai.BadRequestError, match="more than the 1"):
        client(url, KEY).images.generate(prompt=KNIFE, n=2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "knife" not in err
    assert KEY not in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


PRESS = """new Promise((done) => {{
  const put = (id, value) => {{ document.getElementById(id).value = value; }};
  put("prompt", {prompt}); put("steps", "2"); put("seed", "3"); put("n", "2"); put("key", {key});
  document.getElementById({button}).click();
  const status = document.getElementById("status");
  const over = () => /done|\\[/.test(status.textContent) && (done(), true);
  new MutationObserver(over).observe(status, {{ childList: true, subtree: true, characterData: true }});
}})"""
SEEN = """({
  title: document.title, status: document.getElementById("status").textContent,
  sizes: [...document.images].map((i) => [i.complete, i.naturalWidth, i.naturalHeight]),
  captions: [...document.querySelectorAll("figcaption")].map((c) => c.textContent),
  words: [...document.querySelectorAll("tbody td:first-child")].map((c) => c.textContent),
  over: [...document.querySelectorAll("tbody .over")].map((c) => c.parentElement.firstChild.textContent),
  verdict: document.getElementById("verdict").textContent, note: document.getElementById("note").textContent,
  scripts: document.scripts.length, keyHidden: document.getElementById("locked").hidden,
})"""


@pytest.mark.skipif(not browser.path(), reason="no Chromium on this machine")
def test_the_page_in_a_real_browser(generator: Generator, tmp_path: Path) -> None:
    with serving(generator, key=KEY) as (url, _), browser.tab(tmp_path / "profile") as tab:

        def press(prompt: str, button: str = "draw", key: str = KEY) -> dict[str, Any]:
            values = {"prompt": prompt, "button": button, "key": key}
            tab.evaluate(PRESS.format(**{k: json.dumps(v) for k, v in values.items()}))
            return dict(tab.evaluate(SEEN))

        tab.open(url)
        locked = press("a cat", key="")
        assert "[invalid_api_key]" in locked["status"]
        assert (locked["keyHidden"], locked["words"]) == (False, [])
        seen = press(KNIFE)
        assert seen["status"] == "done"
        assert seen["sizes"] == [[True, 128, 128]] * 2
        assert seen["captions"] == ["sanitized, seed 3, 2 steps", "sanitized, seed 4, 2 steps"]
        assert seen["words"] == KNIFE.split()
        assert set(seen["over"]) == {"kitchen", "knife"}
        assert seen["verdict"].startswith("flagged: violence")
        assert seen["note"].startswith("drawn as: a cat")
        scored = press("a dog", "score")
        assert (scored["sizes"], scored["words"], scored["over"]) == ([], ["a", "dog"], [])
        assert "benign" in scored["verdict"]
        evil = press(EVIL)
        assert evil["title"] == "safegen"
        assert evil["scripts"] == 2
        assert len(evil["sizes"]) == 2  # the pictures drawn, and none of the prompt's
        assert "script" in " ".join(evil["words"])
        assert "[refused]" in press(MINOR)["status"]


EDITS = "/v1/images/edits"


def coded(picture: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def test_openais_client_edits_a_picture(url: str) -> None:
    picture, mask = Image.new("RGB", (200, 160), "red"), Image.new("RGBA", (200, 160))
    asked = {"seed": 3, "steps": 2, "image_strength": 0.9}
    with_mask = client(url).images.edit(
        image=("holiday.png", coded(picture)), mask=coded(mask), prompt="a dog", n=1, extra_body=asked
    )
    facts = with_mask.safegen["input"]  # type: ignore[attr-defined]
    assert facts["image"]["size"] == facts["mask"]["size"] == [200, 160]
    assert facts["strength"] == 0.9
    assert "holiday" not in json.dumps(facts)
    assert opened(with_mask.data[0]).size == (144, 112)  # no more pixels than the model has learned
    several = client(url).images.edit(image=[coded(picture)], prompt=KNIFE, extra_body={"steps": 2})
    assert "knife" not in several.data[0].revised_prompt


@pytest.mark.parametrize(
    ("files", "fields", "status", "code", "param"),
    [
        ({}, {"prompt": "a cat"}, 415, "content_type", None),
        ({"image": b"text"}, {"prompt": "a cat"}, 400, "invalid_value", "image"),
        ({"mask": coded(Image.new("L", (64, 64), 255))}, {"prompt": "a cat"}, 400, "invalid_value", "image"),
        ({"image": coded(Image.new("L", (64, 64))), "mask": coded(Image.new("L", (64, 64)))}, {"prompt": "a cat"}, 400,
         "invalid_value", "mask"),
        ({"image": coded(Image.new("L", (64, 64))), "mask": coded(Image.new("L", (80, 64), 255))}, {"prompt": "a cat"},
         400, "invalid_value", "mask"),
        ({"image": coded(Image.new("L", (1, 1)))}, {"prompt": "a cat"}, 400, "invalid_value", "image"),
        ({"image": coded(Image.new("L", (64, 64)))}, {}, 400, "invalid_value", "prompt"),
        ({"image": coded(Image.new("L", (64, 64)))}, {"prompt": MINOR}, 400, "refused", None),
        ({"image": coded(Image.new("L", (64, 64)))}, {"prompt": "a cat", "n": "many"}, 400, "invalid_value", "n"),
        ({"image": coded(Image.new("L", (64, 64)))}, {"prompt": "a cat", "image_strength": "0"}, 400, "invalid_value",
         "image_strength"),
        ({"image": coded(Image.new("L", (64, 64)))}, {"prompt": "a cat", "image_strength": "0.001"}, 400,
         "invalid_value", "image"),
        ({"image": coded(Image.new("L", (64, 64)))}, {"prompt": "a cat", "stream": "true"}, 400, "unknown_parameter",
         "stream"),
        ({"image": coded(Image.new("L", (64, 64)))}, {"prompt": "a cat", "strange": "1"}, 400, "unknown_parameter",
         "strange"),
        ({"image": coded(Image.new("L", (64, 64)))}, {"prompt": "a cat", "fair": ["gender"] * 11}, 400, "invalid_value",
         "fair"),
        ({"image": bytes(17 * 2**20)}, {"prompt": "a cat"}, 413, "body_too_large", None),
    ],
)  # fmt: skip
def test_an_edit_that_cannot_be_made_is_refused_by_its_field(
    url: str, files: dict[str, bytes], fields: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    answer = httpx.post(url + EDITS, files=files, data=fields, timeout=60)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)


def test_a_page_elsewhere_cannot_post_a_form(url: str) -> None:
    files, fields = {"image": coded(Image.new("L", (64, 64)))}, {"prompt": "a cat", "steps": "2"}
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        assert httpx.post(url + EDITS, files=files, data=fields, headers=headers).status_code == 403
    own = {"origin": url, "sec-fetch-site": "same-origin"}
    assert httpx.post(url + EDITS, files=files, data=fields, headers=own, timeout=60).status_code == 200
    assert httpx.post(url + DRAW, files=files, data=fields).status_code == 415


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=20), st.binary(max_size=200)), min_size=1, max_size=5))
def test_a_form_is_read_as_it_was_written(fields: list[tuple[str, bytes]]) -> None:
    files = [(f"f{i}", (f"file {i}", content)) for i, (_, content) in enumerate(fields)]
    request = httpx.Request("POST", "http://x", files=files)
    parts = read_form(request.read(), request.headers["content-type"])
    assert [(part.name, part.file, part.content) for part in parts] == [
        (name, file, content) for name, (file, content) in files
    ]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.text(max_size=40))
def test_no_body_makes_the_form_reader_raise_anything_but_our_own_error(body: bytes, boundary: str) -> None:
    for content in (body, b"--x\r\n" + body, b"--x\r\n" + body + b"\r\n--x--"):
        for kind in (f"multipart/form-data; boundary={boundary}", "multipart/form-data; boundary=x"):
            with contextlib.suppress(FieldError):
                read_form(content, kind)
