"""What the strategy adds to messages, and this package's clients answer with: keys, and the code of an error.

The prefix keeps them apart from a Flower project's own keys: a project's `seed` or `modes` is never overwritten.
"""

PREFIX = "coldfusion."
# In the ConfigRecord of a message: the number of the round, and the seed of the run.
ROUND = f"{PREFIX}round"
SEED = f"{PREFIX}seed"
# In the ConfigRecord of an evaluate message: the scores to compute, with commas between them.
MODES = f"{PREFIX}modes"
# In the ConfigRecord of a train message and of its reply: how the contribution is encoded.
COMPRESSION = f"{PREFIX}compression"
# In the ConfigRecord of a message of this package's server app: the hash of the arrays that it does not send, because
# finetuning does not change them and each node has them in its own base.
FROZEN_SHA256 = "frozen-sha256"
FREEZE = "finetune.freeze"
# A query has these two of a run's train messages: a node whose base has other frozen arrays answers with the problem.
QUERIED = (FROZEN_SHA256, FREEZE)
# In the MetricRecord of a round's training: the numbers of fused and of rejected contributions.
CONTRIBUTIONS, REJECTED = f"{PREFIX}contributions", f"{PREFIX}rejected"
# The code of the error that stands for a reply that cannot be read, or that the server of a federation rejected;
# Flower's own codes are below 100.
UNREADABLE_REPLY = 1000
