"""Saved models: a folder with config.json (what the model is), model.safetensors (its weights), README.md (its card).

Loading needs nothing else, executes nothing from the folder, and is strict: a missing weight, an unknown key or a newer
format is an error, not a guess. FORMAT_VERSION grows when an old reader would misunderstand a new file; a reader opens
all older versions by applying `MIGRATIONS` one after another.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import safetensors
import safetensors.torch
import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import nn

from nextpixel import durable
from nextpixel.errors import UserError, did_you_mean
from nextpixel.shipped import shipped, shipped_folder
from nextpixel.version import __version__

FORMAT_VERSION = 1
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From each older format version, the step to the next one."""

DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}
CONFIG, WEIGHTS, README = "config.json", "model.safetensors", "README.md"
OURS = (WEIGHTS, README, CONFIG)


class HubModel(nn.Module, PyTorchModelHubMixin):
    """`save_pretrained`, `from_pretrained` and `push_to_hub` for a model whose __init__ takes JSON values.

    `card` holds what is known about the model's making and figures; it is kept in config.json.
    """

    card: dict[str, Any]
    kind: ClassVar[str | None] = None
    """what config.json says under "model"; None, for an image model, says nothing there"""
    _own_keys: ClassVar = ("format_version", "library_name", "library_version", "dtype", "card", "model")

    def made_with(self) -> dict[str, Any]:
        """The arguments of __init__, and the kind of the model where it has one: what `make` takes."""
        arguments: Any = self._hub_mixin_config or {}
        return {**({} if self.kind is None else {"model": self.kind}), **arguments}

    @property
    def saved_dtype(self) -> str:
        """The type of number that a loaded model computes with."""
        return str(next(self.parameters()).dtype).removeprefix("torch.")

    def stored(self) -> dict[str, torch.Tensor]:
        """What model.safetensors holds, by name."""
        return self.state_dict()

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> Any:
        """Write the folder, aside first: if that fails (a full disk), what was there before is left as it was."""
        target = Path(save_directory).resolve()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.parent / f".{target.name}-{uuid.uuid4().hex}"
            aside.mkdir()
            try:
                self._save_pretrained(aside)
                self.generate_model_card().save(aside / README)
                for name in OURS:
                    durable.flush(aside / name)
                _swap_in(aside, target)
                durable.flush(target.parent)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(f"Could not save the model to {target} ({error}); what was there is unchanged.") from error
        if kwargs.pop("push_to_hub", False):
            return self.push_to_hub(repo_id=kwargs.pop("repo_id", None) or target.name, **kwargs)
        return None

    def _save_pretrained(self, save_directory: Path) -> None:
        config = {
            "format_version": FORMAT_VERSION,
            "library_name": "nextpixel",
            "library_version": __version__,
            "dtype": self.saved_dtype,
            "card": getattr(self, "card", {}),
            **self.made_with(),
        }
        (save_directory / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        weights = {name: tensor.contiguous() for name, tensor in self.stored().items()}
        # One metadata key only: with two or more the file would not be the same byte for byte every time.
        # Written as bytes: save_file would let nobody but the owner read the file, whatever the umask.
        (save_directory / WEIGHTS).write_bytes(safetensors.torch.save(weights, metadata={"format": "pt"}))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """A model from a saved folder, by a shipped name, or from the hub (by id; `revision=`, `token=`,
        `local_files_only=` as usual)."""
        files = _files(str(pretrained_model_name_or_path), kwargs)
        config = _read_config(files[0])
        if config.get("model") != cls.kind:
            raise UserError(
                f"{files[0]} says that it is {_words(config.get('model'))}, not {_words(cls.kind)}: "
                "open it with nextpixel.load."
            )
        return cls._opened(files, config)

    @classmethod
    def _opened(cls, files: tuple[Path, Path], config: dict[str, Any]) -> Self:
        if not isinstance(config.get("card", {}), dict):
            raise UserError(f"{files[0]}: the card must be a table of names and values.")
        known = list(inspect.signature(cls.__init__).parameters)[1:]
        for key in config:
            if key not in known and key not in cls._own_keys:
                raise UserError(f"{files[0]} has the unknown key {key!r}: it was not saved by this nextpixel.")
        try:
            model = cls(**{key: config[key] for key in known if key in config})
            model.to(DTYPES[config["dtype"]])
            model.card = config.get("card", {})
        except UserError:
            raise
        except Exception as error:  # whatever nonsense in a config brings about
            raise UserError(f"{files[0]} does not describe a model ({type(error).__name__}: {error}).") from error
        _load_weights(model, files[1])
        return model.eval()

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        from nextpixel.card import model_card

        return ModelCard(model_card(self))


def _swap_in(aside: Path, target: Path) -> None:
    """Put the finished folder in the place of the old one, so that at any moment a whole model is there; other files of
    the old one are kept."""
    if not target.exists():
        os.rename(aside, target)
        return
    if not target.is_dir():
        raise NotADirectoryError(f"{target} is a file")
    for other in target.iterdir():
        if other.name in OURS:
            continue
        if other.is_dir() and not other.is_symlink():
            shutil.copytree(other, aside / other.name, symlinks=True, copy_function=_link)
        else:
            _link(other, aside / other.name)
    if durable.exchange(aside, target):
        return
    # One file after another. In between there is a new one beside an old one: of the same model both can be read.
    for name in OURS:
        os.replace(aside / name, target / name)


def _link(source: str | Path, to: str | Path) -> None:
    """A second name for a file; a copy where the file system has no such thing."""
    try:
        os.link(source, to, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, to, follow_symlinks=False)


def _files(where: str, kwargs: dict[str, Any]) -> tuple[Path, Path]:
    folder = Path(where) if os.path.isdir(where) else shipped_folder(where)
    return _hub_files(where, kwargs) if folder is None else _local_files(folder)


def _local_files(folder: Path) -> tuple[Path, Path]:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder} holds no saved model: the file {name} is missing.")
    return folder / CONFIG, folder / WEIGHTS


