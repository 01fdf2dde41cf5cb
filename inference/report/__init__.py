"""A run as one page, ``report.html``.

page     collects what stands on the page, and writes it
charts   curves over the steps, as SVG
images   the first layer's kernels

What a task shows of an evaluation comes from its own `page` in `training.tasks`; the layout is
``html/report_page.html``. Imports `inference.html`, `inference.predictor` and `training.report`.
"""
