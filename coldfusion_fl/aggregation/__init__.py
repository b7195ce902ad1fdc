"""From contributions to the next base: screening, server optimizers, compression, and the pipeline that joins them."""