def _hub_files(repo: str, kwargs: dict[str, Any]) -> tuple[Path, Path]:
    user, slash, name = repo.partition("/")
    if not slash or "/" in name or not name or user in ("", ".", "..", "~") or os.path.isdir(user):
        raise UserError(
            f"There is no saved model at {repo!r}: give a run or model folder, a hub id such as user/model, or one of "
            f"the names {', '.join(shipped())}." + did_you_mean(repo, shipped())
        )
    allowed = {
        k: v for k, v in kwargs.items() if k in ("revision", "token", "cache_dir", "force_download", "local_files_only")
    }
    try:
        config, weights = (hf_hub_download(repo, name, **allowed) for name in (CONFIG, WEIGHTS))
    except HFValidationError as error:
        raise UserError(
            f"There is no saved model at {repo!r}: give a folder, or a hub id such as 'user/model'."
        ) from error
    except LocalEntryNotFoundError as error:
        raise UserError(
            f"{repo!r} is no folder here, and the hub cannot be reached to look for a model of that id."
        ) from error
    except (EntryNotFoundError, HfHubHTTPError) as error:
        raise UserError(
            f"{repo!r} is no folder here and no nextpixel model on the hub ({type(error).__name__})."
        ) from error
    return Path(config), Path(weights)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(), parse_constant=lambda name: None)  # NaN, which is not JSON
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON: it is damaged, or not a model's config.") from error
    version = config.get("format_version") if isinstance(config, dict) else None
    if not isinstance(version, int):
        raise UserError(f"{path} has no format_version: it was not saved by nextpixel.")
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version}, this nextpixel {__version__} reads up to {FORMAT_VERSION}: "
            "install a newer nextpixel."
        )
    while version < FORMAT_VERSION:
        if version not in MIGRATIONS:
            raise UserError(f"{path} has format version {version}, which was never a released one.")
        config, version = MIGRATIONS[version](config), version + 1
    return config


def _load_weights(model: nn.Module, path: Path) -> None:
    try:
        weights = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} is damaged or no safetensors file ({error}).") from error
    wanted = model.state_dict()
    for problem, names in (
        ("lacks", wanted.keys() - weights.keys()),
        ("has the unknown", weights.keys() - wanted.keys()),
    ):
        if names:
            raise UserError(
                f"{path} {problem} tensor {min(names)!r} ({len(names)} in all): it belongs to another model."
            )
    for name, tensor in weights.items():
        if tensor.shape != wanted[name].shape:
            raise UserError(
                f"{path}: the tensor {name!r} has shape {list(tensor.shape)}, "
                f"the config asks for {list(wanted[name].shape)}."
            )
        if not torch.isfinite(tensor).all():
            raise UserError(f"{path}: the tensor {name!r} holds numbers that are not finite: the weights are damaged.")
    model.load_state_dict(weights, strict=True)


def load(model: str | Path, **kwargs: Any) -> Any:
    """A model from a run folder, a saved folder, a shipped name (`nextpixel.shipped()`), or a hub id; in eval mode.
    UserError says what is wrong."""
    path = Path(str(model))
    # os.path takes any text for a path: a name may be too long for the file system.
    if os.path.isfile(path / "model" / CONFIG):
        path = path / "model"
    elif os.path.isdir(path / "checkpoints") and not os.path.isfile(path / CONFIG):
        raise UserError(f"{model} is a run that has saved no model yet: go on with nextpixel train --resume {model}.")
    files = _files(str(path) if os.path.isdir(path) else str(model), kwargs)
    config = _read_config(files[0])
    return _class_of(config.get("model"), str(files[0]))._opened(files, config)


def make(arguments: dict[str, Any], source: str) -> Any:
    """A new model from what `made_with` gave, which was kept in `source`."""
    others = {name: value for name, value in arguments.items() if name != "model"}
    return _class_of(arguments.get("model"), source)(**others)


def _class_of(kind: object, source: str) -> type[HubModel]:
    from nextpixel.exact import ExactModel
    from nextpixel.image_model import ImageModel
    from nextpixel.multiscale import MultiScaleModel

    for known in (ImageModel, MultiScaleModel, ExactModel):
        if kind == known.kind:
            return known
    raise UserError(f"{source} says that it is {_words(kind)}, which this nextpixel {__version__} does not know.")


def _words(kind: object) -> str:
    return "an image model" if kind is None else f"a model of the kind {kind!r}"
