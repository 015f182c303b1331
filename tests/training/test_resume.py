"""A fit that is interrupted, killed or forgotten: what is on disk, what goes on, and what is refused."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from service.bundle import open_bundle
from service.engine import Engine
from service.manifest import Data
from tests.training.commanded import PLAIN, QUICK, ByCommand, write_csv
from tests.training.test_fit import model, rows
from tests.training.unexported import fit_alone
from training import checkpoint
from training.__main__ import main
from training.batches import Draw
from training.errors import FitError, Interrupted, TrainingError
from training.fit import FitOptions, fit
from training.fit_log import FitLog
from training.interrupt import Interrupt
from training.resume import only_one
from training.state import State
from training.validation import Record

ROOT = Path(__file__).parents[2]
LONG = (
    *PLAIN,
    *("--epochs", "60", "--patience", "60", "--batch-size", "32", "--hidden", "8", "--latent-dim", "2"),
    *("--draws", "8", "--threads", "1"),
)


def stopping(interrupt: Interrupt, after: int) -> Draw:
    """Rows as they are, and after so many blocks of them a signal."""
    left = [after]

    def draw(x: NDArray[np.generic], generator: np.random.Generator) -> NDArray[np.generic]:
        left[0] -= 1
        if left[0] == 0:
            interrupt.signal = signal.SIGINT
        return x.astype(np.float64) + 0.1 * generator.standard_normal(x.shape)

    return draw


@pytest.mark.parametrize("after", [2, 6, 8])
def test_a_fit_that_goes_on_ends_with_the_same_weights(after: int, tmp_path: Path) -> None:
    """To the bit, wherever it stopped, through the file; and with the same log, but for the times."""
    x, options = rows(3000), FitOptions(epochs=4, batch_size=20, warmup_epochs=2, seed=3)
    records: dict[str, list[Record]] = {"whole": [], "parts": []}
    whole = model(x)
    fit(whole, x, x[:100], options, stopping(Interrupt(), 0), log=records["whole"].append)
    interrupt, states, vae = Interrupt(), list[State](), model(x)
    with pytest.raises(Interrupted):
        fit(
            vae,
            x,
            x[:100],
            options,
            stopping(interrupt, after),
            log=records["parts"].append,
            save=lambda state: states.append(through_a_file(state, vae, tmp_path)),
            interrupt=interrupt,
        )
    assert len(states) == 1
    assert (states[0].progress.epoch, states[0].progress.step) == {2: (1, 1), 6: (2, 65), 8: (3, 1)}[after]
    other = model(x, seed=9)
    fit(other, x, x[:100], options, stopping(Interrupt(), 0), log=records["parts"].append, resume=states[0])
    for name, value in whole.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    for record in records["whole"] + records["parts"]:
        del record["seconds"]
    assert records["parts"] == records["whole"]


def through_a_file(state: State, vae: Any, folder: Path) -> State:
    """*state*, written and read."""
    file = folder / "checkpoint.npz"
    data = Data(hash="0", rows={})
    checkpoint.save(file, checkpoint.Checkpoint(vae.inputs, vae.config, state.best, data, {}, state))
    found = checkpoint.load(file).state
    assert found is not None
    return found


def vae_train(*arguments: str) -> subprocess.Popen[str]:
    """A real process."""
    return subprocess.Popen(
        [sys.executable, "-m", "training", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `LONG` leaves when nobody disturbs it before its export: rows.csv, and the model directory pumps."""
    folder = tmp_path_factory.mktemp("undisturbed")
    data = write_csv(folder / "rows.csv", 2000, 0)
    fit_alone("--data", str(data), "--output", str(folder / "pumps"), *LONG)
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_that_goes_on(undisturbed: Path, tmp_path: Path, number: int) -> None:
    """
    `vae-train fit`, a signal, the command that it then names: weights and log are those of an undisturbed fit.

    Exit status 130 or 143, one line; and a bundle can be made of what is there.
    """
    model_dir, log = tmp_path / "pumps", tmp_path / "pumps" / "fit-1.jsonl"
    command = ["fit", "--data", str(undisturbed / "rows.csv"), "--output", str(model_dir), *LONG]
    process = vae_train(*command)
    while process.poll() is None and (not log.exists() or log.read_text().count("\n") < 3):
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    file = model_dir / "checkpoint-1.npz"
    again = ["vae-train", *command, "--resume"]
    assert said == f"vae-train fit: interrupted; {file} has it all: go on with: {' '.join(again)}\n"
    unfinished = checkpoint.load(file)
    assert unfinished.state is not None
    assert 3 < unfinished.state.progress.epoch < 60
    if number == signal.SIGTERM:
        return  # what was left goes on alike, whatever the signal was
    rows = ["--data", str(undisturbed / "rows.csv"), "--draws", "8", "--threads", "1", "--quiet"]
    early = tmp_path / "early"
    assert main(["export", "--checkpoint", str(file), "--output", str(early), *rows]) == 0
    assert open_bundle(early).manifest.version == 1
    Engine.open(open_bundle(early), threads=1)

    fit_alone(*again[2:])
    resumed, whole = checkpoint.load(file), checkpoint.load(undisturbed / "pumps" / "checkpoint-1.npz")
    assert resumed.state is whole.state is None
    for name, value in whole.weights.items():
        assert torch.equal(resumed.weights[name], value), name
    found: list[Any] = [fitted.training["environment"] for fitted in (resumed, whole)]
    assert [environment["resumed"] for environment in found] == [1, 0]
    logs = [
        [json.loads(line) for line in (folder / "fit-1.jsonl").read_text().splitlines()]
        for folder in (model_dir, undisturbed / "pumps")
    ]
    for record in logs[0] + logs[1]:
        del record["seconds"]
    assert logs[0] == logs[1]


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows.csv, and the model directory pumps with an unfinished fit of it, in epoch 2 of 3."""
    folder = tmp_path_factory.mktemp("halfway")
    data, model_dir = write_csv(folder / "rows.csv", 200, 0), folder / "pumps"
    fit_alone("--data", str(data), "--output", str(model_dir), *QUICK)
    done = checkpoint.load(model_dir / "checkpoint-1.npz")
    interrupt, states = Interrupt(), list[State]()
    x = rows(200)
    with pytest.raises(Interrupted):
        fit(model(x), x, x, FitOptions(epochs=3), stopping(interrupt, 2), save=states.append, interrupt=interrupt)
    state = State(states[0].progress, done.weights, done.weights, {})
    checkpoint.save(
        model_dir / "checkpoint-1.npz",
        checkpoint.Checkpoint(done.inputs, done.config, done.weights, done.data, done.training, state),
    )
    return folder


@pytest.fixture
def unfinished(halfway: Path, tmp_path: Path) -> Path:
    """A copy of that model directory, beside its rows.csv."""
    shutil.copytree(halfway, tmp_path, dirs_exist_ok=True)
    return tmp_path / "pumps"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--hidden", "8,8"], "--resume: --hidden is 8,8, but {file} was begun with 8"),
        (["--seed", "1"], "--resume: --seed is 1, but {file} was begun with 0"),
        (["--test", "0.2"], "--resume: --test is 0.2, but {file} was begun with 0.15"),
        (["--learning-rate", "0.1"], "--resume: --learning-rate is 0.1, but {file} was begun with 0.002"),
        (["--epochs", "9"], "--resume: --epochs is 9, but {file} was begun with 3: the learning rate falls over all"),
    ],
)
def test_a_fit_goes_on_only_as_what_it_was(
    unfinished: Path, change: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The option is named, with both values; nothing is written."""
    before = (unfinished / "checkpoint-1.npz").read_bytes()
    command = ["fit", "--data", str(unfinished.parent / "rows.csv"), "--output", str(unfinished), *QUICK, "--resume"]
    assert main([*command, *change]) == 2
    assert message.format(file=unfinished / "checkpoint-1.npz") in capsys.readouterr().err
    assert (unfinished / "checkpoint-1.npz").read_bytes() == before


