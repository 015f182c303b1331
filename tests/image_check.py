"""
The built image, checked from outside: `make image image-check`. Linux, root, docker or buildah; EXTRA=gpu too.

The server starts from a read-only root as the image's user, answers as the same server outside does, is healthy by
the image's own health check, and ends as an operator wants. Not part of `make test`: it needs a built image.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import signal
import socket
import time
from pathlib import Path
from typing import Any

import httpx

from tests.container import Container, Image
from tests.gpu_wheel_check import check
from tests.server import Server

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "deploy/models"
WANTED = {"User": "10001:10001", "StopSignal": "SIGTERM", "Entrypoint": ["/opt/entrypoint.sh"]}
ABSENT = ("torch", "pip", "setuptools", "wheel", "pytest", "watchfiles", "websockets")
COMPILERS = ("cc", "gcc", "g++", "clang", "make", "ld")
WRITES = "\n".join(
    [
        "import tempfile, pathlib",
        "for place in ('/', '/opt', '/opt/venv', '/tmp', '/var/tmp', '/models', pathlib.Path.home()):",
        "    try: (pathlib.Path(place) / 'x').write_text('x')",
        "    except OSError: continue",
        "    print('wrote to', place)",
    ]
)


def operations() -> dict[str, Any]:
    """A body for each route, on the shipped example."""
    digits = json.loads((ROOT / "deploy/examples/two-digits.json").read_text())
    return {
        "/v1/encode": {**digits, "draws": 2, "seed": 3},
        "/v1/decode": {"latents": [[0.1 * i for i in range(16)], [0] * 16]},
        "/v1/sample": {"count": 3, "seed": 7},
        "/v1/interpolate": {**digits, "steps": 5, "method": "slerp"},
        "/v1/reconstruct": digits,
        "/v1/anomaly-score": json.loads((ROOT / "deploy/examples/score.json").read_text()),
    }


def agree(one: Any, other: Any, features: int = 64) -> bool:
    """Equal, numbers within the tolerance that the service promises between replicas."""
    if isinstance(one, dict):
        return isinstance(other, dict) and set(one) == set(other) and all(agree(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(agree(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-4 * features**0.5)
    return bool(one == other)


def check_contents(image: Image) -> str:
    """What is in the image, and what is not; the device that it was built for."""
    for name, wanted in WANTED.items():
        check(f"the image's {name}", image.config[name] == wanted, image.config[name])
    told = image.config.get("Healthcheck", "none: OCI's format has no place for one, so buildah bud --format docker")
    check("the image's health check", isinstance(told, dict), told)
    device = (image.root / "opt/device").read_text().strip()
    found = [name for name in COMPILERS for place in ("bin", "usr/bin") if (image.root / place / name).exists()]
    check("no compiler", not found, found)
    code = f"import importlib.util as u; print([n for n in {ABSENT} if u.find_spec(n)])"
    with Container(image, ["python", "-c", code]) as container:
        check(
            f"its Python has none of {', '.join(ABSENT)}",
            container.wait() == 0 and container.log == ["[]\n"],
            container.log,
        )
    with Container(image, ["python", "-c", WRITES], models=MODELS) as container:
        check("nothing can be written", container.wait() == 0 and not container.log, container.log)
    with Container(image, VAE_DEVICE="auto") as container:
        status = container.wait()
        told = [line for line in container.log if "no bundle here" in line]
        check("without a model it does not start, and says why", status != 0 and bool(told), (status, *told))
    size = sum(path.lstat().st_size for path in image.root.glob("opt/**/*") if path.is_file())
    print(f"     /opt, which is all that the image adds to its base: {size / 1e6:.0f} MB")
    return device


def check_refusal(image: Image) -> None:
    """The GPU image where there is no card: refused by default."""
    with Container(image, models=MODELS, VAE_BUNDLE="/models/digits", VAE_PORT="0") as container:
        status = container.wait()
        told = [line for line in container.log if "'cuda' was asked for" in line]
        check("without a card the GPU image does not start", status != 0 and bool(told), (status, *told))


def check_service(image: Image, port: int, device: str) -> None:
    """One life of the server: start, answers, health, end."""
    env = {"VAE_BUNDLE": "/models/digits", "VAE_PORT": str(port), "VAE_DEVICE": device}
    url = f"http://127.0.0.1:{port}"
    with Container(image, models=MODELS, **env) as container:
        print(f"     listening after {container.until('running on'):.2f} s")
        seen = container.status()
        identity = {name: seen[name] for name in ("Uid", "Gid", "Groups", "NSpid", "CapEff", "CapBnd", "NoNewPrivs")}
        check("it is process 1, as the user 10001", {*seen["Uid"].split(), *seen["Gid"].split()} == {"10001"}, identity)
        check("and has no capability", int(seen["CapEff"], 16) == int(seen["CapBnd"], 16) == 0, seen["CapEff"])
        mounts = [line.split() for line in Path(f"/proc/{container.pid}/mountinfo").read_text().splitlines()]
        root = next(words for words in mounts if words[4] == "/")
        check("its root is read-only", root[5].startswith("ro"), root[5])
        with httpx.Client(timeout=30) as client, Server(MODELS / "digits") as outside:
            ready = client.get(f"{url}/health/ready").json()
            fell_back = device == "auto"
            check("/health/ready says what runs it", ready["execution"]["fell_back"] == fell_back, ready)
            sent = [line for line in container.log if "telemetry" in line.lower()]
            check("onnxruntime's telemetry is off", not sent, sent)
            if fell_back:
                told = [line for line in container.log if "no usable GPU" in line]
                check("and so does the log", bool(told), told)
            for path, body in operations().items():
                inside, reference = (client.post(f"{base}{path}", json=body) for base in (url, outside.url))
                same = inside.status_code == 200 and agree(inside.json(), reference.json())
                check(f"{path} answers as outside", same, f"{len(inside.content)} bytes")
            picture = (ROOT / "deploy/examples/three.png").read_bytes()
            headers = {"Content-Type": "image/png", "Accept": "image/png"}
            drawn = client.post(f"{url}/v1/reconstruct", content=picture, headers=headers)
            check("a picture is answered by one", drawn.content.startswith(b"\x89PNG"), f"{len(drawn.content)} bytes")
        check_health(image, port, 0)
        check_end(image, container, port)
    check_health(image, port, 1)


def check_health(image: Image, port: int, status: int) -> None:
    """The image's own health check."""
    kind, *command = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    start = time.monotonic()
    with Container(image, command, VAE_PORT=str(port)) as container:
        ended = container.wait()
        told = f"{container.log[-1].strip()} ({time.monotonic() - start:.2f} s)"
        check(f"the health check ends with {status}", ended == status, told)


