"""Which class an image is of: logits ``(N, K)``, accuracy, the confusion matrix."""
