"""Does the faster finetuning score as well? Five tasks, three seeds, against the Trainer with its default arguments.

    python -m coldfusion_fl.experiments.bench.training_scores RESULT.jsonl [SEED ...]

600 rows, three epochs (the Trainer's default), up to 2,000 test rows. Each line of the result is one training;
what is there already is not done again, and processes may share the file, with other seeds each.
"""

import json
import sys
from pathlib import Path

import torch

from coldfusion_fl.data.task import load_task
from coldfusion_fl.model.base import open_base
from coldfusion_fl.training.batches import tokenize
from coldfusion_fl.training.predict import predict

from .training import BASE, TASKS, WAYS, Work

# Way, learning rate, batch size: the Trainer's defaults; twice the batch at twice the learning rate (Goyal et al. 2017,
# arXiv 1706.02677); twice the batch at the same rate.
EXAMPLES = 600
TRIED = [("trainer", 5e-5, 8), ("ours", 1e-4, 16), ("ours", 5e-5, 16)]


def main() -> None:
    """Train, score and note what is not there yet."""
    file, seeds = Path(sys.argv[1]), [int(word) for word in sys.argv[2:]] or [0, 1, 2]
    torch.set_num_threads(1)
    base = open_base(BASE)
    for seed in seeds:
        for name in TASKS:
            task = load_task(name)
            test = task.test.draw(2000, [0])
            test_rows = tokenize(base.tokenizer, test, 128)
            for way, rate, size in TRIED:
                key = {"task": name, "seed": seed, "way": way, "learning-rate": rate, "batch-size": size}
                lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
                if any(key.items() <= json.loads(line).items() for line in lines):
                    continue
                examples = task.train.draw(EXAMPLES, [seed])
                work = Work(base, task, examples, epochs=3, seed=seed, learning_rate=rate, batch_size=size)
                model = work.model()
                WAYS[way](model, work)
                score = task.score_outputs(predict(model, base.tokenizer, test_rows), test.labels)
                line = json.dumps({**key, "score": round(score, 3)})
                with file.open("a", encoding="utf-8") as out:
                    out.write(line + "\n")
                print(line, flush=True)


if __name__ == "__main__":
    main()
