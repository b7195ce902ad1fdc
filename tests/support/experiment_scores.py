"""The scores of an experiment, without any training."""

from coldfusion_fl.experiments.scores import ScoreFile

ROLES = {"seen": ["a", "b"], "unseen": ["u", "v"]}


def make_scores(folder, base, gains, rounds=(1, 4), seeds=("1", "2")):
    """Frozen scores: those of the base by task, and what each recipe gains over them, which grows with the rounds."""
    made = ScoreFile(folder / "scores.json")
    scoring = {
        "split": "test",
        "finetune": {"examples": 9, "epochs": 2, "learning-rate": 1e-4, "batch-size": 16, "max-length": 48},
        "evaluate": {"shots": 5, "few-shot-epochs": 3, "few-shot-seeds": 1, "train-examples": 7, "test-examples": 8},
    }
    about = {"title": "T", "question": "Q?", "folds": [], "comparisons": [], "without": {}}
    about["base"] = {"model": "B", "catalogue": ["c"]}
    made.begin({**about, "scoring": scoring}, {name: {"about": "x", "settings": {}} for name in gains})
    made.facts["scores"] = {"base": {seed: {"0": {"frozen": dict(base)}} for seed in seeds}} | {
        name: {
            seed: {
                str(number): {
                    "frozen": {task: base[task] + points * number / rounds[-1] for task, points in found.items()}
                }
                for number in rounds
            }
            for seed in seeds
        }
        for name, found in gains.items()
    }
    made.facts["tasks"] = {task: {"metric": "accuracy", "head": "mean", "test-rows": 9} for task in base}
    made.facts["roles"] = {name: dict.fromkeys(seeds, ROLES) for name in ("base", *gains)}
    made.facts["making"] = {
        name: {"1": {"seconds": 120, "examples": 1000, "rejected": 2, "device": "CPU"}} for name in gains
    }
    made.write()
    return made