def test_a_fit_does_not_go_on_with_other_data_nor_is_it_overwritten(
    unfinished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --resume an unfinished fit is in the way; with it, another file is refused by its hash."""
    command = ["fit", "--data", str(unfinished.parent / "rows.csv"), "--output", str(unfinished), *QUICK]
    assert main(command) == 2
    assert "is an unfinished fit (epoch 1): go on with --resume, or delete it" in capsys.readouterr().err
    write_csv(unfinished.parent / "rows.csv", 200, 5)
    assert main([*command, "--resume"]) == 2
    assert "--resume: rows.csv is not the data of" in capsys.readouterr().err


def test_a_finished_fit_goes_straight_to_its_bundle(
    by_command: ByCommand, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a crash between the fit and the bundle; and where there is nothing, --resume says so and starts."""
    model_dir = tmp_path / "pumps"
    command = ["fit", "--data", str(by_command.data), "--output", str(model_dir), *QUICK, "--resume"]
    ended = fit_alone(*command[1:]).err
    assert f"warning: --resume: there is no {model_dir}/checkpoint-1.npz; this is a fresh start" in ended
    assert ended.endswith(f"interrupted after the fit; make the bundle with: {' '.join(['vae-train', *command])}\n")
    before = {file: (model_dir / file).read_bytes() for file in ("fit-1.jsonl", "checkpoint-1.npz")}
    assert main(command[:-1]) == 2
    told = "is a finished fit whose bundle, version 1, was not written: go on with --resume, or delete it"
    assert told in capsys.readouterr().err
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "is a finished fit: going on with the bundle" in said
    assert "ended the fit" not in said
    assert {file: (model_dir / file).read_bytes() for file in before} == before
    assert open_bundle(model_dir).graphs == open_bundle(by_command.model).graphs


def test_the_log_goes_on_without_double_epochs(tmp_path: Path) -> None:
    """What a killed run logged after its last state goes, and half of a line too."""
    file = tmp_path / "fit.jsonl"
    file.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3}\n{"epo')
    log = FitLog(file, first=3)
    log({"epoch": 3, "kl": 1.5})
    log.close()
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {"epoch": 1},
        {"epoch": 2},
        {"epoch": 3, "kl": 1.5},
    ]


