"""The arrows between the parts: what may import what, read off the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = (
    ("__main__",),
    ("command",),
    ("workers.supervisor", "workers.worker"),
    ("workers.port", "workers.rounds", "server"),
    ("workers.channel", "app"),
    ("web",),
    ("openapi",),
    ("hot_routes",),
    ("oip.routes",),
    ("api", "oip.endpoint"),
    ("oip.catalog", "pictures"),
    ("http.cold", "operations", "reload"),
    ("http.exchange", "served"),
    ("http.head", "http.protocol", "http.refusals", "judged", "oip.descriptions", "statistics", "vae"),
    ("anomaly",),
    ("batcher", "codec.slices", "metrics", "loader", "scored"),
    ("admission",),
    ("explanations", "pace", "queues"),
    ("calls",),
    ("drift", "engine", "watch"),
    ("provider", "bundle"),
    (
        "descriptions",
        "score_reply",
        "onnx_file",
        "oip.messages",
        "codec.json",
        "codec.npy",
        "codec.tensors",
        "http.media",
    ),
    ("codec.fields", "codec.heat", "codec.pictures", "codec.records", "codec.sheets"),
    (
        "codec.bound",
        "codec.datatypes",
        "codec.jpeg",
        "codec.lists",
        "codec.pixels",
        "codec.png",
        "http.keys",
        "replies",
    ),
    (
        "codec.compression",
        "codec.exif",
        "codec.form",
        "codec.pillow",
        "codec.rows",
        "environment",
        "http.bodies",
        "http.crowd",
        "http.headers",
        "http.outlet",
        "http.patience",
        "http.vigil",
        "messages",
        "sockets",
        "turns",
        "workers.sharing",
    ),
    ("codec.support", "codec.table", "ensemble"),
    ("codec.columns", "groups", "reference"),
    ("manifest", "windows"),
    ("calibrated",),
    (
        "allocator",
        "calibration",
        "codec",
        "discoveries",
        "errors",
        "finite",
        "http",
        "inputs",
        "instants",
        "latent",
        "oip",
        "scores",
        "settings",
        "spent",
        "workers",
    ),
)
"""The modules of `service` from the top down: each may import those below it, and none beside or above it."""

LEAVES = {
    "calibration",
    "discoveries",
    "errors",
    "finite",
    "inputs",
    "instants",
    "latent",
    "onnx_file",
    "scores",
    "settings",
    "spent",
}
SHARED = {
    "inputs",
    "manifest",
    "calibrated",
    "bundle",
    "scores",
    "groups",
    "reference",
    "calibration",
    "latent",
    "instants",
    "engine",
    "ensemble",
    "errors",
    "onnx_file",
    "windows",
}
"""What `training` may use of `service`: the bundle, the numbers that both must agree on, and what runs them."""

WEB = {"fastapi", "starlette", "uvicorn"}
TRAINERS = {"torch", "training", "onnx", "onnx_ir", "onnxscript", "scipy", "sklearn"}


def sources(package: str) -> dict[str, Path]:
    """The modules of *package* by dotted name."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = {**sources("service"), **sources("training")}


def imports(module: str) -> set[str]:
    """
    Every module that *module* names in an import, wherever it stands: in a function or for a type checker too.

    `from service import bundle` names service.bundle; `importlib.import_module("x")` counts where x is written out.
    """
    return set(_imports(ast.parse(MODULES[module].read_text("utf-8"))))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import: write the whole name"
            assert node.module is not None
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in inside)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def of(package: str, names: set[str]) -> set[str]:
    """Those of *names* that are in *package*, without its name."""
    return {name.removeprefix(f"{package}.") for name in names if name == package or name.startswith(f"{package}.")}


def tops(names: set[str]) -> set[str]:
    """The packages that *names* are in."""
    return {name.split(".")[0] for name in names}


def test_the_reader_of_imports_sees_them_all() -> None:
    """A boundary that is crossed in a way that this file does not see is not guarded."""
    seen = set(
        _imports(
            ast.parse(
                "import torch.nn as nn\n"
                "from service import bundle, errors as e\n"
                "from service.engine import Engine\n"
                "def f():\n    from fastapi.responses import Response\n    importlib.import_module('onnx')\n"
                "if TYPE_CHECKING:\n    import uvicorn\n"
            )
        )
    )
    expected = "torch.nn service.bundle service.errors service.engine fastapi.responses onnx uvicorn"
    assert seen == set(expected.split())
    with pytest.raises(AssertionError, match="relative import"):
        list(_imports(ast.parse("from . import bundle")))


@pytest.mark.parametrize("module", sources("service"))
def test_the_service_needs_neither_torch_nor_training(module: str) -> None:
    """It is installed without them, and starts in a second because of that."""
    assert not tops(imports(module)) & {*TRAINERS, "tests"}


@pytest.mark.parametrize("module", sources("training"))
def test_training_knows_the_bundle_and_nothing_of_the_web(module: str) -> None:
    """The bundle is the one contract of the two trees; the arrow points one way."""
    assert not tops(imports(module)) & (WEB | {"tests", "pydantic_settings", "prometheus_client"})
    assert of("service", imports(module)) <= SHARED


