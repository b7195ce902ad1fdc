"""Log a run to trackers: TensorBoard, MLflow, W&B and trackio. A new tracker is registered in `registry`."""