def test_a_fit_is_repeated_from_its_manifest(tmp_path: Path) -> None:
    """The configuration in the checkpoint, which its bundle has too, is enough for a command that gives its weights."""
    data = write_csv(tmp_path / "rows.csv", 200, 0)
    odd = [
        *PLAIN,
        "--sigma",
        "shared",
        "--activation",
        "tanh",
        "--hidden",
        "8,4",
        "--batch-size",
        "50",
        "--validation",
        "0.2",
    ]
    odd += [
        "--learning-rate",
        "0.01",
        "--epochs",
        "5",
        "--warmup-epochs",
        "1.5",
        "--seed",
        "5",
        "--threads",
        "1",
        "--patience",
        "20",
    ]
    fit_alone("--data", str(data), "--output", str(tmp_path / "a"), *odd)
    first = checkpoint.load(tmp_path / "a" / "checkpoint-1.npz")
    found: Any = first.training
    options = {
        **found["dealing"]["fractions"],
        **found["options"],
        **found["model"],
        "binarize": found["dealing"]["binarize"],
    }
    options |= {"threads": found["environment"]["threads"], "device": found["environment"]["device"]}
    assert options.pop("minutes") is None
    assert options.pop("standardise") == (options["likelihood"] != "bernoulli")
    options["hidden"] = ",".join(map(str, options["hidden"]))
    command = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    fit_alone("--data", str(data), "--output", str(tmp_path / "b"), *command)
    second = checkpoint.load(tmp_path / "b" / "checkpoint-1.npz")
    assert (second.config, second.data, second.training["options"]) == (first.config, first.data, found["options"])
    for name, value in first.weights.items():
        assert torch.equal(second.weights[name], value), name


def test_two_fits_do_not_write_the_same_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second is refused before its fit; when the first has ended, however it ended, the files are free."""
    data, model_dir = write_csv(tmp_path / "rows.csv", 60, 0), tmp_path / "pumps"
    model_dir.mkdir()
    command = ["fit", "--data", str(data), "--output", str(model_dir), *QUICK]
    with only_one(model_dir / "checkpoint-1.npz"):
        assert main(command) == 2
    assert "checkpoint-1.npz: another fit is writing it; give this one another --output" in capsys.readouterr().err
    assert not list(model_dir.iterdir())
    with pytest.raises(RuntimeError, match="over"), only_one(model_dir / "checkpoint-1.npz"):
        raise RuntimeError("over")
    fit_alone(*command[1:])


def test_a_lock_that_its_owner_takes_away_is_nobodys(tmp_path: Path) -> None:
    """Of several that come and go at any moment, never two are inside: a file that was unlinked is still locked."""
    file, inside, met, most = tmp_path / "checkpoint-1.npz", [0], [0], [0]

    def come_and_go() -> None:
        for _ in range(300):
            with contextlib.suppress(FitError), only_one(file):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                met[0] += 1
                time.sleep(0.0002)
                inside[0] -= 1

    threads = [threading.Thread(target=come_and_go) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert met[0] > 100
    assert most[0] == 1
    assert not list(tmp_path.iterdir())


class Ending(io.StringIO):
    """Standard error; when *words* are written to it there is a SIGTERM."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words

    def write(self, text: str) -> int:
        if self._words in text:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().write(text)