@pytest.mark.parametrize("module", sources("service"))
def test_only_the_top_of_the_service_knows_a_web_framework(module: str) -> None:
    """Operations, batches and codecs can be used, and tested, without one."""
    allowed = {
        "service.web": {"fastapi", "starlette"},
        "service.openapi": {"fastapi"},
        "service.hot_routes": {"fastapi"},
        "service.oip.routes": {"fastapi"},
        "service.server": {"uvicorn"},
        "service.http.protocol": {"uvicorn"},
    }
    assert tops(imports(module)) & WEB <= allowed.get(module, set())


@pytest.mark.parametrize("module", sources("service"))
def test_onnxruntime_is_the_engines_business_alone(module: str) -> None:
    """Its policy of providers, threads and buckets is in one place."""
    assert ("onnxruntime" in tops(imports(module))) == (module == "service.provider")


@pytest.mark.parametrize("module", sources("service"))
def test_what_an_extra_brings_is_the_business_of_one_module(module: str) -> None:
    """Pillow and python-multipart may be missing: their module says so, and the others ask it."""
    assert ("PIL" in tops(imports(module))) == (module == "service.codec.pillow")
    assert ("python_multipart" in tops(imports(module))) == (module == "service.codec.form")


@pytest.mark.parametrize("module", sources("service"))
def test_every_arrow_of_the_service_points_down(module: str) -> None:
    """__main__ -> app -> api -> {exchange, operations} -> vae -> batcher, engine -> bundle: all read downwards."""
    level = {name: depth for depth, names in enumerate(LAYERS) for name in names}
    name = module.removeprefix("service").removeprefix(".")
    if not name:
        assert not of("service", imports(module))
        return
    wrong = {other for other in of("service", imports(module)) if level[other] <= level[name]}
    assert not wrong, f"{module} imports {wrong}"


def test_the_layers_name_every_module_of_the_service_once() -> None:
    """A new file needs a place."""
    named = [name for names in LAYERS for name in names]
    assert sorted(named) == sorted(name.removeprefix("service.") for name in sources("service") if name != "service")


@pytest.mark.parametrize("package", ["service", "training"])
def test_no_imports_go_round_in_circles(package: str) -> None:
    """Neither tree has a cycle, not even one that a late import hides."""
    graph = {name: {f"{package}.{other}" for other in of(package, imports(name))} for name in sources(package)}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_a_leaf_imports_nothing_of_the_service(name: str) -> None:
    """It can be understood, and tested, by itself."""
    assert not of("service", imports(f"service.{name}"))


def test_the_arrows_of_the_request_path_are_those_that_are_documented() -> None:
    """What a room may know of the others, exactly: one that learns more has to say so here."""
    codecs = {name for name in sources("service") if name.startswith("service.codec.")}
    for module in codecs:
        assert {name for name in of("service", imports(module)) if not name.startswith("codec.")} <= {
            "errors",
            "finite",
            "inputs",
            "instants",
            "manifest",
            "windows",
        }
    wire = {"codec.form", "codec.json", "codec.npy", "codec.pictures", "codec.sheets", "codec.tensors"}
    for module in codecs - {"service.codec.slices"}:  # JSON in slices
        assert not wire & of("service", imports(module)), "a wire format knows of no other"
    assert of("service", imports("service.manifest")) == {"calibrated", "inputs"}
    assert of("service", imports("service.calibrated")) == {"inputs"}
    assert of("service", imports("service.messages")) == {"calibrated", "latent"}
    assert of("service", imports("service.replies")) == {"latent", "messages"}
    assert of("service", imports("service.score_reply")) == {"calibrated", "replies"}
    assert of("service", imports("service.groups")) == {"calibrated", "calibration", "inputs", "manifest"}
    assert of("service", imports("service.descriptions")) == {"manifest", "replies"}
    assert not wire & of("service", imports("service.operations"))
    assert of("service", imports("service.batcher")) == {
        "admission",
        "calls",
        "errors",
        "pace",
        "queues",
        "spent",
    }
    assert of("service", imports("service.admission")) == {"calls", "errors", "pace", "queues"}
    assert of("service", imports("service.queues")) == {"calls"}
    assert of("service", imports("service.calls")) == {"errors", "spent"}
    assert of("service", imports("service.bundle")) == {
        "calibrated",
        "ensemble",
        "errors",
        "manifest",
        "onnx_file",
        "reference",
    }
    assert of("service", imports("service.reference")) == {
        "calibrated",
        "calibration",
        "latent",
        "manifest",
        "scores",
    }
    assert of("service", imports("service.engine")) == {"bundle", "errors", "provider"}
    assert {"batcher", "engine"} <= of("service", imports("service.vae"))
    assert not of("service", imports("service.vae")) & (wire | {"codec.rows", "http.exchange", "metrics"})
    assert not of("service", imports("service.http.exchange")) & (
        wire | {"vae", "served", "operations", "api", "bundle", "engine"}
    )


def test_settings_are_read_at_the_edge_alone() -> None:
    """Only command.py makes Settings, and nothing else reads the environment."""
    for module, path in sources("service").items():
        tree = ast.parse(path.read_text("utf-8"))
        made = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        read = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert ("Settings" in made) == (module == "service.command")
        assert module == "service.command" or not read & {"os.environ", "os.getenv"}


def test_the_application_runs_without_torch() -> None:
    """What is loaded in the end, by others' imports too: the application and the engine with onnxruntime."""
    code = (
        "import sys, service.command, service.app, service.provider\n"
        "service.provider.load_onnxruntime()\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert {"service", "fastapi", "onnxruntime"} <= loaded
    assert not loaded & TRAINERS
