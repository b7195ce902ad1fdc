"""The keys of a catalogue's task, and the tasks of the shipped catalogues."""

from functools import partial

from setting_entries import cell
from settings_parts import toml_only

from coldfusion_fl.data.catalogue import SHIPPED, TaskSpec, read_catalogues


def _tasks(catalogue: str) -> str:
    specs = read_catalogues([catalogue]).specs
    rows = "\n".join(f"| `{task}` | {cell(_source(spec))} | {spec.metric} |" for task, spec in specs.items())
    return f"| task | source | metric |\n|---|---|---|\n{rows}"


def _source(spec: TaskSpec) -> str:
    if spec.hub:
        return f"Hub: `{spec.hub}`" + (f", config `{spec.config}`" if spec.config else "")
    return f"package `{spec.requires}`" if spec.requires else f"folder `{spec.folder}`"


PARTS = {
    "keys of a task": partial(toml_only, TaskSpec, "task."),
    **{f"tasks of {name}": partial(_tasks, name) for name in SHIPPED},
}
