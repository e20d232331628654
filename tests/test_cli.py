"""The command line as a hurried user treats it: every mistake ends with one sentence and the right exit status."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from nextpixel import cli, load
from nextpixel.cli import data, inspect
from nextpixel.cli.app import app

TINY = ["--epochs", "1", "--option", "layers=2", "--option", "features=6"]
PROGRAM = [sys.executable, "-m", "nextpixel"]
COMMANDS = [
    ["demo"],
    ["train"],
    ["reproduce"],
    ["evaluate"],
    ["sample"],
    ["complete"],
    ["compress"],
    ["decompress"],
    ["verify"],
    ["push"],
    ["serve"],
    ["freeze"],
    ["check"],
    ["info"],
    ["families"],
    ["data", "list"],
    ["data", "fetch"],
    ["data", "verify"],
    ["config", "show"],
    ["config", "init"],
]


@pytest.fixture(scope="session")
def origin(tmp_path_factory):
    """Small data, and one run that was trained on them: never written to."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (60, 6, 5), dtype=np.uint8)
    np.savez(folder / "bits.npz", images=bits, labels=np.arange(60) % 3)
    np.save(folder / "codes.npy", rng.integers(0, 512, (30, 4, 4)))
    np.save(folder / "floats.npy", rng.random((30, 4, 4)))
    np.save(folder / "two.npy", bits[:2])
    np.savez(folder / "negative_labels.npz", images=bits, labels=np.arange(60) - 1)
    np.savez(folder / "few_labels.npz", images=bits, labels=np.arange(59))
    np.savez(folder / "other_sizes.npz", train=bits, test=bits[:, :5])
    (folder / "half.npz").write_bytes((folder / "bits.npz").read_bytes()[:500])
    (folder / "nothing.npz").write_bytes(b"")
    (folder / "table.csv").write_text("1,2\n")
    (folder / "empty").mkdir()
    for number in range(12):
        colour = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        for where in (f"pictures/{'ünï cat' if number % 2 else 'a dog'}", "damaged", "alpha", "deep", "mixed"):
            (folder / where).mkdir(parents=True, exist_ok=True)
            colour.save(folder / where / f"{number:02d}.png")
    (folder / "damaged/text.png").write_text("no picture")
    (folder / "damaged/empty.png").write_bytes(b"")
    (folder / "damaged/half.png").write_bytes((folder / "damaged/00.png").read_bytes()[:60])
    Image.fromarray(rng.integers(0, 256, (6, 6, 4), dtype=np.uint8)).save(folder / "alpha/see-through.png")
    Image.fromarray(rng.integers(0, 60000, (6, 6), dtype=np.uint16)).save(folder / "deep/deep.png")
    Image.fromarray(rng.integers(0, 256, (7, 6, 3), dtype=np.uint8)).save(folder / "mixed/taller.png")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    train = [*PROGRAM, "train", "bits.npz", "--class-conditional", "--run", "run", *TINY]
    done = subprocess.run(train, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "run" in done.stderr.splitlines()[0]  # where it goes is said first
    return folder


@pytest.fixture
def folder(origin, tmp_path, monkeypatch):
    """A copy of all that to play with, as the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(origin, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_the_commands_are_listed_and_nothing_heavy_is_imported():
    code = "import sys; sys.argv = ['nextpixel', '--help']\nfrom nextpixel.cli import main\ntry:\n    main()\n"
    code += "except SystemExit as e:\n    print(e.code, [m for m in sys.modules if m in"
    code += " ('pytorch_lightning', 'lightning_fabric', 'tensorboard', 'matplotlib.pyplot')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.rstrip().endswith("0 []"), done.stdout[-300:] + done.stderr
    assert all(command[0] in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(nextpixel, command):
    ended = nextpixel(*command, "--help")
    assert ended.status == 0
    assert f"Example: nextpixel {' '.join(command)}" in ended.out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("train", "Say which data"),
        ("train mnits", "Did you mean 'mnist'"),
        ("train nowhere/data", "neither a file, nor a folder"),
        ("train bits.npz --famly pixelcnn", "--family"),
        ("train bits.npz --family pixlcnn", "Did you mean 'pixelcnn'"),
        ("train bits.npz --head catgorical", "Did you mean 'categorical'"),
        ("train bits.npz --head-option a=1", "--head"),
        ("train bits.npz --embedding learnt", "'learned'"),
        ("train bits.npz --option lyers=3", "Did you mean 'layers'"),
        ("train bits.npz --option layers", "name=value"),
        ("train bits.npz --option layers=many", "a whole number."),
        ("train bits.npz --option layers=2,features=6", "a whole number (give each option its own flag)"),
        ("train bits.npz --option dropout=much", "a number"),
        ("train bits.npz --option kernel=2", "kernel must be odd"),
        ("train bits.npz --option features=0", "features must be at least 1"),
        ("train bits.npz --option dropout=2", "dropout must be"),
        ("train bits.npz --epochs 0", "epochs must be positive"),
        ("train bits.npz --epochs 1.5", "integer"),
        ("train bits.npz --batch-size -1", "batch_size must be positive"),
        ("train bits.npz --learning-rate 0", "learning_rate must be positive"),
        ("train bits.npz --ema 1", "below 1"),
        ("train bits.npz --optimizer adam", "'adamw'"),
        ("train bits.npz --device gpu", "cpu, cuda or mps"),
        ("train bits.npz --levels 1", "between 2 and"),
        ("train bits.npz --binarise fixd", "'fixed'"),
        ("train bits.npz --size 0", "positive"),
        ("train bits.npz --size 3xx", "28x20"),
        ("train bits.npz --channels 2", "1 or 3"),
        ("train bits.npz --json empty", "folder"),
        ("train bits.npz --run bits.npz", "cannot be written"),
        ("train bits.npz --run run", "--resume run"),
        ("train bits.npz --config none.yaml", "No such file"),
        ("train bits.npz more", "more"),
        ("train codes.npy --levels 100", "--levels 512"),
        ("train codes.npy --class-conditional", "no labels"),
        ("train floats.npy", "floats"),
        ("train two.npy", "at least 3"),
        ("train negative_labels.npz --class-conditional", "-1..57"),
        ("train few_labels.npz", "one integer an image"),
        ("train other_sizes.npz", "shape"),
        ("train half.npz", "cannot be read"),
        ("train nothing.npz", "cannot be read"),
        ("train table.csv", "neither a .npy nor a .npz"),
        ("train empty", "no pictures"),
        ("train alpha", "transparent"),
        ("train deep", "8 bits"),
        ("train mixed", "--size"),
        ("train mnist --data-dir nowhere", "nowhere does not exist"),
        ("train --resume nowhere", "no run folder"),
        ("train --resume bits.npz", "no run folder"),
        ("train --resume empty", "no run folder"),
        ("train --resume run --epochs 3", "--epochs"),
        ("train --resume run bits.npz", "keeps its data"),
        ("evaluate", "Missing argument"),
        ("evaluate nowhere", "no saved model"),
        ("evaluate run codes.npy", "512 levels"),
        ("evaluate run pictures", "channels"),
        ("evaluate run --levels 4", "for data that are named"),
        ("complete run --size 3 --fit resize", "for data that are named"),
        ("evaluate run --split tset", "train, valid or test"),
        ("evaluate run --limit -1", "limit"),
        ("evaluate run --device xpu", "cpu, cuda or mps"),
        ("evaluate run --json empty", "folder"),
        ("sample run -n 0", "greater than or equal to 1"),
        ("sample run --class 3", "0..2"),
        ("sample run --class -1", "0..2"),
        ("sample run --class ²", "0..2"),
        ("sample run --class all", "'each'"),
        ("sample run --temperature -1", "temperature"),
        ("sample run --top-k -1", "top_k"),
        ("sample run --batch-size 0", "batch_size"),
        ("sample run -n 99999999999", "draw fewer at a time"),
        ("sample run --out a.jpg", ".png"),
        ("sample run --out table.csv/a.png", "cannot be written"),
        ("complete run --rows 6", "between 1 and 5"),
        ("complete run --rows -1", "between 1 and 5"),
        ("complete run --fills 0", "greater than or equal to 1"),
        ("complete run --out a.jpg", ".png"),
        ("complete run digits", "17 levels"),
        ("check pixlcnn", "Did you mean 'pixelcnn'"),
        ("check pixelcnn --levels 100000000", "less than or equal"),
        ("info nowhere", "no saved model"),
        ("config show nowhere", "no run folder"),
        ("config init bits.npz", "exists already"),
        ("config shw", "Did you mean 'show'"),
        ("data fetch mnits", "Did you mean 'mnist'"),
        ("data verify mnits", "Did you mean 'mnist'"),
        ("data lst", "Did you mean 'list'"),
        ("push run", "Missing argument"),
        ("push nowhere me/model", "no saved model"),
        ("demo --epochs -1", "greater than or equal to 0"),
        ("demo --out bits.npz", "cannot be written"),
        ("trian bits.npz", "Did you mean 'train'"),
        ("--verson", "--verson"),
    ],
)
def test_a_mistake_gives_one_sentence_and_status_2(nextpixel, folder, line, says):
    ended = nextpixel(*line.split())
    assert ended.status == 2, ended.err
    assert says in ended.error()
    assert ended.out == ""


@pytest.mark.parametrize(
    "flags",
    [
        ["--seed", "-1"],
        ["--threads", "-1"],
        ["--learning-rate", "nan"],
        ["--learning-rate", "inf"],
        ["--weight-decay", "nan"],
        ["--warmup-steps", "-1"],
        ["--gradient-clip", "-1"],
        ["--valid-images", "-1"],
        ["--max-minutes", "-1"],
        ["--option", "layers=0"],
    ],
    ids=" ".join,
)
def test_absurd_training_options_are_refused(nextpixel, folder, flags):
    ended = nextpixel("train", "bits.npz", *TINY, "--run", "absurd", *flags)
    assert ended.status == 2
    assert "unforeseen" not in ended.error()


def test_a_run_that_failed_before_its_first_step_leaves_its_folder_to_the_next(nextpixel, folder, monkeypatch):
    import nextpixel.tasks.training as training

    def fails(*arguments: object, **options: object) -> None:
        raise RuntimeError("a fault of ours\nwith details")

    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", fails)
        ended = nextpixel("train", "bits.npz", "--run", "again", *TINY)
        assert ended.status == 1
        assert "a fault of ours)" in ended.error()
        assert "--debug" in ended.err
    assert nextpixel("train", "bits.npz", "--run", "again", *TINY).status == 0


def test_json_to_standard_output_is_alone_there(nextpixel, folder):
    for line in ("evaluate run", "check pixelcnn", "families", "complete run -n 2 --rows 3", "info run"):
        ended = nextpixel(*line.split(), "--json", "-")
        assert ended.status == 0, ended.err
        assert json.loads(ended.out)
        assert "│" in ended.err  # the table
    assert not Path("-").exists()
    assert "│" in nextpixel("evaluate", "run", "--limit", "2").out


def test_ctrl_c_during_the_imports_shows_no_traceback():
    code = "import sys, nextpixel.cli as cli\nclass Stop:\n def find_spec(self, name, *more):\n"
    code += "  if name == 'nextpixel.cli.app': raise KeyboardInterrupt\nsys.meta_path.insert(0, Stop())\ncli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Stopped.\n")


def test_the_examples_of_the_help_work_as_they_stand(nextpixel, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    apps = {"": app, "data ": data.app, "config ": inspect.config_app}
    given = {
        group + (one.name or one.callback.__name__): one.epilog
        for group, members in apps.items()
        for one in members.registered_commands
    }
    assert all(text.startswith("Example: nextpixel ") for text in given.values())
    cheap = [
        "evaluate",
        "sample",
        "complete",
        "score",
        "freeze",
        "compress",
        "decompress",
        "verify",
        "info",
        "families",
    ]
    cheap += ["models", "data list", "data verify", "data codes", "explain"]
    for name in cheap:  # the others train, serve, or need a network; those after an example come after it
        line = given[name].removeprefix("Example: nextpixel ").partition(", after ")[0]
        if name == "complete":
            line += " -n 1 --particles 4"
        ended = nextpixel(*line.split())
        assert ended.status == 0, (line, ended.err)


def test_debug_shows_the_traceback(folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["nextpixel", "info", "nowhere", "--debug"])
    with pytest.raises(ValueError, match="no saved model"):
        cli.main()


def test_pictures_that_cannot_be_read_are_counted_and_skipped(nextpixel, folder):
    ended = nextpixel("train", "damaged", "--levels", "4", "--run", "skipping", *TINY)
    assert ended.status == 0
    assert "Warning: 3 of 15 pictures in damaged were skipped" in ended.err
    assert ".py" not in ended.err  # no line of source code beside the warning


def test_a_folder_of_classes_and_names_with_spaces_go_all_the_way(nextpixel, folder):
    run = "some runs/ünï [red] 1"
    ended = nextpixel("train", "pictures", "--class-conditional", "--levels", "8", "--run", run, *TINY)
    assert ended.status == 0
    assert f"nextpixel evaluate '{run}'" in ended.out  # can be pasted
    assert nextpixel("evaluate", run, "--json", "new folder/card.json").status == 0
    assert run in nextpixel("info", run).out
    assert json.loads(Path("new folder/card.json").read_text())["images"] > 0
    assert nextpixel("sample", run, "-n", "4", "--class", "each", "--out", "new folder/s.png").status == 0
    assert nextpixel("complete", run, "-n", "1", "--fills", "1", "--out", "pages/c.png").status == 0
    assert Path("pages/c.png").is_file()
    assert Path("new folder/s.png").is_file()


def test_codes_of_512_values_with_learned_embedding(nextpixel, folder):
    assert nextpixel("train", "codes.npy", "--embedding", "learned", "--run", "codes", *TINY).status == 0
    assert nextpixel("sample", "codes", "-n", "2", "--out", "codes-drawn.npy").status == 0
    assert np.load("codes-drawn.npy").shape == (2, 1, 4, 4)


def test_results_go_to_standard_output_and_the_rest_to_standard_error(nextpixel, folder):
    ended = nextpixel("evaluate", "run")
    assert ended.status == 0
    assert "bits/dim" in ended.out
    assert ended.err == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epoch: 3", "Did you mean 'epochs'"),
        ("epochs: 1\nseed: [1", "is not YAML, line 2: "),
        ("- 1", "must hold lines"),
        ("", "must hold lines"),
        ("epochs: ten", "integer"),
        ("epochs: [1, 2]", "integer"),
        ("optimizer: adam", "'adamw'"),
        ("class_conditional: perhaps", "boolean"),
        ("option: 3", "name=value"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_mistake_in_a_config_file_gives_one_sentence(nextpixel, folder, text, says):
    Path("c.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    ended = nextpixel("train", "bits.npz", "--config", "c.yaml")
    assert ended.status == 2
    assert says in ended.error()


def test_a_config_file_is_read_as_it_is_written(nextpixel, folder):
    lines = [
        "learning_rate: 1e-3",
        "binarise: no",
        "epochs: 7",
        "class-conditional: yes",
        "option: features=6",
        "head:",
    ]
    Path("c.yaml").write_text("\n".join(lines))
    assert nextpixel("train", "bits.npz", "--config", "c.yaml", "--epochs", "1", "--run", "made").status == 0
    recorded = yaml.safe_load(Path("made/config.yaml").read_text())
    assert (recorded["train"]["learning_rate"], recorded["train"]["epochs"]) == (1e-3, 1)
    assert recorded["model"]["options"]["features"] == 6
    assert recorded["model"]["classes"] == 3
    assert "learning_rate: 0.001" in nextpixel("config", "show", "made").out


def test_the_file_that_config_init_writes_is_accepted_unchanged(nextpixel, folder):
    assert nextpixel("config", "init", "new/c.yaml").status == 0
    assert nextpixel("train", "bits.npz", "--config", "new/c.yaml", "--run", "from-file", *TINY).status == 0


def replace_in(path: str, **values: object) -> None:
    """Change keys of a YAML or JSON file; None takes a key away."""
    file = Path(path)
    content = {**yaml.safe_load(file.read_text()), **values}
    kept = {key: value for key, value in content.items() if value is not None}
    file.write_text(json.dumps(kept))  # JSON is YAML


def each_checkpoint(spoil):
    for path in list(Path("run/checkpoints").glob("*.ckpt")):
        spoil(path)


DAMAGE = {
    "checkpoints are junk": (lambda: each_checkpoint(lambda path: path.write_bytes(b"junk")), "is damaged"),
    "checkpoints are empty": (lambda: each_checkpoint(lambda path: path.write_bytes(b"")), "is damaged"),
    "checkpoints are torn": (lambda: each_checkpoint(lambda path: os.truncate(path, 5000)), "is damaged"),
    "checkpoints are missing": (lambda: each_checkpoint(Path.unlink), "no checkpoint"),
    "config is no YAML": (lambda: Path("run/config.yaml").write_text("a: [1"), "not YAML"),
    "config is empty": (lambda: Path("run/config.yaml").write_text(""), "is damaged"),
    "config is newer": (lambda: replace_in("run/config.yaml", format_version=9), "this version"),
    "config lacks the data": (lambda: replace_in("run/config.yaml", data=None), "'data' is missing"),
    "config lacks the model": (lambda: replace_in("run/config.yaml", model=None), "'model' is missing"),
    "config has other data": (
        lambda: replace_in("run/config.yaml", data={"source": "bits.npz", "levels": "x"}),
        "levels",
    ),
    "config has a foreign option": (lambda: replace_in("run/config.yaml", train={"speed": 1}), "speed"),
    "data changed": (
        lambda: np.savez("bits.npz", images=np.zeros((60, 6, 5), int), labels=np.arange(60) % 3),
        "new run",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_not_resumed_and_not_touched(nextpixel, folder, damage):
    spoil, says = DAMAGE[damage]
    spoil()
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file() and path.name != ".lock"}
    ended = nextpixel("train", "--resume", "run")
    assert ended.status == 2
    assert says in ended.error()
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize("metrics", [b"\xff\xfe", b"", b'{"step": 1, "train": 2.0}\nxx\n3\n{"a": 1}\n{"st'])
def test_damaged_metrics_do_not_matter(nextpixel, folder, metrics):
    Path("run/metrics.jsonl").write_bytes(metrics)
    ended = nextpixel("train", "--resume", "run")
    assert ended.status == 0
    assert "is finished" in ended.err


def without_a_tensor() -> None:
    weights = load_file("run/model/model.safetensors")
    weights.pop(min(weights))
    save_file(weights, "run/model/model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without_a_tensor, "lacks tensor"),
        (lambda: os.truncate("run/model/model.safetensors", 900), "damaged"),
        (lambda: Path("run/model/model.safetensors").unlink(), "is missing"),
        (lambda: Path("run/model/config.json").write_text("{"), "damaged"),
        (lambda: replace_in("run/model/config.json", format_version=7), "install a newer"),
        (lambda: replace_in("run/model/config.json", family="unheard"), "no model family"),
        (lambda: shutil.rmtree("run/model"), "--resume run"),
    ],
)
@pytest.mark.parametrize("command", ["info", "sample"])
def test_a_damaged_model_gives_one_sentence(nextpixel, folder, spoil, says, command):
    spoil()
    ended = nextpixel(command, "run")
    assert ended.status == 2
    assert says in ended.error()


def test_two_processes_cannot_train_in_one_folder(nextpixel, folder):
    pytest.importorskip("fcntl")
    code = "import fcntl\nf = open('run/checkpoints/.lock', 'w')\nfcntl.lockf(f, fcntl.LOCK_EX)\n"
    code += "print('held', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        ended = nextpixel("train", "--resume", "run")
        assert ended.status == 2
        assert "Another process" in ended.error()
        other.communicate("\n")
    assert nextpixel("train", "--resume", "run").status == 0


def start(*arguments: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        # Programs that a script starts in the background are deaf to Ctrl-C, and hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_how_to_go_on_and_does(nextpixel, folder, sent):
    flags = ["--epochs", "100000", "--option", "layers=2", "--option", "features=6", "--run", "long"]
    with start("train", "bits.npz", *flags) as program:
        until = time.monotonic() + 60
        while not Path("long/metrics.jsonl").exists() and time.monotonic() < until:
            time.sleep(0.1)
        program.send_signal(sent)
        _, err = program.communicate(timeout=60)
    assert program.returncode == 130, err
    assert "Traceback" not in err
    assert "nextpixel train --resume long" in err
    resumed = nextpixel("train", "--resume", "long", "--max-minutes", "0.001")
    assert resumed.status == 0  # a stop that was asked for beforehand
    assert "--resume long" in resumed.err


def test_ctrl_c_ends_with_one_word_elsewhere(folder):
    with start("sample", "run", "-n", "100000") as program:
        program.stderr.readline()  # of its progress
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=60)
    assert (program.returncode, err.splitlines()[-1]) == (130, "Stopped.")
    assert "Traceback" not in err
    assert not Path("samples.png").exists()


def shell(line: str, **environment: str) -> subprocess.CompletedProcess:
    line = re.sub(r"\bnextpixel\b", f"'{sys.executable}' -m nextpixel", line)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, env=environment)


def test_a_closed_pipe_is_no_error(folder):
    done = shell("nextpixel families | head -1")
    assert done.stdout.strip() == "Families"
    assert done.stderr == ""


def test_a_terminal_that_knows_only_ascii_gets_its_table(folder):
    done = shell("nextpixel evaluate run", PYTHONIOENCODING="ascii", COLUMNS="40", NO_COLOR="1")
    assert done.returncode == 0
    assert "bits/dim" in done.stdout
    assert done.stdout.isascii()


def test_standard_input_and_output_may_be_closed(folder):
    assert shell("nextpixel families <&- >&-").returncode == 0


def test_an_upload_without_network_gives_one_sentence(nextpixel, folder, monkeypatch):
    from nextpixel import ImageModel

    def fails(*arguments: object, **options: object) -> None:
        raise OSError("[Errno -2] Name or service not known")

    monkeypatch.setattr(ImageModel, "push_to_hub", fails)
    ended = nextpixel("push", "run", "me/model")
    assert ended.status == 2
    assert "network" in ended.error()


def test_the_published_sets_can_be_read(nextpixel, folder):
    shared = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    if not shared.is_dir():
        pytest.skip("the published data sets are not here")
    ended = nextpixel("data", "verify", "mnist", "--data-dir", shared)
    assert ended.status == 0
    assert "as published" in ended.out
    flags = ["--data-dir", shared, "--max-minutes", "0.001", "--run", "on-mnist", "--option", "layers=2"]
    ended = nextpixel("train", "mnist", "--binarise", "dynamic", *flags)
    assert ended.status == 0
    assert "55,000 images of 1x28x28, 2 levels" in ended.err


def test_freeze_writes_a_model_that_the_other_commands_take(nextpixel, folder):
    ended = nextpixel("freeze", "run", "bits.npz", "--out", "made/frozen", "--json", "frozen.json")
    assert ended.status == 0, ended.err
    told = json.loads(Path("frozen.json").read_text())
    assert told["form"] == "float32"
    assert told["identity"] == load("made/frozen").identity
    assert told["identity"] in ended.out
    assert abs(told["cost_percent"]) < 0.1
    evaluated = nextpixel("evaluate", "made/frozen", "bits.npz")
    assert evaluated.status == 0, evaluated.err
    assert nextpixel("sample", "made/frozen", "-n", 3, "--class", "each").status == 0
    assert nextpixel("info", "made/frozen").status == 0
    assert "already" in nextpixel("freeze", "made/frozen").error()
    assert "int8" in nextpixel("freeze", "run", "--form", "int8").error()
    assert nextpixel("freeze", "run", "--out", "two.npy").status == 2


def test_freezing_overwrites_nothing(nextpixel, folder):
    assert nextpixel("freeze", "run").status == 0
    for taken in ("frozen", "run", "run/model", "bits.npz"):
        assert f"{taken} is there already" in nextpixel("freeze", "run", "--form", "float64", "--out", taken).error()
    assert load("frozen").formats.form == "float32"


def test_freeze_offers_tuning_and_does_it(nextpixel, folder, monkeypatch):
    monkeypatch.setattr("nextpixel.exact.freezing.TOLERATED", -100.0)  # nothing is cheap enough
    monkeypatch.setattr("nextpixel.cli.freeze.TOLERATED", -100.0)
    ended = nextpixel("freeze", "run", "bits.npz", "--out", "frozen", "--json", "frozen.json")
    assert ended.status == 0, ended.err
    assert json.loads(Path("frozen.json").read_text())["form"] == "float64"
    assert "float32 form is faster" in ended.out
    assert "--tune" in ended.out
    assert "--tune" in nextpixel("freeze", "run", "bits.npz", "--form", "float32", "--out", "shorter").out
    ended = nextpixel("freeze", "run", "--tune", 2, "--limit", 3, "--out", "tuned", "--json", "tuned.json")
    assert ended.status == 0, ended.err
    told = json.loads(Path("tuned.json").read_text())
    assert told["form"] == "float32"
    assert told["tuning"]["steps"] == 2
    assert told["identity"] == load("tuned").identity
    assert "without tuning" in ended.out
    assert "--tune" in nextpixel("freeze", "run", "bits.npz", "--tune", "-1").error()
    assert "int8" in nextpixel("freeze", "run", "bits.npz", "--tune", 1, "--form", "int8", "--out", "x").error()
    assert nextpixel("freeze", "run", "codes.npy", "--tune", 1, "--out", "x").status == 2


def test_pictures_of_a_folder_are_not_drawn_over(nextpixel, folder):
    (folder / "mine").mkdir()
    (folder / "mine/00001.png").write_bytes(b"a photograph")
    ended = nextpixel("sample", "run", "-n", 3, "--out", "mine")
    assert "mine/00001.png is there already" in ended.error()
    assert [path.name for path in (folder / "mine").iterdir()] == ["00001.png"]
    assert (folder / "mine/00001.png").read_bytes() == b"a photograph"


def test_what_a_decoder_must_know_of_a_family_is_told(nextpixel, tmp_path):
    """docs/format.md: the order of coding follows from the schedules."""
    assert nextpixel("families", "--json", tmp_path / "f.json").status == 0
    told = json.loads((tmp_path / "f.json").read_text())
    assert {name for name, one in told.items() if "wavefront" in one["schedules"]} == {"local", "pixelcnn", "row_lstm"}
