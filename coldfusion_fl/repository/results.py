"""What a run folder has beside its rounds: the model, its card, and the report."""

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.model.base import Base
from coldfusion_fl.model.export import save_model
from coldfusion_fl.model.origin import read_origin
from coldfusion_fl.pages.run_page import write_page_of_finished_run
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.model_card import Which, model_card
from coldfusion_fl.runs.report import write_report


def write_results(ledger: Ledger, base: Base, average: Encoder | None) -> None:
    """Write the result as `model`, the last base beside it where it is another encoder, and the report.

    Args:
        ledger: the run; its rounds are saved.
        base: the base that the run began with, whose files are carried over.
        average: the result, where the moving average of the bases is the result; None: the last base is.

    Raises:
        RunFolderError: the disk is full or cannot be written, or the last base is damaged.
    """
    last_base = ledger.load_base(ledger.rounds()[-1])
    models = {"model": last_base} if average is None else {"model": average, "last-base": last_base}
    origin = read_origin(base)
    for name, encoder in models.items():
        which: Which = "result" if name == "model" else "last-base"
        with ledger.writing(name) as folder:
            save_model(base, encoder, folder)
            card = model_card(ledger, encoder_hash(encoder), origin, which)
            (folder / "README.md").write_text(card, encoding="utf-8")
    write_report(ledger)
    write_page_of_finished_run(ledger)
