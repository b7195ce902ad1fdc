"""Comparing run folders."""


def same_rounds(one, other):
    """Both run folders hold the same rounds: bases to the byte, and scores."""

    def rounds(ledger):
        return [
            (
                number,
                {name: array.tobytes() for name, array in ledger.load_base(number).items()},
                ledger.load_scores(number),
            )
            for number in ledger.rounds()
        ]

    return rounds(one) == rounds(other)
