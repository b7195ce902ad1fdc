"""What a run records of its machine."""

import json
import platform

import psutil

from coldfusion_fl.machine import machine_facts
from coldfusion_fl.runs.ledger import Ledger


def test_the_facts_are_those_of_this_machine_without_its_name():
    facts = machine_facts()
    assert facts["memory-bytes"] == psutil.virtual_memory().total
    assert facts["cores"] >= 1
    assert facts["processor"]
    assert platform.node() not in json.dumps(facts)


def test_a_run_records_each_machine_that_it_moves_to(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    assert ledger.machines == []
    for processor in ("a", "a", "b"):
        ledger.note_machine({"processor": processor})
    assert [machine["processor"] for machine in Ledger(ledger.folder).machines] == ["a", "b"]
