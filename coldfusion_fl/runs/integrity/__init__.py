"""Whether a run folder is whole and as it was written: its list of hashes, signatures, and what is lost or strange."""
