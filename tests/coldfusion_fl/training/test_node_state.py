"""What a node keeps of a run on its disk."""

import numpy as np

from coldfusion_fl.training.node_state import BASE, NodeFiles


def test_a_run_that_is_resumed_at_an_earlier_round_replaces_later_files(tmp_path):
    files = NodeFiles(tmp_path)
    for number in (2, 5, 3):
        files.save(BASE, number, {"w": np.full(2, number, np.float32)}, kept=1)
    assert files.newest_round(BASE) == 3
    assert files.load(BASE)["w"].tolist() == [3, 3]
    assert len(list(tmp_path.iterdir())) == 1