def check_end(image: Image, container: Container, port: int) -> None:
    """SIGTERM while half a request is here: it is answered, and the exit status is 0."""
    body = json.dumps(operations()["/v1/anomaly-score"]).encode()
    head = f"POST /v1/anomaly-score HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", port), 30) as caller:
        caller.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body[:100])
        time.sleep(0.2)
        container.signal(signal.SIGTERM)
        container.until("draining: 1 request in flight")
        check_health(image, port, 1)
        caller.sendall(body[100:])
        reply = http.client.HTTPResponse(caller)
        reply.begin()
        scores = json.loads(reply.read()).get("scores")
    check("the request in flight is answered after SIGTERM", reply.status == 200, scores)
    start = time.monotonic()
    status = container.wait()
    check("and the exit status is 0", status == 0, f"{status}, {time.monotonic() - start:.2f} s later")


def main() -> None:
    """Every check, in turn; ends with status 1 at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", help="name and tag, as in vae-serve:cpu")
    parser.add_argument("--engine", choices=("docker", "buildah"), default="docker", help="what has the image")
    args = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with Image(args.engine, args.image) as image:
        device = check_contents(image)
        if device == "cuda":
            check_refusal(image)
            device = "auto"
        check_service(image, port, device)


if __name__ == "__main__":
    main()
