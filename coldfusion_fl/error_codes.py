"""The reasons of errors: a code each, with its meaning and what to do."""

from enum import StrEnum
from typing import Self


class ErrorCode(StrEnum):
    """The reasons of errors, for tests, logs and documentation.

    Attributes:
        meaning: what is wrong, as a sentence.
        remedy: what to do, as a sentence.
    """

    meaning: str
    remedy: str

    def __new__(cls, code: str, meaning: str = "", remedy: str = "") -> Self:
        """A reason with its sentences; its value is the code alone."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning, member.remedy = meaning, remedy
        return member

    # Settings and components.
    SETTING_UNKNOWN = (
        "setting-unknown",
        "A file, a table or a command has a setting or an engine that does not exist.",
        "Use the name that the message suggests.",
    )
    SETTING_MISSING = (
        "setting-missing",
        "A setting or an option that is required is missing or empty.",
        "Add it.",
    )
    SETTING_INVALID = (
        "setting-invalid",
        "A value has another type than the setting, or is out of range.",
        "Use a value within the limits that the message names.",
    )
    SETTINGS_CONFLICT = (
        "settings-conflict",
        "Two settings or options contradict each other.",
        "Change one of the two that the message names.",
    )
    SETTINGS_FILE = (
        "settings-file",
        "A settings file does not exist, cannot be read, or is not TOML in UTF-8.",
        "Check the path, or repair the line that the message names.",
    )
    PRESET_UNKNOWN = (
        "preset-unknown",
        "`preset` names a recipe that does not exist.",
        "Use one of the presets that the message lists.",
    )
    COMPONENT_UNKNOWN = (
        "component-unknown",
        "`fusion`, `server-optimizer`, `screening` or an attack names a component that does not exist.",
        "Use a name that the message suggests or lists.",
    )
    COMPONENT_INVALID = (
        "component-invalid",
        "The text of a component is not `name(key=value)`, or a parameter is unknown or out of range.",
        "Correct the parameter that the message names.",
    )
    EXTRA_MISSING = (
        "extra-missing",
        "A setting or a base needs a package that is not installed.",
        "Run the `pip install` command of the message.",
    )
    FLOWER_UNSUPPORTED = (
        "flower-unsupported",
        "The installed version of Flower lacks something that a command needs.",
        "Install a version that docs/start/install.md names.",
    )
    GPU_MISSING = (
        "gpu-missing",
        "`simulation.gpus` is above 0, but PyTorch finds no GPU.",
        "Set it to 0, or install a CUDA build of PyTorch.",
    )
    # Catalogues and tasks.
    CATALOGUE_INVALID = (
        "catalogue-invalid",
        "A catalogue cannot be read, or an entry in it is not valid.",
        "Correct the key or the table that the message names.",
    )
    TASK_UNKNOWN = (
        "task-unknown",
        "No catalogue has a task of this name.",
        "Use the name that the message suggests; `coldfusion tasks` lists all tasks.",
    )
    # Rows.
    DATA_MISSING = (
        "data-missing",
        "A file or a folder of rows does not exist, or a data set of the Hub cannot be loaded.",
        "Check the path and `data-root`. Offline, use local files.",
    )
    DATA_UNREADABLE = (
        "data-unreadable",
        "A file of rows is empty, damaged, or written in a way that the catalogue does not say.",
        "Set the key of the catalogue that the message names, or repair the file.",
    )
    COLUMN_MISSING = (
        "column-missing",
        "The rows do not have a column that the task needs.",
        "Set `text` and `label` to the names of the columns, or `header` for a file without names.",
    )
    SPLIT_EMPTY = (
        "split-empty",
        "A split has no rows, or too few of them.",
        "Add rows, or check which rows the message says were left out.",
    )
    SPLITS_OVERLAP = (
        "splits-overlap",
        "The same source is the train split and another split.",
        "Remove the other split from the catalogue; it is then split off the train rows.",
    )
    LABELS_INVALID = (
        "labels-invalid",
        "Labels are missing, unknown, of one class only, or not numbers where numbers are needed.",
        "Check `label`, `labels` and `metric` of the task.",
    )
    PACKAGE_MISSING = (
        "package-missing",
        "A `package:` path names a package that is not installed.",
        "Run the `pip install` command of the message.",
    )
    # The Hugging Face Hub.
    HUB_UNREACHABLE = (
        "hub-unreachable",
        "The Hub does not answer, or `HF_HUB_OFFLINE` is set, and the cache lacks a data set or model.",
        "Load it once with a connection, or use local files.",
    )
    HUB_ACCESS = (
        "hub-access",
        "A repository of the Hub is gated, or the Hub rejects the token of this machine.",
        "Ask for access on the page that the message names, then run `hf auth login`.",
    )
    HUB_CONFLICT = (
        "hub-conflict",
        "A repository of the Hub holds another model, or a tag of it another round, than those to be sent.",
        "Choose another repository, or replace its model with `--replace`.",
    )
    HUB_UPLOAD = (
        "hub-upload",
        "The Hub did not take what was sent, or the connection ended.",
        "Give the same command again: what has arrived is not sent again.",
    )
    PATHS_PUBLISHED = (
        "paths-published",
        "A file that is to be published names a path of this machine.",
        "Remove the path from the file that the message names.",
    )
    # Models.
    MODEL_MISSING = (
        "model-missing",
        "The base, or a file of it, is not there.",
        "Check the path. Offline, use a local folder or `package:PATH`.",
    )
    MODEL_LINK = (
        "model-link",
        "A link in a model folder leads out of the folder.",
        "Copy the file itself in place of the link, or remove the link.",
    )
    MODEL_INVALID = (
        "model-invalid",
        "A file of the base is damaged, or its files do not belong together.",
        "Save the model and the tokenizer again with `save_pretrained`.",
    )
    MODEL_UNSUPPORTED = (
        "model-unsupported",
        "The base is not an encoder of texts whose weights can be trained and fused.",
        "Use an encoder such as BERT, RoBERTa, DeBERTa or ModernBERT.",
    )
    # Arrays.
    ARRAYS_MISMATCH = (
        "arrays-mismatch",
        "Arrays do not have the names, shapes and types of the encoder, or have values that are not finite.",
        "Use the arrays of the same base; see which name the message gives.",
    )
    TRAINING_DIVERGED = (
        "training-diverged",
        "A loss, a weight or a prediction is not a finite number.",
        "Lower the learning rate, or check the weights of the base.",
    )
    FUSION_FAILED = (
        "fusion-failed",
        "The operator cannot fuse these contributions, or its result is not finite.",
        "See the reasons in the log; use a robust operator or `screening`.",
    )
    COMPRESSION_INVALID = (
        "compression-invalid",
        "A compressed contribution cannot be decoded.",
        "Use the same version of this package on every machine.",
    )
    # Run folders.
    RUN_FOLDER_IN_USE = (
        "run-folder-in-use",
        "The folder for a new run is a file, is not empty, or holds another run.",
        "Choose another folder with `--out`, or resume the run with `--resume`.",
    )
    RUN_FOLDER_INVALID = (
        "run-folder-invalid",
        "The folder is not a run folder, or lacks the arrays that are needed.",
        "Give the folder of a run, which contains run.json.",
    )
    RUN_FOLDER_DAMAGED = (
        "run-folder-damaged",
        "A file of the run is missing, or its content is not what was written.",
        "Follow the advice of the message: remove the rounds that it names, or restore the file.",
    )
    SIGNATURE_INVALID = (
        "signature-invalid",
        "A run folder is not signed with the given key, or is not as it was when it was signed.",
        "Find out who changed what the message names. If the run went on since, sign it again.",
    )
    RUN_LOCKED = (
        "run-locked",
        "Another process works on the run.",
        "Wait until it has ended, or end it.",
    )
    RUN_CHANGED = (
        "run-changed",
        "The run was started with other settings or another model.",
        "Restore the settings that the message lists, or start a new run.",
    )
    DISK_FULL = (
        "disk-full",
        "The disk is full, or a run would need more than is free.",
        "Free some space, choose another folder, or set `server.keep-last`.",
    )
    DISK_ERROR = (
        "disk-error",
        "The disk cannot be written.",
        "Check the permissions and the file system.",
    )
    # The machine.
    MEMORY_SHORT = (
        "memory-short",
        "Memory ran out in the check before a run.",
        "Lower `finetune.batch-size` or `finetune.max-length`.",
    )
    # Federations over a network.
    FEDERATION_INVALID = (
        "federation-invalid",
        "The folder of a federation cannot be read, or a name or an address is not valid.",
        "Give the folder that `coldfusion federation init` created.",
    )
    MEMBER_INVALID = (
        "member-invalid",
        "The folder of a member cannot be read, or exists already.",
        "Follow the message; the server's administrator creates the folder.",
    )
    MEMBER_UNKNOWN = (
        "member-unknown",
        "A name is not a member of the federation.",
        "Use a name that the message suggests or lists, or add the member.",
    )
    CERTIFICATE_INVALID = (
        "certificate-invalid",
        "A certificate cannot be read, or is not valid for the server's address.",
        "Check the file; `coldfusion federation renew` creates a new one.",
    )
    CERTIFICATE_EXPIRED = (
        "certificate-expired",
        "A certificate has expired, or is not valid yet by the clock of this machine.",
        "Check the clock. `coldfusion federation renew` creates a new certificate for the server.",
    )
    KEY_UNKNOWN = (
        "key-unknown",
        "The server does not know the key of a member.",
        "The administrator adds the member with `coldfusion federation add`.",
    )
    KEY_EXPOSED = (
        "key-exposed",
        "Other users of the machine can read the file of a private key.",
        "Run the `chmod` command of the message. If others may have read the key, replace it.",
    )
    MEMBER_REMOVED = (
        "member-removed",
        "The server had admitted a member, and no longer does.",
        "Ask the server's administrator. A removed key is never admitted again.",
    )
    KEY_INVALID = (
        "key-invalid",
        "A key cannot be read or used, is not on an elliptic curve, or belongs to another member.",
        "Create one with `ssh-keygen -t ecdsa -b 384`.",
    )
    SERVER_UNREACHABLE = (
        "server-unreachable",
        "The server of the federation does not answer.",
        "Start it with `coldfusion federation serve`, and check the address and the port.",
    )
    SERVER_REJECTED = (
        "server-rejected",
        "The server of the federation rejected a request.",
        "Follow the reason in the message.",
    )
    PORT_IN_USE = (
        "port-in-use",
        "A port is in use, or cannot be used.",
        "End the program that uses it, or choose another port.",
    )
    PROCESS_LEFT = (
        "process-left",
        "A process of an earlier start of the server or the member is still running.",
        "End the process whose number the message gives.",
    )
    NOT_RUNNING = (
        "not-running",
        "A health check found that a server or a member does not run, or does not answer.",
        "Start it, and read its log if it ends again.",
    )
    # Runs.
    TOO_FEW_CONTRIBUTORS = (
        "too-few-contributors",
        "Fewer contributors than `min-contributions` can take part.",
        "Start more nodes, lower `min-contributions` or raise `max-rejections`.",
    )
    NOTHING_FUSED = (
        "nothing-fused",
        "The run ended, but no round fused anything.",
        "See the rejections and their reasons with `coldfusion log`.",
    )
    WORKERS_FAILED = (
        "workers-failed",
        "Processes that train or score cannot start, or were killed.",
        "Check the memory. A higher `simulation.cpus` runs fewer workers at a time, and a lower "
        "`finetune.batch-size` needs less memory in each.",
    )
    RUN_FAILED = (
        "run-failed",
        "A run started and failed for another reason.",
        "See the reason and the run's log.txt.",
    )