def test_a_signal_after_the_last_step_ends_the_fit_too(tmp_path: Path) -> None:
    """Between that and the bundle nobody looks for one by himself; of folds the next one would begin."""
    data, model_dir = write_csv(tmp_path / "rows.csv", 100, 0), tmp_path / "pumps"
    options = ("--hidden", "8", "--latent-dim", "2", "--draws", "8", "--threads", "1", "--quiet", "--folds", "2")
    short = ("--epochs", "50", "--minutes", "1e-9", "--warmup-epochs", "9")
    command = ["fit", "--data", str(data), "--output", str(model_dir), *options, *short]
    with contextlib.redirect_stderr(Ending("the minutes were over after epoch 1")) as said:
        assert main(command) == 128 + signal.SIGTERM
    first = model_dir / "checkpoint-1-fold-1.npz"
    assert said.getvalue().endswith(
        f"interrupted; {first} has it all: go on with: vae-train {' '.join(command)} --resume\n"
    )
    assert checkpoint.load(first).state is None
    assert not (model_dir / "checkpoint-1-fold-2.npz").exists()


def test_a_full_disk_leaves_the_last_state_and_says_where(unfinished: Path) -> None:
    """The half that was written goes, so that there is room to go on."""
    file = unfinished / "checkpoint-1.npz"
    before, found = file.read_bytes(), checkpoint.load(file)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    try:
        with pytest.raises(
            TrainingError, match=r"checkpoint-1\.npz: cannot be written: .*; what it held before is whole"
        ):
            checkpoint.save(file, found)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert file.read_bytes() == before
    assert not (unfinished / ".checkpoint-1.npz.tmp").exists()


@pytest.mark.parametrize(
    ("flag", "place", "message"),
    [
        ("--checkpoint", ".", "--checkpoint .: a directory; name a file in it"),
        ("--checkpoint", "pumps", "--checkpoint pumps: a directory; name a file in it"),
        ("--checkpoint", "rows.csv/c.npz", "--checkpoint rows.csv/c.npz: cannot be written: "),
        ("--log", ".", "--log .: a directory; name a file in it"),
        ("--log", "rows.csv/fit.jsonl", "--log rows.csv/fit.jsonl: cannot be written: "),
        ("--checkpoint", "rows.csv", "--checkpoint rows.csv: is the file of --data too"),
        ("--log", "rows.csv", "--log rows.csv: is the file of --data too"),
        ("--log", "pumps/checkpoint-1.npz", "--log pumps/checkpoint-1.npz: is the file of --checkpoint too"),
        ("--checkpoint", "notes.txt", "notes.txt: not a checkpoint, as fit leaves them\n"),
        ("--log", "notes.txt", "--log notes.txt: is there, and is not the log of a fit; name another file"),
        ("--output", "rows.csv", "--output rows.csv: cannot be written: Not a directory"),
    ],
)
def test_places_that_cannot_be_written_are_named_before_the_fit(
    tmp_path: Path,
    flag: str,
    place: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not after hours of it; and a file that is something else is not overwritten."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pumps").mkdir()
    before = write_csv(tmp_path / "rows.csv", 60, 0).read_bytes()
    (tmp_path / "notes.txt").write_text("mine\n")
    assert main(["fit", "--data", "rows.csv", "--output", "pumps", *QUICK, flag, place]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "rows.csv").read_bytes() == before
    assert (tmp_path / "notes.txt").read_text() == "mine\n"
    assert not list((tmp_path / "pumps").iterdir())


def test_a_checkpoint_of_another_schema_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By both numbers, and with what to do."""
    config = np.frombuffer(json.dumps({"schema": 1}).encode(), np.uint8)
    np.savez(tmp_path / "old.npz", config=config)
    assert main(["export", "--checkpoint", str(tmp_path / "old.npz"), "--output", str(tmp_path / "m")]) == 2
    assert "a checkpoint of schema 1; this version of vae-train reads 2 only: fit again" in capsys.readouterr().err
