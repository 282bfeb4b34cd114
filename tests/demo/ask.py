"""Asks the demo's two models through their Services, with the official client."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from openai import OpenAI

from tests.demo.clusters import tool
from tests.demo.shell import StepFailed, say

SENTENCE = "a cat sits on the mat"
NEAR = "a kitten rests on a rug"
FAR = "stock markets fell today"


@contextmanager
def api_server() -> Iterator[str]:
    """The address of a `kubectl proxy`: Services are reached through the API server, so it works on any cluster."""
    proxy = subprocess.Popen([*tool("kubectl"), "proxy", "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert proxy.stdout is not None
        line = proxy.stdout.readline()  # Starting to serve on 127.0.0.1:41234
        yield f"http://{line.split()[-1]}"
    finally:
        proxy.terminate()
        proxy.communicate()


def client_of(api: str, namespace: str, name: str) -> OpenAI:
    """An OpenAI client whose requests go to the model's Service; to be closed, as by `with`."""
    return OpenAI(
        base_url=f"{api}/api/v1/namespaces/{namespace}/services/{name}:http/proxy/v1", api_key="none", timeout=120
    )


def similarities(client: OpenAI, model: str) -> tuple[float, float]:
    """The cosines of the sentence with the near and the far one."""
    answer = client.embeddings.create(model=model, input=[SENTENCE, NEAR, FAR])
    one, near, far = (item.embedding for item in answer.data)
    return _cosine(one, near), _cosine(one, far)


def streamed_answer(client: OpenAI, model: str) -> tuple[str, int]:
    """What the chat model says, and in how many pieces it came."""
    messages = [{"role": "user", "content": "Hello, world!"}]
    stream = client.chat.completions.create(model=model, messages=messages, stream=True, max_tokens=16)  # type: ignore[call-overload]
    pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices and chunk.choices[0].delta.content]
    return "".join(pieces), len(pieces)


def ask() -> None:
    """Both questions of the demo, with their answers. Raises StepFailed when an answer is not what a real model gives."""
    with api_server() as api:
        with client_of(api, "demo", "minilm") as client:
            near, far = similarities(client, "sentence-transformers/all-MiniLM-L6-v2")
        say(f"  minilm: “{SENTENCE}” is near to “{NEAR}” (cosine {near:.2f}) and far from “{FAR}” ({far:.2f})")
        if not near > far + 0.3:
            raise StepFailed(f"the embeddings make no sense: {near:.2f} against {far:.2f}")
        with client_of(api, "demo", "tiny-chat") as client:
            text, pieces = streamed_answer(client, "vllm-operator/tiny-chat")
        say(f"  tiny-chat (a toy): streamed {pieces} pieces: {text!r}")
        if pieces < 1:
            raise StepFailed("tiny-chat streamed nothing")


def _cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))
