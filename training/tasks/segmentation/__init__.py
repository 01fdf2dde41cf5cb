"""Which class each pixel is of: logits ``(N, H, W, K)``, mean intersection over union."""
